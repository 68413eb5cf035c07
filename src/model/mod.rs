//! The recommender model: item encoder, user encoder, inner product; and its folder on disk.

pub mod adapter_folder;
mod base_model;
mod content;
pub mod export;
pub mod folder;
pub mod layout;
pub mod merge;
mod recommender;

pub use base_model::BaseModel;
pub use content::ItemContent;
pub use folder::ModelFolder;
pub use recommender::{Blueprint, Recommender, TableIds, TableSizes, parse_device};
