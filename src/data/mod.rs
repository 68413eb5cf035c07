//! Data sets: raw files → import → a folder of Parquet tables with a manifest → [`Dataset`] in memory.

pub mod build;
pub mod card;
mod columns;
pub mod dataset;
pub mod describe;
pub mod folder;
pub mod images;
pub mod import;
pub mod notes;
pub mod policy;
pub mod split;
pub mod synth;
pub mod text;
pub mod time;
pub mod validate;

pub use build::{Builder, SourceLocation};
pub use card::Card;
pub use dataset::{Csr, Dataset, Items};
pub use describe::Description;
pub use folder::DatasetParts;
pub use images::ImageFile;
pub use notes::{Note, Notes};
pub use policy::{Encoding, Policy, TimeUnit, UnknownItems};
pub use split::{Case, Split};
