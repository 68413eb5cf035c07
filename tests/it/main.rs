//! One integration binary: a module a room.

mod golden;
mod grad;
mod nn_ops;
