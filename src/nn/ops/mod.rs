//! The operations models are made of. Each has a fused CPU form with its own backward and a composed form.

mod activation;
mod attention;
mod combine;
pub mod composed;
mod conv;
mod dropout;
mod embed;
mod feed_forward;
mod in_batch;
mod linear;
mod norm;
mod pool;
mod recurrent;
mod sampled;

pub use activation::activation;
pub use attention::{AttentionSpec, attention};
pub use combine::{add, columns, running_mean, scale, unit, unit_rows};
pub use conv::{causal_conv, window_max, window_sums};
pub use dropout::dropout;
pub use embed::{HIDDEN, embed, gather, gather_or};
pub use feed_forward::feed_forward;
pub use in_batch::{InBatch, in_batch};
pub use linear::{linear, linears};
pub use norm::add_norm;
pub use pool::{Pooling, pool};
pub use recurrent::gru;
pub use sampled::{Contrast, Sampled, sampled};
