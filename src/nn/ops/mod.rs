//! The operations models are made of. Each has a fused CPU form with its own backward and a composed form.

mod activation;
mod attention;
pub mod composed;
mod dropout;
mod embed;
mod feed_forward;
mod in_batch;
mod linear;
mod norm;
mod pool;

pub use activation::activation;
pub use attention::{AttentionSpec, attention};
pub use dropout::dropout;
pub use embed::{embed, gather};
pub use feed_forward::feed_forward;
pub use in_batch::{InBatch, in_batch};
pub use linear::{linear, linears};
pub use norm::add_norm;
pub use pool::{Pooling, pool};
