//! Upper bounds of sizes.

use crate::error::{Error, Result};

/// Refuses sizes of layers above `most`: no model has them, and building one would ask for more memory than there is.
pub(super) fn bounded(most: usize, sizes: &[(&str, usize)]) -> Result<()> {
    match sizes.iter().find(|(_, v)| *v > most) {
        Some((key, v)) => Err(Error::config(*key, format!("{v} is more than {most}"))),
        None => Ok(()),
    }
}
