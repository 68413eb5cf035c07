//! Which samples are held out for evaluation.

use crate::rng;

/// Whether the sample with this content key is held out; true for about `share` of all keys. Depends on the content and
/// the seed only, so that adding a source moves no sample from one side to the other.
pub fn is_held_out(content: &str, share: f64, seed: u64) -> bool {
    let uniform = (rng::key(seed, &format!("held out/{content}")) >> 11) as f64 / (1u64 << 53) as f64;
    uniform < share
}
