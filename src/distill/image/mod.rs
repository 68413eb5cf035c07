//! Image distillation: any vision encoder as teacher, a small ViT student trained on whole images and random crops.

mod corpus;
mod student;
mod task;

pub use corpus::ImageCorpus;
pub use task::ImageDistillation;
