//! Sizes and seed of a synthetic data set.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Kinds of synthetic data sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// Books, films, games.
    Media,
    /// Physical goods, such as clothing and posters.
    Goods,
}

/// Sizes and seed of a synthetic data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SynthConfig {
    /// Kind of data set.
    pub platform: Platform,
    /// Number of users.
    pub users: usize,
    /// Number of items.
    pub items: usize,
    /// Mean number of events per user; at least 5.
    pub mean_events: f64,
    /// Share of events drawn by popularity alone.
    pub noise: f64,
    /// Random seed of the whole data set.
    pub seed: u64,
    /// Whether items have cover images.
    #[serde(default)]
    pub covers: bool,
}

impl SynthConfig {
    /// Refuses sizes that cannot be generated.
    pub fn check(&self) -> Result<()> {
        let bad = |m: &str| Err(Error::Usage(m.into()));
        if self.users == 0 || u32::try_from(self.users).is_err() {
            return bad("users: between 1 and 2^32 - 1");
        }
        if self.items < 100 || u32::try_from(self.items).is_err() {
            return bad("items: at least 100, so that every history finds enough of them");
        }
        if !(5.0..=40.0).contains(&self.mean_events) {
            return bad("mean events a user: between 5 and 40");
        }
        if !(0.0..=1.0).contains(&self.noise) {
            return bad("noise: between 0 and 1");
        }
        Ok(())
    }
}
