//! Model name → local folder.
//!
//! A name is looked up in this order, and the first match is used:
//!
//! 1. an existing folder with model files (or only a `model.toml` card);
//! 2. `models/<name>/` of the project: weights beside a card, or a card alone that names a hub repository;
//! 3. the embedded encoders `title-mini` and `cover-mini`, which are unpacked into the cache, or into a private
//!    temporary folder if the cache cannot be written;
//! 4. the Hugging Face cache (`HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub`), shared with Python;
//! 5. the hub (`HF_ENDPOINT`, `HF_TOKEN`), unless `HF_HUB_OFFLINE` is set: then no network request is made.
//!
//! The `hf-hub` crate provides repositories, their listing and the cache's layout. File downloads are implemented here,
//! over the same HTTP client, because `hf-hub` 0.5 has no timeouts, appends to a partial file without checking the
//! range that the server sent, links a file before its content can be checked, and forwards the token to the host of a
//! redirect. Here a file is renamed to its final name only after its length, its SHA-256 and its format are checked.
//! `refs/<revision>` is written last. The token is sent to the endpoint's host only. File names and commit ids from the
//! server are checked before they are used in a path.
//!
//! Limits: small files that are not in Git LFS are checked by length and format only, unless a card lists their
//! SHA-256, because the hub reports a Git SHA-1 for them. The endpoint must serve the repository listing
//! (`/api/models/…`).

mod cache;
mod card;
mod content;
mod disk;
pub mod embedded;
mod fetch;
mod folder;
mod layout;
mod listing;
mod name;
mod options;
mod private_temp;
mod progress;
mod pull;
mod resolve;
mod snapshot;
mod target;
mod transfer;
mod verify;

pub use cache::{Cached, cached_models};
pub use card::{CARD, Card, Guard, HubSource, Preprocessing, cards};
pub use disk::disk_free;
pub use folder::{ModelFolder, Origin, model_folders};
pub use name::ModelName;
pub use options::{HubOptions, Token};
pub use pull::pull;
pub use resolve::resolve;
pub use snapshot::Pulled;
pub use verify::{FileReport, Problem, Report, inspect, verify};
