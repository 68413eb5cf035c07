//! Model name → local folder.
//!
//! A name is looked up in this order, and the first hit wins:
//!
//! 1. an existing folder with model files (or only a `model.toml` card);
//! 2. `models/<name>/` of the project: weights beside a card, or a card alone that names a hub repository;
//! 3. `title-mini` and `cover-mini`, our own small encoders, which come inside the program and are unpacked into the
//!    cache, or into a private temporary folder where the cache cannot be written;
//! 4. the Hugging Face cache (`HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub`), shared with Python;
//! 5. the hub itself (`HF_ENDPOINT`, `HF_TOKEN`), unless `HF_HUB_OFFLINE` is set: then no request is made at all.
//!
//! Repositories, their listing and the cache's layout come from the `hf-hub` crate. The transfer of a file is our own,
//! over the same HTTP client, because that crate's (0.5) has no timeouts, appends to a partial file without looking at
//! what range the server sent, links a file before anyone could check it, and sends the token on to the host that it
//! is redirected to. Here a file gets its name only when its length and SHA-256 are right
//! and it can be read as what it is called, `refs/<revision>` is written
//! last, the token goes to the endpoint only, and whatever the server calls a file or a commit is checked before it
//! becomes a path.
//!
//! Limits: small files that the hub does not keep in LFS are checked by length only (the hub gives a git SHA-1 for
//! them), unless a card lists them. The endpoint must serve the repository listing (`/api/models/…`), not files alone.

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
