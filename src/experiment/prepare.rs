//! Data preparation: data set → split → candidates with their content.

use crate::config::{Config, EvalConfig, Modality};
use crate::data::{Case, Dataset, Split};
use crate::error::{Error, Result};
use crate::eval::candidates::{Candidates, IdNames};
use crate::fsio;
use crate::hub::{self, HubOptions};
use crate::item::EncoderFolder;
use crate::model::{ItemContent, TableIds, TableSizes};
use std::path::Path;

/// A split data set with the ids and texts of its candidates.
pub struct Prepared {
    /// The data set.
    pub data: Dataset,
    /// Its training, validation and test parts.
    pub split: Split,
    /// Raw ids of the candidates.
    pub item_ids: Vec<String>,
    /// Raw ids of the users.
    pub user_ids: Vec<String>,
    /// Texts of the candidates.
    pub texts: Vec<String>,
}

impl Prepared {
    /// Opens the data set of a configuration and splits it.
    ///
    /// # Errors
    /// [`Error::Config`] for cut-offs larger than the catalogue, default ones included: [`Prepared::fit`] leaves those out.
    pub fn open(config: &Config) -> Result<Self> {
        let prepared = Self::read(config)?;
        prepared.check_cut_offs(config)?;
        Ok(prepared)
    }
    /// As [`Prepared::open`], and removes from `config` the default cut-offs that are larger than the catalogue. The
    /// second value is a note on what was removed ([`Config::fit_catalogue`]).
    pub fn fit(config: &mut Config) -> Result<(Self, Option<String>)> {
        let prepared = Self::read(config)?;
        let note = config.fit_catalogue(prepared.item_ids.len())?;
        Ok((prepared, note))
    }
    /// As [`Prepared::fit`] for evaluation without training: `train.metric` is neither checked nor changed.
    pub fn fit_evaluation(config: &mut Config) -> Result<(Self, Option<String>)> {
        let prepared = Self::read(config)?;
        let note = config.eval.fit_catalogue(prepared.item_ids.len())?;
        Ok((prepared, note))
    }
    fn read(config: &Config) -> Result<Self> {
        if config.data.path.is_empty() {
            return Err(Error::config(
                "data.path",
                "no data set given; make one with `morec data import`, then --data DIR",
            ));
        }
        Self::divide(Dataset::open(Path::new(&config.data.path))?, config)
    }
    /// Splits a data set.
    ///
    /// # Errors
    /// As [`Prepared::open`].
    pub fn new(data: Dataset, config: &Config) -> Result<Self> {
        let prepared = Self::divide(data, config)?;
        prepared.check_cut_offs(config)?;
        Ok(prepared)
    }
    fn check_cut_offs(&self, config: &Config) -> Result<()> {
        let mut asked = EvalConfig { ks_given: true, ..config.eval.clone() };
        asked.fit_catalogue(self.item_ids.len()).map(|_| ())
    }
    fn divide(data: Dataset, config: &Config) -> Result<Self> {
        let split = Split::new(&data, &config.data, config.user.max_len)?;
        let pick = |from: &[String]| split.items.iter().map(|&i| from[i as usize].clone()).collect::<Vec<_>>();
        let (item_ids, texts) = (pick(&data.items.ids), pick(&data.items.text));
        let kind = config.item.kind;
        if kind.has(Modality::Text) && texts.iter().all(String::is_empty) {
            let m = format!("no item of `{}` has a text; use item.kind = \"id\"", data.name);
            return Err(Error::config("item.kind", m));
        }
        if kind.has(Modality::Image) && data.images.is_none() {
            let m = format!("no item of `{}` has a picture; import it with --images, or use another kind", data.name);
            return Err(Error::config("item.kind", m));
        }
        let user_ids = split.users.iter().map(|&u| data.users[u as usize].clone()).collect();
        Ok(Self { data, split, item_ids, user_ids, texts })
    }
    /// Numbers of items and users, which determine the sizes of embedding tables.
    pub fn counts(&self) -> TableSizes {
        TableSizes { items: self.item_ids.len(), users: self.user_ids.len() }
    }
    /// Sampled candidates of the cases, for every protocol of `eval.sampled`.
    pub fn candidates(&self, config: &EvalConfig, cases: &[Case]) -> Result<Vec<Candidates>> {
        let user = |u: u32| self.user_ids[u as usize].as_str();
        let item = |i: u32| self.item_ids[i as usize].as_str();
        let names = IdNames { user: &user, item: &item };
        let one = |name: &String| {
            let path = match (&self.data.dir, config.candidates.as_str()) {
                (_, given) if !given.is_empty() => Path::new(given).join(format!("{name}.tsv")),
                (Some(dir), _) => {
                    let digest = fsio::sha256_bytes(self.identity(cases).as_bytes());
                    dir.join(".cache").join(format!("candidates-{name}-{}.tsv", &digest[..16]))
                }
                (None, _) => return Candidates::draw(&self.split, cases, name),
            };
            let own_folder = config.candidates.is_empty();
            Candidates::open(&path, &self.split, cases, name, names, own_folder)
        };
        config.sampled.iter().map(one).collect()
    }
    /// Description of everything that sampled candidates depend on.
    fn identity(&self, cases: &[Case]) -> String {
        let s = &self.split;
        let (seqs, counts) = (&s.seqs.values, &s.counts);
        let cases: Vec<[u32; 3]> = cases.iter().map(|c| [c.user, c.until, c.target]).collect();
        format!("{} {:?} {:?} {seqs:?} {counts:?} {cases:?}", self.data.digest, self.item_ids, self.user_ids)
    }
    /// Content of the candidates: texts and images.
    pub fn content(&self) -> ItemContent<'_> {
        ItemContent {
            ids: &self.item_ids,
            texts: &self.texts,
            images: self.data.images.as_ref(),
            items: &self.split.items,
            data: self.data.dir.as_deref(),
        }
    }
    /// Raw ids of candidates and users.
    pub fn ids(&self) -> TableIds<'_> {
        TableIds { items: &self.item_ids, users: &self.user_ids }
    }
}

/// Folder of the pre-trained encoder of a modality, found locally or downloaded; `None` where the settings name none.
pub fn encoder_folder(config: &Config, modality: Modality) -> Result<Option<EncoderFolder>> {
    let settings = config.item.encoder(modality);
    if !config.item.kind.has(modality) || settings.model.is_empty() {
        return Ok(None);
    }
    let dir = Path::new(settings.model);
    if !settings.pretrained && dir.is_dir() {
        return Ok(Some(EncoderFolder::open(modality, dir, false)?));
    }
    let found = hub::resolve(settings.model, &HubOptions::from_env()?)?;
    Ok(Some(EncoderFolder::open(modality, &found.dir, settings.pretrained)?))
}
