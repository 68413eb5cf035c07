//! Training: the loop, its optimiser, its events, its checkpoints.

pub mod checkpoint;
pub mod events;
pub mod optimizer;
pub mod schedule;
pub mod tensorboard;
mod trainer;
pub mod two_pass;

pub use events::{Event, Observer};
pub use trainer::{Outcome, TrainJob, forward, run};
