//! Evaluation: full ranking over the catalogue, metrics, groups, per-user ranks.

pub mod candidates;
pub mod encode;
pub mod evaluate;
pub mod frozen_cache;
pub mod metrics;
pub mod ranking;
pub mod ranks_file;
pub mod significance;
pub mod top_k;
pub mod vectors;

pub use candidates::Candidates;
pub use evaluate::{EvalTask, RankingResult, evaluate};
pub use frozen_cache::build_frozen_caches;
pub use metrics::{ListMetrics, Metrics, Report};
pub use ranking::{Rank, RankQuery, rank_dense, rank_scores};
pub use top_k::top_k;
