//! One integration binary: a module a room.

mod golden;
mod grad;
mod hub;
mod nn_ops;
