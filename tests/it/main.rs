//! One integration binary: a module a room.

mod grad;
mod nn_ops;
