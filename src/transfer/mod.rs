//! Transfer: which parameters come from where, and which train.

pub mod plan;

pub use plan::{Plan, Row, depth_rules, is_adapter_preset};
