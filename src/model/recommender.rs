//! Builds a model from its settings.

use super::{BaseModel, ItemContent};
use crate::config::{Config, ItemKind, Modality, UserKind};
use crate::error::{Error, Result};
use crate::item::{Encoders, Features, FusedEncoder, IdEncoder, ImageEncoder, ItemEncoder, TextEncoder};
use crate::nn::weights::Weights;
use crate::nn::{Params, Resolved, Scope, Spec};
use crate::user::{self, UserEncoder, UserEncoderBuilder};
use candle_core::Device;

/// Numbers of rows of the ID tables that a model may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableSizes {
    /// Number of items in the ID table of items.
    pub items: usize,
    /// Number of users in the ID table of a user encoder.
    pub users: usize,
}

/// Raw ids of the rows of a model's ID tables.
#[derive(Debug, Clone, Copy)]
pub struct TableIds<'a> {
    /// Raw ids of the items.
    pub items: &'a [String],
    /// Raw ids of the users.
    pub users: &'a [String],
}

/// Everything that determines a model's parameters, before they are created.
#[derive(Clone, Default)]
pub struct Blueprint {
    /// Settings of the model (items, users, seed).
    pub config: Config,
    /// Numbers of rows of its ID tables.
    pub counts: TableSizes,
    /// Folders of its pre-trained encoders.
    pub encoders: Encoders,
    /// Base model, if this is an adapter: only what differs from the base is saved.
    pub base: Option<BaseModel>,
    /// Builds the user encoder if `user.kind = "custom"`.
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
    /// Lists the parameters that the model will have, without allocating them.
    pub fn declare(&self) -> Result<Vec<Spec>> {
        Params::declare(|s| self.parts(s))
    }
    /// Builds the model; see [`Params::build`].
    pub fn build(&self, device: &Device, actions: &Resolved, source: Option<&Weights>) -> Result<Recommender> {
        let (params, (item, user)) = Params::build(self.config.seed, device, actions, source, |s| self.parts(s))?;
        let (config, encoders) = (self.config.clone(), self.encoders.clone());
        let base = self.base.clone();
        Ok(Recommender { params, item, user, config, encoders, base, device: device.clone() })
    }
    /// Features of items that have only these texts, as this model reads them.
    pub fn features(&self, texts: &[String]) -> Result<Features> {
        self.features_of(&ItemContent { texts, ..Default::default() })
    }
    /// Features of items with this content, as this model reads them. Tokens and pixels are cached in the data set's
    /// folder.
    pub fn features_of(&self, content: &ItemContent) -> Result<Features> {
        content.read(&self.config, &self.encoders, &|_, _| {})
    }
}

/// A built model with its parameters.
pub struct Recommender {
    /// All parameters of the model.
    pub params: Params,
    /// Item encoder: items → vectors.
    pub item: Box<dyn ItemEncoder>,
    /// User encoder: histories → hidden states.
    pub user: Box<dyn UserEncoder>,
    /// Settings with which it was built.
    pub config: Config,
    /// Folders of its pre-trained encoders.
    pub encoders: Encoders,
    /// Base model, if this is an adapter.
    pub base: Option<BaseModel>,
    /// Device of its parameters.
    pub device: Device,
}

impl Recommender {
    /// Features of items that have only these texts, as this model reads them.
    pub fn features(&self, texts: &[String]) -> Result<Features> {
        self.features_of(&ItemContent { texts, ..Default::default() })
    }
    /// Features of items with this content, as this model reads them. Tokens and pixels are cached in the data set's
    /// folder.
    pub fn features_of(&self, content: &ItemContent) -> Result<Features> {
        self.features_with_progress(content, &|_, _| {})
    }
    /// As [`features_of`](Self::features_of); `on_progress` is called with (done, all) numbers of images while they are
    /// decoded.
    pub fn features_with_progress(
        &self,
        content: &ItemContent,
        on_progress: &dyn Fn(usize, usize),
    ) -> Result<Features> {
        content.read(&self.config, &self.encoders, on_progress)
    }
}

/// Parses the setting `device`: `cpu`, `cuda` or `metal`. An error if the binary was built without it.
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
