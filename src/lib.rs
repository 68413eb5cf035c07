//! `morec`: modality-based transferable recommendation.
//!
//! Items are text and images, encoded end to end by pre-trained encoders (BERT, RoBERTa; ViT, DINOv2, CLIP, ResNet, Swin) and
//! fed into sequential user encoders (SASRec, BERT4Rec, GRU4Rec, …), so that a recommender trained on one platform moves to
//! another that shares neither users nor items. Train, transfer, recommend:
//!
//! ```no_run
#![doc = include_str!("../examples/tour.rs")]
//! ```
//!
//! More in `examples/`: a training loop with an observer, adapters side by side, a user encoder of one's own.
//!
//! ```text
//! raw files ─import─▶ data set folder ─split─▶ sequences ─▶ Batch { distinct items once, positions into them }
//!    ─▶ ItemEncoder (n,d) ─▶ gather ─▶ UserEncoder ─▶ Objective ─▶ loss ─▶ runs/<id>/ ─▶ evaluate · recommend
//! ```
//!
//! Modules, in the direction of dependence (a test holds it): [`cli`] → [`bench`](mod@bench) → [`distill`] → [`experiment`] → {[`train`],
//! [`transfer`], [`baseline`]} → [`eval`] → [`model`] → [`objective`] → [`batch`] → {[`item`], [`user`]} → [`data`] → [`config`] →
//! [`nn`] → [`hub`] → {[`fsio`], [`picture`]} → {[`error`], [`report`], [`rng`], [`terminal`]}.

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
