//! A recommender: item encoder, user encoder, inner product; and its folder on disk.

pub mod folder;
mod recommender;

pub use folder::ModelFolder;
pub use recommender::{Blueprint, Counts, Ids, Recommender, pick_device};
