//! Data set → split → candidates with their texts.

use crate::config::{Config, ItemKind};
use crate::data::{Dataset, Split};
use crate::error::{Error, Result};
use crate::hub::{self, HubOptions};
use crate::item::text::TextFolder;
use std::path::Path;

/// A divided data set with what models need of it.
pub struct Prepared {
    /// The data set.
    pub data: Dataset,
    /// Its division.
    pub split: Split,
    /// Raw ids of the candidates.
    pub item_ids: Vec<String>,
    /// Texts of the candidates.
    pub texts: Vec<String>,
}

impl Prepared {
    /// Opens and divides the data set of a configuration.
    pub fn open(config: &Config) -> Result<Self> {
        if config.data.path.is_empty() {
            return Err(Error::config(
                "data.path",
                "no data set given; make one with `morec data import`, then --data DIR",
            ));
        }
        Self::new(Dataset::open(Path::new(&config.data.path))?, config)
    }
    /// Divides a data set.
    pub fn new(data: Dataset, config: &Config) -> Result<Self> {
        let split = Split::new(&data, &config.data, config.user.max_len)?;
        let pick = |from: &[String]| split.items.iter().map(|&i| from[i as usize].clone()).collect::<Vec<_>>();
        let (item_ids, texts) = (pick(&data.items.ids), pick(&data.items.text));
        if config.item.kind == ItemKind::Text && texts.iter().all(String::is_empty) {
            return Err(Error::config(
                "item.kind",
                format!("no item of `{}` has a text; use item.kind = \"id\"", data.name),
            ));
        }
        let widest = *config.eval.ks.iter().max().unwrap_or(&1);
        if widest > split.items.len() {
            let m = format!("{widest} is larger than the catalogue of {} items", split.items.len());
            return Err(Error::config("eval.ks", m));
        }
        Ok(Self { data, split, item_ids, texts })
    }
}

/// The pre-trained text encoder of a configuration, found or downloaded.
pub(super) fn text_folder(config: &Config) -> Result<Option<TextFolder>> {
    if config.item.kind != ItemKind::Text {
        return Ok(None);
    }
    let dir = Path::new(&config.item.model);
    if !config.item.pretrained && dir.is_dir() {
        return Ok(Some(TextFolder::open(dir, false)?));
    }
    let found = hub::resolve(&config.item.model, &HubOptions::from_env()?)?;
    Ok(Some(TextFolder::open(&found.dir, config.item.pretrained)?))
}
