//! Data sets: schema, import, folders, splits.

pub mod dataset;

pub use dataset::{Csr, Dataset, Items};
