//! Item encoders: the distinct items of a batch → (n, d).

mod batches;
mod block_names;
mod encoder;
mod encoder_folder;
pub mod features;
pub mod frozen_cache;
mod fused;
mod hidden_adapter;
pub mod id;
pub mod image;
mod k_adapter;
mod prompt;
mod side_tower;
mod table;
pub mod text;
pub mod token_cache;
mod tokens;

pub use batches::{BATCH_TOKENS, batches, compute_rows};
pub use block_names::block_of;
pub use encoder::ItemEncoder;
pub use encoder_folder::{EncoderFolder, Encoders};
pub use features::{Features, ModalityContent, ModalitySet};
pub use frozen_cache::{FrozenCache, FrozenDepth};
pub use fused::FusedEncoder;
pub use id::IdEncoder;
pub use image::ImageEncoder;
pub use table::ItemTable;
pub use text::TextEncoder;
pub use tokens::Tokens;
