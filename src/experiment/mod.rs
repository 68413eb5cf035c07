//! One run from settings to results: prepare data, resolve the transfer plan, train, evaluate, write the run folder.

mod baselines;
pub mod compare;
mod plan;
mod prepare;
mod result;
mod run;
mod run_folder;
pub mod showcase;
pub mod usage;

pub use baselines::baseline_rows;
pub use plan::plan_of;
pub use prepare::{Prepared, encoder_folder};
pub use result::{ExistingRun, RunResult, protocol, result_of};
pub use run::{Experiment, execute};
pub use run_folder::data_digest;
pub use usage::peak_memory;
