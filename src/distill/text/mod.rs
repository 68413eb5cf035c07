//! Text: titles, a BERT or RoBERTa as teacher, a smaller one of the same family with a part of its vocabulary as student.

pub mod corpus;
mod export;
mod student;
mod task;
mod teacher;
pub mod vocab;

pub use corpus::TextCorpus;
pub use task::TextDistillation;
