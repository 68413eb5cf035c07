//! Data sets: schema, import, folders, splits.

pub mod dataset;
pub mod split;

pub use dataset::{Csr, Dataset, Items};
pub use split::{Case, Split};
