//! Operations that models consist of. Each has a fused CPU version with its own backward pass, and a composed version.

mod activation;
mod adapter;
mod attention;
mod batch_norm;
mod combine;
pub mod composed;
mod conv;
mod conv2d;
mod cross_attention;
mod dropout;
mod embed;
mod feed_forward;
mod in_batch;
mod linear;
mod norm;
mod pool;
mod recurrent;
mod sampled;
mod vision;
mod window;

pub use activation::activation;
pub use adapter::{Kronecker, add_to_columns, append_zero_row, gated_sum, kronecker, scale_columns, slice_columns};
pub use attention::{AttentionSpec, attention};
pub use batch_norm::batch_norm;
pub use combine::{
    add, concat_columns, concat_rows, normalize_rows, normalize_rows_in_place, running_mean, scale, sigmoid_gate,
};
pub use conv::{causal_conv, causal_max_pool, vertical_conv};
pub use conv2d::{Filter, Grid, conv2d, conv2d_fixed, max_pool, subsample};
pub use cross_attention::cross_attention;
pub use dropout::dropout;
pub use embed::{MASKED, embed, gather, gather_or_fill};
pub use feed_forward::feed_forward;
pub use in_batch::{InBatchTargets, in_batch_softmax};
pub use linear::{linear, linears};
pub use norm::add_norm;
pub use pool::{Pooling, pool};
pub use recurrent::gru;
pub use sampled::{SampledLoss, SampledTargets, sampled_loss};
pub use vision::{add_scaled, interpolate_rows, swiglu};
pub use window::{WindowBias, window_attention};
