//! One run from settings to results: prepare data, resolve the plan, train, evaluate, write it all down.

pub mod compare;
mod prepare;
mod run;
mod run_folder;
pub mod showcase;
pub mod usage;

pub use prepare::{Prepared, image_folder, text_folder};
pub use run::{ExistingRun, RunResult, baseline_rows, execute, plan_of, protocol, result_of};
pub use usage::peak_memory;
