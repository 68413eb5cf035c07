//! Items as text: a pre-trained transformer, pooling, projection.

pub mod bert;
mod encoder;
mod folder;
mod sentence;

pub use bert::{Bert, BertConfig};
pub use encoder::TextEncoder;
pub use folder::TextFolder;
pub use sentence::{SentenceEncoder, backbone};
