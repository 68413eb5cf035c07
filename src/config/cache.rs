//! Settings of the frozen-layer cache.

use serde::{Deserialize, Serialize};

/// Precision of the frozen-layer cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// F32, exact.
    F32,
    /// F16: rounded, half the size.
    F16,
    /// No cache: frozen layers are computed in every step.
    Off,
}
