//! Training: the loop, its optimiser, its events, its checkpoints.

pub mod checkpoint;
pub mod events;
mod forward;
mod job;
pub mod optimizer;
pub mod schedule;
mod step;
pub mod tensorboard;
mod trainer;
pub mod two_pass;

pub use events::{Event, Observer};
pub use forward::forward;
pub use job::{Outcome, TrainJob};
pub use trainer::run;
