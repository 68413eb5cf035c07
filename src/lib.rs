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
//! `cli → bench → {distill, experiment} → {train, transfer, eval, baseline} → model → {objective, item, user} → batch → nn → {data, config} → {rng, fsio, hub, report, terminal, error}`.

pub mod baseline;
pub mod batch;
pub mod bench;
pub mod cli;
pub mod config;
pub mod data;
pub mod distill;
pub mod error;
pub mod eval;
pub mod experiment;
pub mod fsio;
pub mod hub;
pub mod item;
pub mod model;
pub mod nn;
pub mod objective;
pub mod picture;
pub mod report;
pub mod rng;
pub mod terminal;
pub mod train;
pub mod transfer;
pub mod user;

pub use error::{DataError, Error, Result};
