//! A recommender: item encoder, user encoder, inner product; and its folder on disk.

mod content;
pub mod folder;
mod recommender;

pub use content::Content;
pub use folder::ModelFolder;
pub use recommender::{Blueprint, Counts, Ids, Recommender, pick_device};
