//! One integration binary.

mod hub;
