//! Data set cards: `datasets/<name>/dataset.toml` records source, licence and import command of a data set.

use crate::error::{DataError, Result};
use crate::fsio::read_data_text;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Data set card. `RAW` in its texts is the folder with the raw files.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Name of the data set's folder.
    pub name: String,
    /// Description in one line.
    pub title: String,
    /// Kind of items, in words.
    pub domain: String,
    /// Modalities besides ids: `text`, `image`.
    pub modalities: Vec<String>,
    /// Authors and download location.
    pub origin: String,
    /// Licence of the data.
    pub licence: String,
    /// Publication to cite.
    pub citation: String,
    /// Further notes.
    #[serde(default)]
    pub notes: String,
    /// SHA-256 of each raw file, by its path below `RAW`.
    pub raw: BTreeMap<String, String>,
    /// Import of the data set.
    pub import: CardImport,
    /// Expected numbers of users, items and interactions.
    pub counts: CardCounts,
}

/// The import section of a card.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardImport {
    /// Import command, to be run at the repository's root.
    pub command: String,
    /// Column of the raw files for each role.
    pub columns: BTreeMap<String, String>,
    /// Filters applied by the import, in words.
    pub filters: String,
}

/// Expected counts of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardCounts {
    /// Number of users.
    pub users: u64,
    /// Number of items in the catalogue.
    pub items: u64,
    /// Number of interactions.
    pub interactions: u64,
}

impl Card {
    /// Reads and parses a card.
    ///
    /// # Errors
    /// A data error with the line when the file is not a card.
    pub fn read(path: &Path) -> Result<Self> {
        let text = read_data_text(path)?;
        toml::from_str(&text).map_err(|e| {
            let line = e.span().map(|s| text[..s.start].matches('\n').count() as u64 + 1);
            let mut error = DataError::new(path, e.message());
            error.line = line;
            error.remedy("see datasets/README.md for the layout of a card").into()
        })
    }
}
