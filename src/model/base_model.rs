//! The reference from an adapter to the model it was trained on.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The model that an adapter belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseModel {
    /// Its folder, as an absolute path.
    pub path: PathBuf,
    /// Digest of its files.
    pub digest: String,
}
