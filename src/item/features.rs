//! What is known of each item of a catalogue, by modality.

use super::frozen_cache::{FrozenCache, FrozenDepth};
use super::image::{COST, Pixels};
use super::tokens::Tokens;
use crate::config::{ByModality, Modality};
use std::sync::Arc;

/// Content of all items in one modality.
#[derive(Debug, Clone)]
pub enum ModalityContent {
    /// Token ids of their texts.
    Tokens(Tokens),
    /// Their pictures.
    Pixels(Pixels),
}

impl ModalityContent {
    /// The modality it is content of.
    pub fn modality(&self) -> Modality {
        match self {
            Self::Tokens(_) => Modality::Text,
            Self::Pixels(_) => Modality::Image,
        }
    }
    /// Whether an item has this modality. Every item has tokens: of an empty text the special ones.
    pub fn has(&self, item: usize) -> bool {
        match self {
            Self::Tokens(_) => true,
            Self::Pixels(p) => p.has(item),
        }
    }
    /// Cost of encoding an item that has it, in tokens.
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

/// Some of the modalities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ModalitySet(u8);

impl ModalitySet {
    /// Whether it holds a modality.
    pub fn contains(self, modality: Modality) -> bool {
        self.0 & (1 << modality as u8) != 0
    }
    /// Adds a modality.
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

/// What is known of each item of a catalogue, by candidate index.
#[derive(Debug, Clone, Default)]
pub struct Features {
    /// Number of items.
    pub count: usize,
    /// Their content.
    pub content: ByModality<ModalityContent>,
    /// Output of the frozen layers of a modality's encoder.
    pub frozen: ByModality<FrozenCache>,
    /// Which modalities of each item are used, where a model reads several; absent: all that it has.
    pub used: Option<Arc<Vec<ModalitySet>>>,
}

impl Features {
    /// Of `count` items with this content and no other.
    pub fn of(count: usize, content: ModalityContent) -> Self {
        Self { count, content: [(content.modality(), content)].into(), ..Default::default() }
    }
    /// Token ids of the items' texts.
    pub fn tokens(&self) -> Option<&Tokens> {
        match self.content.get(&Modality::Text) {
            Some(ModalityContent::Tokens(t)) => Some(t),
            _ => None,
        }
    }
    /// The items' pictures.
    pub fn pixels(&self) -> Option<&Pixels> {
        match self.content.get(&Modality::Image) {
            Some(ModalityContent::Pixels(p)) => Some(p),
            _ => None,
        }
    }
    /// Whether an item has a modality, and it is used. Text counts as there where nothing says otherwise.
    pub fn has(&self, modality: Modality, item: usize) -> bool {
        let used = self.used.as_ref().is_none_or(|u| u[item].contains(modality));
        used && self.content.get(&modality).map_or(modality == Modality::Text, |c| c.has(item))
    }
    /// Cost of encoding an item, in tokens.
    pub fn cost(&self, item: usize) -> usize {
        let cached = |c: &FrozenCache| match c.depth() {
            // Several hidden states side by side, and as many layers over them.
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
