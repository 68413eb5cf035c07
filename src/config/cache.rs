//! How the output of frozen layers is kept.

use serde::{Deserialize, Serialize};

/// Precision of what is kept of frozen layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// Exact.
    F32,
    /// Rounded, half the room.
    F16,
    /// Computed again each time.
    Off,
}
