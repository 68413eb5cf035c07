//! Reference from an adapter to the model it was trained on.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The base model of an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseModel {
    /// Absolute path of its folder.
    pub path: PathBuf,
    /// Digest of its files.
    pub digest: String,
}
