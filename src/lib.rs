//! `morec`: modality-based transferable recommendation.
//!
//! Items are text and images, encoded end to end by pre-trained encoders, and fed into sequential user encoders.
//!
//! ```text
//! raw files ─import─▶ data set folder ─split─▶ sequences ─▶ Batch { distinct items once, positions into them }
//!    ─▶ ItemEncoder (n,d) ─▶ gather ─▶ UserEncoder ─▶ Objective ─▶ loss ─▶ runs/<id>/ ─▶ evaluate · recommend
//! ```
//!
//! Rooms, in the direction of dependence (a test holds it):
//! `cli → report → {train, transfer, eval, baseline} → model → {item, user, objective} → {nn, batch} → {data, config} → {rng, fsio, hub, error}`.

pub mod cli;
pub mod data;
pub mod error;
pub mod fsio;
pub mod hub;
pub mod nn;
pub mod rng;

pub use error::{DataError, Error, Result};
