//! Text distillation: a BERT or RoBERTa teacher and a smaller student of the same family with a pruned vocabulary.

pub mod corpus;
mod export;
mod student;
mod task;
mod teacher;
pub mod vocab;

pub use corpus::TextCorpus;
pub use task::TextDistillation;
