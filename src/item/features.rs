//! Content of the items of a catalogue, by modality.

use super::frozen_cache::{FrozenCache, FrozenDepth};
use super::image::{COST, Pixels};
use super::tokens::Tokens;
use crate::config::{ByModality, Modality};
use std::sync::Arc;

/// Content of all items in one modality.
#[derive(Debug, Clone)]
pub enum ModalityContent {
    /// Token ids of the items' texts.
    Tokens(Tokens),
    /// Pixels of the items' images.
    Pixels(Pixels),
}

impl ModalityContent {
    /// Modality of this content.
    pub fn modality(&self) -> Modality {
        match self {
            Self::Tokens(_) => Modality::Text,
            Self::Pixels(_) => Modality::Image,
        }
    }
    /// Whether an item has this modality. Every item has tokens; an empty text has the special tokens only.
    pub fn has(&self, item: usize) -> bool {
        match self {
            Self::Tokens(_) => true,
            Self::Pixels(p) => p.has(item),
        }
    }
    /// Cost of encoding an item that has this modality, in tokens.
    pub fn cost(&self, item: usize) -> usize {
        match self {
            Self::Tokens(t) => t.row(item).len(),
            Self::Pixels(_) => COST,
        }
    }
    /// Digest of the content of all items.
    pub fn digest(&self) -> String {
        match self {
            Self::Tokens(t) => t.digest(),
            Self::Pixels(p) => p.digest(),
        }
    }
}

/// A set of modalities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ModalitySet(u8);

impl ModalitySet {
    /// Whether the set contains a modality.
    pub fn contains(self, modality: Modality) -> bool {
        self.0 & (1 << modality as u8) != 0
    }
    /// Adds a modality to the set.
    pub fn insert(&mut self, modality: Modality) {
        self.0 |= 1 << modality as u8;
    }
}

impl FromIterator<Modality> for ModalitySet {
    fn from_iter<I: IntoIterator<Item = Modality>>(modalities: I) -> Self {
        let mut set = Self::default();
        modalities.into_iter().for_each(|m| set.insert(m));
        set
    }
}

/// Content of each item of a catalogue, by candidate index.
#[derive(Debug, Clone, Default)]
pub struct Features {
    /// Number of items.
    pub count: usize,
    /// Content of the items in each modality.
    pub content: ByModality<ModalityContent>,
    /// Cached output of the frozen layers of each modality's encoder.
    pub frozen: ByModality<FrozenCache>,
    /// Modalities that are used of each item, for models that read several; `None` means all that the item has.
    pub used: Option<Arc<Vec<ModalitySet>>>,
}

impl Features {
    /// Features of `count` items with content in one modality.
    pub fn of(count: usize, content: ModalityContent) -> Self {
        Self { count, content: [(content.modality(), content)].into(), ..Default::default() }
    }
    /// Token ids of the items' texts, if there are any.
    pub fn tokens(&self) -> Option<&Tokens> {
        match self.content.get(&Modality::Text) {
            Some(ModalityContent::Tokens(t)) => Some(t),
            _ => None,
        }
    }
    /// Pixels of the items' images, if there are any.
    pub fn pixels(&self) -> Option<&Pixels> {
        match self.content.get(&Modality::Image) {
            Some(ModalityContent::Pixels(p)) => Some(p),
            _ => None,
        }
    }
    /// Whether an item has a modality and the model uses it. Without any text content, every item counts as having
    /// text.
    pub fn has(&self, modality: Modality, item: usize) -> bool {
        let used = self.used.as_ref().is_none_or(|u| u[item].contains(modality));
        used && self.content.get(&modality).map_or(modality == Modality::Text, |c| c.has(item))
    }
    /// Cost of encoding an item, in tokens.
    pub fn cost(&self, item: usize) -> usize {
        let cached = |c: &FrozenCache| match c.depth() {
            // A side tower reads several hidden states of one row each and has as many layers.
            FrozenDepth::SideTower(_) => 8,
            _ => c.rows_of(item),
        };
        let cost = |m: Modality| match (self.frozen.get(&m), self.content.get(&m)) {
            (Some(c), _) => cached(c),
            (None, Some(c)) if c.has(item) => c.cost(item),
            _ => 0,
        };
        Modality::ALL.into_iter().map(cost).sum::<usize>().max(1)
    }
}
