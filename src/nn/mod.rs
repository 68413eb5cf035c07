//! Differentiable building blocks that record on the crate's own tape.
//!
//! Models call only the functions of [`ops`]. On a CPU these are fused, multi-threaded operations with a hand-written
//! backward pass; on other devices the same functions are composed from candle's differentiable operations. Tests check
//! that both give the same results.

pub mod adapter;
pub mod blas;
pub mod gemm;
pub mod grad_buf;
pub mod host;
pub mod init;
pub mod kernels;
pub mod layers;
mod lazy_value;
pub mod ops;
pub mod parallel;
pub mod params;
pub mod segments;
pub mod tape;
pub mod weights;

pub use layers::{BatchNorm, LayerNorm, Linear};
pub use params::{Action, Origin, Param, Params, Resolved, Scope, Spec, Weight};
pub use segments::Segments;
pub use tape::{Act, Grads, Pass, Tape, TrainContext};
