//! Transfer: which parameters come from where, which train, and what may be loaded into what.

pub mod compatibility;
pub mod plan;

pub use compatibility::{LoadedParts, check_catalogue, check_input, check_settings};
pub use plan::{Plan, Row, depth_rules, is_adapter_preset};
