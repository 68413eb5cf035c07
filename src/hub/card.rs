//! Model cards, `model.toml`: source, description and file digests of a model.

use super::layout::named_digest;
use super::name::{check_id, check_revision, is_safe_token};
use crate::error::{Error, Result};
use crate::fsio;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// File name of the card in a model folder.
pub const CARD: &str = "model.toml";

/// Cards compiled into the program, so that their names resolve in any working directory.
const BUILT_IN: &[(&str, &str)] = &[
    ("all-minilm-l6-v2", include_str!("../../models/all-minilm-l6-v2/model.toml")),
    ("bert-base-uncased", include_str!("../../models/bert-base-uncased/model.toml")),
    ("bert-tiny", include_str!("../../models/bert-tiny/model.toml")),
    ("bert-tiny-splade", include_str!("../../models/bert-tiny-splade/model.toml")),
    ("augnet-resnet50", include_str!("../../models/augnet-resnet50/model.toml")),
    ("clip-vit-base-patch32", include_str!("../../models/clip-vit-base-patch32/model.toml")),
    ("cover-mini", include_str!("../../models/cover-mini/model.toml")),
    ("dinov2-small", include_str!("../../models/dinov2-small/model.toml")),
    ("dinov2-small-as-vit", include_str!("../../models/dinov2-small-as-vit/model.toml")),
    ("resnet-50", include_str!("../../models/resnet-50/model.toml")),
    ("swin-tiny-patch4-window7-224", include_str!("../../models/swin-tiny-patch4-window7-224/model.toml")),
    ("vit-base-patch16-224", include_str!("../../models/vit-base-patch16-224/model.toml")),
    ("vit-mae-base", include_str!("../../models/vit-mae-base/model.toml")),
    ("title-mini", include_str!("../../models/title-mini/model.toml")),
    ("roberta-base", include_str!("../../models/roberta-base/model.toml")),
];

/// Model card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Model name, equal to the folder's name.
    pub name: String,
    /// Description in one line.
    pub summary: String,
    /// Modality of the input: `text` or `image`.
    pub modality: String,
    /// Architecture: the `model_type` of `config.json`, for example `bert`.
    pub architecture: String,
    /// Licence as SPDX identifier.
    pub licence: String,
    /// Authors, and source of the files.
    pub origin: String,
    /// Hub repository; `None` if the model has none.
    pub hub: Option<HubSource>,
    /// Preprocessing of inputs and pooling of outputs.
    #[serde(default)]
    pub preprocessing: Preprocessing,
    /// Measured quality: name of the measure → value, as text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub quality: BTreeMap<String, String>,
    /// Known SHA-256 digests by file name, lower-case hex.
    #[serde(default)]
    pub sha256: BTreeMap<String, String>,
}

/// Repository of the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubSource {
    /// Repository id, `owner/name`.
    pub id: String,
    /// Branch, tag or commit.
    #[serde(default = "main_branch")]
    pub revision: String,
}

fn main_branch() -> String {
    "main".into()
}

/// Preprocessing of a text or image, and pooling of the encoder's output to one vector.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Pooling: `mean` (over tokens other than padding), `cls` or `pooler`.
    pub pooling: Option<String>,
    /// Maximum number of tokens of a text, special tokens included; longer texts are truncated.
    pub max_tokens: Option<u32>,
    /// Side length of the input image in pixels.
    pub image_size: Option<u32>,
}

impl Card {
    /// Parses a card; `path` is used in error messages only.
    ///
    /// # Errors
    /// [`Error::Model`] for a syntax error, an unknown key or an impossible value.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let card: Self = toml::from_str(text).map_err(|e| Error::model(path, format!("not a model card: {e}")))?;
        let wrong = |message: String| Error::model(path, message);
        if !["text", "image"].contains(&card.modality.as_str()) {
            return Err(wrong(format!("modality `{}`: use `text` or `image`", card.modality)));
        }
        if let Some(pooling) = card.preprocessing.pooling.as_deref().filter(|p| !["mean", "cls", "pooler"].contains(p))
        {
            return Err(wrong(format!("preprocessing.pooling `{pooling}`: use `mean`, `cls` or `pooler`")));
        }
        if let Some(hub) = &card.hub {
            check_id(&hub.id).map_err(|why| wrong(format!("hub.id `{}`: {why}", hub.id)))?;
            check_revision(&hub.revision).map_err(|e| wrong(format!("hub.revision: {e}")))?;
        }
        for (file, digest) in &card.sha256 {
            if digest.len() != 64 || !digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
                return Err(wrong(format!("sha256 of `{file}` is not 64 lower-case hex digits")));
            }
            if !is_safe_token(file) {
                return Err(wrong(format!("sha256 names `{file}`, which is not a plain file name")));
            }
        }
        Ok(card)
    }

    /// Reads `dir/model.toml`; `None` when the file does not exist.
    ///
    /// # Errors
    /// As [`Card::parse`], and [`Error::Io`].
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(CARD);
        if !path.is_file() {
            return Ok(None);
        }
        Self::parse(&path, &fsio::read_model_text(&path)?).map(Some)
    }

    /// Card named `name` that is compiled into the program.
    pub(super) fn built_in(name: &str) -> Option<Self> {
        let (name, text) = BUILT_IN.iter().find(|(n, _)| *n == name)?;
        Self::parse(Path::new(name), text).ok()
    }

    /// Expected digests of the files at `revision`; empty when the card describes another revision.
    pub(super) fn guard(&self, revision: &str) -> Guard {
        let ours = self.hub.as_ref().is_none_or(|h| h.revision == revision);
        Guard { sha256: if ours { self.sha256.clone() } else { BTreeMap::new() } }
    }
}

/// Expected digests of a model's files; empty when none are known.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// Expected SHA-256 by file name, lower-case hex.
    pub sha256: BTreeMap<String, String>,
}

impl Guard {
    /// Compares the files that exist in `dir` with the expected digests.
    ///
    /// # Errors
    /// [`Error::Model`] naming the first file that differs; [`Error::Io`].
    pub fn check(&self, dir: &Path) -> Result<()> {
        for (name, expected) in &self.sha256 {
            let path = dir.join(name);
            // In the cache a file links to a blob that is named by its SHA-256 and was checked when it was downloaded.
            // `verify` computes the digests of all files.
            if !path.exists() || named_digest(&path).as_ref() == Some(expected) {
                continue;
            }
            let found = fsio::sha256_file(&path)?;
            if found != *expected {
                let m = format!("its SHA-256 is {found}, the model's card says {expected}: damaged or another version");
                return Err(Error::model(&path, m));
            }
        }
        Ok(())
    }
}

/// Lists all cards in name order: those of `models/`, and the built-in ones that have no namesake there.
///
/// # Errors
/// As [`Card::read`]; [`Error::Model`] when the name in a card differs from the folder's name.
pub fn cards(models: &Path) -> Result<Vec<Card>> {
    let mut found = BTreeMap::new();
    for name in subfolders(models) {
        let dir = models.join(&name);
        if let Some(card) = Card::read(&dir)? {
            if card.name != name {
                return Err(Error::model(dir.join(CARD), format!("its name is `{}`, unlike its folder", card.name)));
            }
            found.insert(name, card);
        }
    }
    for (name, _) in BUILT_IN {
        if let (false, Some(card)) = (found.contains_key(*name), Card::built_in(name)) {
            found.insert((*name).into(), card);
        }
    }
    Ok(found.into_values().collect())
}

/// Sorted names of the folders in `dir`, without hidden ones and names that are not UTF-8.
pub(crate) fn subfolders(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().filter(|e| e.path().is_dir());
    let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
    names.retain(|n| !n.starts_with('.'));
    names.sort();
    names
}
