//! Data set cards: `datasets/<name>/dataset.toml` says where data comes from, under which licence, and how to import it.

use crate::error::{DataError, Result};
use crate::fsio::read_data_text;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// A card. `RAW` in it stands for the folder with the raw files.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// The folder's name.
    pub name: String,
    /// One line.
    pub title: String,
    /// What the items are.
    pub domain: String,
    /// Which modalities there are besides ids: `text`, `image`.
    pub modalities: Vec<String>,
    /// Authors and download location.
    pub origin: String,
    /// Licence.
    pub licence: String,
    /// Citation.
    pub citation: String,
    /// Further notes.
    #[serde(default)]
    pub notes: String,
    /// SHA-256 of each raw file, by its path below `RAW`.
    pub raw: BTreeMap<String, String>,
    /// How to import it.
    pub import: CardImport,
    /// Expected numbers of users, items and interactions.
    pub counts: CardCounts,
}

/// The import section of a card.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardImport {
    /// The command, to be run at the repository's root.
    pub command: String,
    /// Role → column of the raw files.
    pub columns: BTreeMap<String, String>,
    /// Filters applied by the import, in words.
    pub filters: String,
}

/// The counts of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardCounts {
    /// Users.
    pub users: u64,
    /// Items in the catalogue.
    pub items: u64,
    /// Interactions.
    pub interactions: u64,
}

impl Card {
    /// Reads a card.
    ///
    /// # Errors
    /// A data error with the line when it is not a card.
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
