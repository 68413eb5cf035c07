//! One integration binary.

mod data_describe;
mod data_import;
mod data_import_bad;
mod data_real;
mod data_support;
