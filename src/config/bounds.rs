//! Upper bounds of sizes.

use crate::error::{Error, Result};

/// Refuses layer sizes above `most`: no model has them, and the memory for them could not be allocated.
pub(super) fn bounded(most: usize, sizes: &[(&str, usize)]) -> Result<()> {
    match sizes.iter().find(|(_, v)| *v > most) {
        Some((key, v)) => Err(Error::config(*key, format!("{v} is more than {most}"))),
        None => Ok(()),
    }
}
