//! Speed benchmarks: the same work in this program and in a PyTorch script, each in its own process, in alternating
//! turns.
//!
//! A case is a [`Spec`] of plain numbers, sent to both processes as JSON, so that both use the same shapes.

mod case;
mod cases;
mod child;
mod open;
mod ranking;
mod recommend;
mod sasrec;
mod text;
mod versus;
mod vision;

pub use case::Case;
pub use cases::{CASES, Kind, Named, Spec};
pub use child::serve;
pub use open::open;
pub use versus::{Comparison, Options, Side, compare};
