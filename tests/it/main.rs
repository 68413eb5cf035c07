//! One integration binary: a module a room.

mod adapter_files;
mod adapters;
mod architecture;
mod cli;
mod compare;
mod compat;
mod data_describe;
mod data_import;
mod data_import_bad;
mod data_real;
mod data_support;
mod distill;
mod edges;
mod encode;
mod encoders;
mod examples;
mod golden;
mod golden_user;
mod grad;
mod guide;
mod hub;
mod images;
mod kinds;
mod mutations;
mod nn_ops;
mod pictures;
mod ranking;
mod source_graph;
mod support;
mod synth;
mod training;
mod user_encoders;
mod vision;

#[global_allocator]
static MEMORY: mutations::memory::Watched = mutations::memory::Watched;
