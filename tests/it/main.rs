//! One integration binary: a module a room.

mod architecture;
mod cli;
mod encoders;
mod golden;
mod grad;
mod hub;
mod nn_ops;
mod ranking;
mod support;
mod training;
