//! Differentiable building blocks on our own tape.
//!
//! Models call the functions of [`ops`] only. On a CPU these are fused, multi-threaded operations with their own
//! backward; on other devices the same functions composed from candle's differentiable operations. Tests hold the
//! two equal.

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
