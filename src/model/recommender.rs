//! From settings to a model.

use crate::config::{Config, ItemKind};
use crate::error::{Error, Result};
use crate::item::text::TextFolder;
use crate::item::{Features, IdEncoder, ItemEncoder, TextEncoder, token_cache};
use crate::nn::weights::Weights;
use crate::nn::{Params, Resolved, Scope, Spec};
use crate::user::{self, UserEncoder};
use candle_core::Device;
use std::path::Path;

/// Rows of the tables a model may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Items (of an ID table).
    pub items: usize,
    /// Users (of a user encoder that knows them by id).
    pub users: usize,
}

/// Raw ids of the rows of those tables.
#[derive(Debug, Clone, Copy)]
pub struct Ids<'a> {
    /// Of items.
    pub items: &'a [String],
    /// Of users.
    pub users: &'a [String],
}

/// Everything a model is built from, before any parameter exists.
#[derive(Clone)]
pub struct Blueprint {
    /// The settings (items, users, seed).
    pub config: Config,
    /// Rows of its tables.
    pub counts: Counts,
    /// The text encoder's folder, for text items.
    pub folder: Option<TextFolder>,
}

type Parts = (Box<dyn ItemEncoder>, Box<dyn UserEncoder>);

impl Blueprint {
    fn parts(&self, scope: &Scope) -> Result<Parts> {
        let c = &self.config;
        let at = scope.pp("item_encoder");
        let item: Box<dyn ItemEncoder> = match (c.item.kind, &self.folder) {
            (ItemKind::Id, _) => Box::new(IdEncoder::new(&at.pp("id"), self.counts.items, c.user.dim)?),
            (ItemKind::Text, Some(f)) => Box::new(TextEncoder::new(&at.pp("text"), f, &c.item, c.user.dim)?),
            (ItemKind::Text, None) => return Err(Error::config("item.model", "a text model needs an encoder folder")),
        };
        Ok((item, user::build(&scope.pp("user_encoder"), &c.user, self.counts.users)?))
    }
    /// The parameters it will have.
    pub fn declare(&self) -> Result<Vec<Spec>> {
        Params::declare(|s| self.parts(s))
    }
    /// Builds it; see [`Params::build`].
    pub fn build(&self, device: &Device, actions: &Resolved, source: Option<&Weights>) -> Result<Recommender> {
        let (params, (item, user)) = Params::build(self.config.seed, device, actions, source, |s| self.parts(s))?;
        let (config, folder) = (self.config.clone(), self.folder.clone());
        Ok(Recommender { params, item, user, config, folder, device: device.clone() })
    }
    /// Content of the items with these texts, as this model reads it.
    pub fn features(&self, texts: &[impl AsRef<str> + Sync]) -> Result<Features> {
        self.features_of(None, texts)
    }
    /// The same; tokens are kept in the data set's folder, or read from there.
    pub fn features_of(&self, data: Option<&Path>, texts: &[impl AsRef<str> + Sync]) -> Result<Features> {
        features(&self.config, self.folder.as_ref(), data, texts)
    }
}

fn features(
    config: &Config,
    folder: Option<&TextFolder>,
    data: Option<&Path>,
    texts: &[impl AsRef<str> + Sync],
) -> Result<Features> {
    let tokens = match folder {
        Some(f) if config.item.kind == ItemKind::Text => {
            let c = &config.item;
            Some(token_cache::tokens(data, &f.tokenizer, &f.tokenizer_json, texts, c.max_tokens, c.lower_case)?)
        }
        _ => None,
    };
    Ok(Features { count: texts.len(), tokens, prefix: None })
}

/// A model with its parameters.
pub struct Recommender {
    /// All parameters.
    pub params: Params,
    /// Items → vectors.
    pub item: Box<dyn ItemEncoder>,
    /// Histories → states.
    pub user: Box<dyn UserEncoder>,
    /// The settings it was built with.
    pub config: Config,
    /// The text encoder's folder, for text items.
    pub folder: Option<TextFolder>,
    /// Where its parameters live.
    pub device: Device,
}

impl Recommender {
    /// Content of the items with these texts, as this model reads it.
    pub fn features(&self, texts: &[impl AsRef<str> + Sync]) -> Result<Features> {
        self.features_of(None, texts)
    }
    /// The same; tokens are kept in the data set's folder, or read from there.
    pub fn features_of(&self, data: Option<&Path>, texts: &[impl AsRef<str> + Sync]) -> Result<Features> {
        features(&self.config, self.folder.as_ref(), data, texts)
    }
}

/// The device of a setting.
pub fn pick_device(name: &str) -> Result<Device> {
    match name {
        "cpu" => Ok(Device::Cpu),
        "cuda" if cfg!(feature = "cuda") => Ok(Device::new_cuda(0)?),
        "metal" if cfg!(feature = "metal") => Ok(Device::new_metal(0)?),
        "cuda" | "metal" => {
            Err(Error::config("device", format!("this binary was built without it; build with --features {name}")))
        }
        other => Err(Error::config("device", format!("`{other}` is none of cpu, cuda, metal"))),
    }
}
