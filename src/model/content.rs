//! Raw content of the items of a catalogue, and its conversion to features.

use crate::config::{Config, Fusion, ItemKind, Modality};
use crate::data::{Dataset, ImageFile};
use crate::error::{Error, Result};
use crate::item::image::{ImageFolder, PixelStore, Pixels};
use crate::item::{EncoderFolder, Encoders, Features, ModalityContent, ModalitySet, token_cache};
use crate::rng::Stream;
use std::path::Path;
use std::sync::Arc;

/// Texts and images of items, in the order of a catalogue.
#[derive(Debug, Clone, Copy, Default)]
pub struct ItemContent<'a> {
    /// Raw item ids: one per text, or none.
    pub ids: &'a [String],
    /// One text per item; empty if the item has none.
    pub texts: &'a [String],
    /// All images of the data set.
    pub images: Option<&'a ImageFile>,
    /// Index in the data set of each item. If empty, the items are the first ones of the data set, and further ones
    /// have no image.
    pub items: &'a [u32],
    /// Folder of the data set.
    pub data: Option<&'a Path>,
}

impl<'a> ItemContent<'a> {
    /// Content of all items of a data set.
    pub fn whole(data: &'a Dataset) -> Self {
        Self {
            ids: &data.items.ids,
            texts: &data.items.text,
            images: data.images.as_ref(),
            items: &[],
            data: data.dir.as_deref(),
        }
    }
    /// Converts the content to the features that a model of these settings and encoders reads.
    pub(super) fn read(
        &self,
        config: &Config,
        encoders: &Encoders,
        on_progress: &dyn Fn(usize, usize),
    ) -> Result<Features> {
        let c = &config.item;
        let mut f = Features { count: self.texts.len(), ..Default::default() };
        for encoder in encoders.iter().filter(|e| c.kind.has(e.modality())) {
            let content = match encoder {
                EncoderFolder::Text(t) => {
                    let json = &t.tokenizer_json;
                    let (data, limit, lower) = (self.data, c.max_tokens, c.lower_case);
                    let tokens = token_cache::tokens(data, &t.tokenizer, json, self.texts, limit, lower)?;
                    ModalityContent::Tokens(tokens)
                }
                EncoderFolder::Image(i) => ModalityContent::Pixels(self.pixels(i, config, on_progress)?),
            };
            f.content.insert(encoder.modality(), content);
        }
        if c.kind.modalities().len() > 1 {
            f.used = Some(Arc::new(self.used(config, &f)));
        }
        Ok(f)
    }
    fn pixels(&self, folder: &ImageFolder, config: &Config, on_progress: &dyn Fn(usize, usize)) -> Result<Pixels> {
        let pre = folder.preprocess(&config.item.image);
        let Some(file) = self.images else {
            if config.item.kind == ItemKind::Image {
                let m = "the data set has no pictures; import it with --images";
                return Err(Error::config("item.kind", m));
            }
            let (side, _) = pre.output();
            return Ok(Pixels::new(PixelStore::in_memory(vec![], side, &pre), vec![None; self.texts.len()]));
        };
        let store = PixelStore::open(file, self.data, &pre, on_progress)?;
        let most = file.items().iter().max().map_or(0, |&i| i as usize + 1);
        let places = file.places(most);
        let of = |i: usize| places.get(i).copied().flatten();
        let place = match self.items.is_empty() {
            true => (0..self.texts.len()).map(of).collect(),
            false => self.items.iter().map(|&i| of(i as usize)).collect(),
        };
        Ok(Pixels::new(store, place))
    }
    /// The modalities of each item that a model with several modalities uses. In a mixture, for an item that has both,
    /// one is chosen at random, determined by the seed and its raw id.
    fn used(&self, config: &Config, f: &Features) -> Vec<ModalitySet> {
        let mixture = config.item.fusion == Fusion::Mixture;
        let has = |m: Modality, i: usize| match m {
            Modality::Text => !self.texts[i].trim().is_empty(),
            Modality::Image => f.pixels().is_some_and(|p| p.has(i)),
        };
        (0..self.texts.len())
            .map(|i| {
                let there: Vec<Modality> = Modality::ALL.into_iter().filter(|&m| has(m, i)).collect();
                if !mixture || there.len() < 2 {
                    return there.into_iter().collect();
                }
                let id = self.ids.get(i).map_or("", String::as_str);
                let image = Stream::new(config.seed, &format!("mixture/{id}")).uniform() < config.item.image_share;
                [if image { Modality::Image } else { Modality::Text }].into_iter().collect()
            })
            .collect()
    }
}
