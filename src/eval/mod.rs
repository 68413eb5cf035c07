//! Evaluation: full ranking over the catalogue, metrics, groups, per-user ranks.

pub mod candidates;
pub mod encode;
pub mod evaluate;
pub mod kept;
pub mod metrics;
pub mod ranking;
pub mod ranks_file;
pub mod significance;
pub mod top_k;
pub mod vectors;

pub use candidates::Candidates;
pub use evaluate::{Asked, Ranked, evaluate};
pub use kept::keep_prefix;
pub use metrics::{Lists, Metrics, Report};
pub use ranking::{Question, Rank, rank_dense, rank_scores};
pub use top_k::top_k;
