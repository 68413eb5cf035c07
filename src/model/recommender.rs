//! From settings to a model.

use super::{BaseModel, ItemContent};
use crate::config::{Config, ItemKind, Modality, UserKind};
use crate::error::{Error, Result};
use crate::item::{Encoders, Features, FusedEncoder, IdEncoder, ImageEncoder, ItemEncoder, TextEncoder};
use crate::nn::weights::Weights;
use crate::nn::{Params, Resolved, Scope, Spec};
use crate::user::{self, UserEncoder, UserEncoderBuilder};
use candle_core::Device;

/// Rows of the tables a model may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableSizes {
    /// Items (of an ID table).
    pub items: usize,
    /// Users (of a user encoder that knows them by id).
    pub users: usize,
}

/// Raw ids of the rows of those tables.
#[derive(Debug, Clone, Copy)]
pub struct TableIds<'a> {
    /// Of items.
    pub items: &'a [String],
    /// Of users.
    pub users: &'a [String],
}

/// Everything a model is built from, before any parameter exists.
#[derive(Clone, Default)]
pub struct Blueprint {
    /// The settings (items, users, seed).
    pub config: Config,
    /// Rows of its tables.
    pub counts: TableSizes,
    /// Its pre-trained encoders' folders.
    pub encoders: Encoders,
    /// Keeps only what differs from this model on disk.
    pub base: Option<BaseModel>,
    /// Builds the user encoder, with `user.kind = "custom"`.
    pub user_encoder: Option<UserEncoderBuilder>,
}

type Parts = (Box<dyn ItemEncoder>, Box<dyn UserEncoder>);

impl Blueprint {
    fn parts(&self, scope: &Scope) -> Result<Parts> {
        let c = &self.config;
        let at = scope.pp("item_encoder").adapted(c.adapter.encoder());
        let missing = |m: Modality| {
            let key = c.item.encoder(m).key("model");
            Error::config(key, format!("items with {} need the folder of a pre-trained encoder", m.name()))
        };
        let text = || self.encoders.text().ok_or_else(|| missing(Modality::Text));
        let image = || self.encoders.image().ok_or_else(|| missing(Modality::Image));
        let d = c.user.dim;
        let item: Box<dyn ItemEncoder> = match c.item.kind {
            ItemKind::Id => Box::new(IdEncoder::new(&at.pp("id"), self.counts.items, d)?),
            ItemKind::Text => Box::new(TextEncoder::new(&at.pp("text"), text()?, &c.item, d)?),
            ItemKind::Image => {
                Box::new(ImageEncoder::new(&at.pp("image"), image()?, &c.item.image, c.item.activation, d)?)
            }
            ItemKind::Both => Box::new(FusedEncoder::new(&at, text()?, image()?, &c.item, d)?),
        };
        let at = scope.pp("user_encoder").adapted(c.adapter.user());
        let user = match (&self.user_encoder, c.user.kind) {
            (Some(build), UserKind::Custom) => build(&at, &c.user)?,
            _ => user::build(&at, &c.user, self.counts.users)?,
        };
        Ok((item, user))
    }
    /// The parameters it will have.
    pub fn declare(&self) -> Result<Vec<Spec>> {
        Params::declare(|s| self.parts(s))
    }
    /// Builds it; see [`Params::build`].
    pub fn build(&self, device: &Device, actions: &Resolved, source: Option<&Weights>) -> Result<Recommender> {
        let (params, (item, user)) = Params::build(self.config.seed, device, actions, source, |s| self.parts(s))?;
        let (config, encoders) = (self.config.clone(), self.encoders.clone());
        let base = self.base.clone();
        Ok(Recommender { params, item, user, config, encoders, base, device: device.clone() })
    }
    /// Content of items with these texts and nothing else, as this model reads it.
    pub fn features(&self, texts: &[String]) -> Result<Features> {
        self.features_of(&ItemContent { texts, ..Default::default() })
    }
    /// Content of items, as this model reads it; what is made of it is kept in the data set's folder, or read from there.
    pub fn features_of(&self, content: &ItemContent) -> Result<Features> {
        content.read(&self.config, &self.encoders, &|_, _| {})
    }
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
    /// Its pre-trained encoders' folders.
    pub encoders: Encoders,
    /// The model it is kept beside on disk, if it is an adapter.
    pub base: Option<BaseModel>,
    /// Where its parameters live.
    pub device: Device,
}

impl Recommender {
    /// Content of items with these texts and nothing else, as this model reads it.
    pub fn features(&self, texts: &[String]) -> Result<Features> {
        self.features_of(&ItemContent { texts, ..Default::default() })
    }
    /// Content of items, as this model reads it; what is made of it is kept in the data set's folder, or read from there.
    pub fn features_of(&self, content: &ItemContent) -> Result<Features> {
        self.features_with_progress(content, &|_, _| {})
    }
    /// The same; `on_progress` is given of pictures (done, all) while they are decoded.
    pub fn features_with_progress(
        &self,
        content: &ItemContent,
        on_progress: &dyn Fn(usize, usize),
    ) -> Result<Features> {
        content.read(&self.config, &self.encoders, on_progress)
    }
}

/// The device of a setting.
pub fn parse_device(name: &str) -> Result<Device> {
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
