//! Import policies for irregular input. By default everything that can be imported is, with a count, and anything else
//! stops the import.

use serde::Serialize;

/// Policy for an interaction whose item is not in the items file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum UnknownItems {
    /// The item joins the catalogue without text.
    #[default]
    Keep,
    /// The interaction is left out.
    Drop,
    /// The import stops.
    Error,
}

/// How the bytes of text files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// UTF-8; anything else is an error.
    #[default]
    #[value(name = "utf8", alias = "utf-8")]
    Utf8,
    /// ISO 8859-1: each byte is the code point of the same number.
    #[value(name = "latin1", alias = "iso-8859-1")]
    Latin1,
}

/// The unit of the timestamps in the input; the data set always holds seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TimeUnit {
    /// Inferred from the size of the numbers; mixed units are an error.
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
    /// How many of this unit make a second (1 for `auto`).
    pub fn per_second(self) -> i64 {
        match self {
            Self::Auto | Self::S => 1,
            Self::Ms => 1_000,
            Self::Us => 1_000_000,
            Self::Ns => 1_000_000_000,
        }
    }
    /// Its name in words.
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

/// Every choice of an import that is not about the layout of the files. Part of the manifest's config.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Policy {
    /// Interactions with items that the items file lacks.
    pub unknown_items: UnknownItems,
    /// Drop later copies of an interaction with the same user, item and timestamp.
    pub dedup: bool,
    /// How many malformed rows may be left out before the import stops.
    pub skip_malformed: u64,
    /// The encoding of text files.
    pub encoding: Encoding,
    /// The unit of timestamps.
    pub time_unit: TimeUnit,
    /// Keep text byte for byte: no decoding of HTML entities, no trimming, no collapsing of white space.
    pub raw_text: bool,
    /// Leave out rows whose user or item id is a marker of a missing value (`nan`, `NULL`, `\N`, …).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub drop_null_ids: bool,
}
