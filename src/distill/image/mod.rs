//! Pictures: any vision encoder as teacher, a small ViT as student, which sees them whole and in random parts.

mod corpus;
mod student;
mod task;

pub use corpus::ImageCorpus;
pub use task::ImageDistillation;
