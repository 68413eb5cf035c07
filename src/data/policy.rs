//! Import policies for irregular input. By default irregular input that can be imported is imported and counted; any
//! other stops the import.

use serde::Serialize;

/// Policy for an interaction whose item is not in the items file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum UnknownItems {
    /// Add the item to the catalogue, without text.
    #[default]
    Keep,
    /// Leave out the interaction.
    Drop,
    /// Stop the import with an error.
    Error,
}

/// Encoding of text files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// UTF-8; invalid bytes are an error.
    #[default]
    #[value(name = "utf8", alias = "utf-8")]
    Utf8,
    /// ISO 8859-1: each byte is the code point of the same number.
    #[value(name = "latin1", alias = "iso-8859-1")]
    Latin1,
}

/// Unit of the timestamps in the input; a data set always stores seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TimeUnit {
    /// Inferred from the magnitude of the numbers; mixed units are an error.
    #[default]
    Auto,
    /// Seconds.
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
}

impl TimeUnit {
    /// Number of units per second (1 for `auto`).
    pub fn per_second(self) -> i64 {
        match self {
            Self::Auto | Self::S => 1,
            Self::Ms => 1_000,
            Self::Us => 1_000_000,
            Self::Ns => 1_000_000_000,
        }
    }
    /// Name of the unit in words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "unknown units",
            Self::S => "seconds",
            Self::Ms => "milliseconds",
            Self::Us => "microseconds",
            Self::Ns => "nanoseconds",
        }
    }
}

/// Import settings that do not concern the layout of the files. They are part of the manifest's config.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Policy {
    /// Policy for interactions with items that are not in the items file.
    pub unknown_items: UnknownItems,
    /// Whether to drop later copies of an interaction with the same user, item and timestamp.
    pub dedup: bool,
    /// Maximum number of malformed rows that are skipped before the import stops.
    pub skip_malformed: u64,
    /// Encoding of text files.
    pub encoding: Encoding,
    /// Unit of the timestamps.
    pub time_unit: TimeUnit,
    /// Whether to keep text unchanged: no decoding of HTML entities, no trimming, no collapsing of white space.
    pub raw_text: bool,
    /// Whether to leave out rows whose user or item id is a marker of a missing value (`nan`, `NULL`, `\N`, …).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub drop_null_ids: bool,
}
