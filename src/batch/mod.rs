//! Batches: a table of the distinct items, and all other fields as positions in that table.

mod epoch;
mod negatives;

pub use epoch::Epoch;
pub use negatives::NegativeSampler;

use crate::config::{Config, Multiplicity, ObjectiveKind, Positions};
use crate::nn::ops::{InBatchTargets, MASKED};
use crate::rng::Stream;
use crate::user::Histories;
use std::collections::HashMap;
use std::sync::Arc;

/// Input of one training step.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The n distinct items (candidate indices) in order of first appearance, or the whole catalogue in its order.
    pub items: Arc<Vec<u32>>,
    /// Position in `items` of each of the t input events, packed; [`MASKED`] for a masked event that must be predicted.
    pub inputs: Arc<Vec<u32>>,
    /// Segments and slots of the t packed events.
    pub histories: Histories,
    /// Indices of the events after which (or at which, if masked) an item is predicted; `None` means after each event.
    pub rows: Option<Arc<Vec<u32>>>,
    /// Position in `items` of the label of each of the p predictions.
    pub targets: Vec<u32>,
    /// Index of the history that each prediction belongs to.
    pub owner: Vec<u32>,
    /// Positions in `items` of each history's own items (from its user's training events), each once.
    pub own: Vec<Vec<u32>>,
    /// Number of slots (inputs and last targets) in which each of the n items occurs.
    pub slots: Vec<u32>,
    /// Positions in `items` of the k negatives sampled for each prediction, prediction by prediction.
    pub negatives: Arc<Vec<u32>>,
}

/// Settings by which windows of events are turned into a batch.
#[derive(Debug, Clone, Copy)]
pub struct BatchSpec {
    positions: Positions,
    mask_share: f64,
    hides: bool,
    slots: usize,
    /// Size of the catalogue, if the batch's table is the whole catalogue.
    whole: Option<usize>,
}

impl BatchSpec {
    /// Takes the settings from a configuration, for a catalogue of `items` candidates.
    pub fn new(c: &Config, items: usize) -> Self {
        Self {
            positions: c.objective.positions(c.user.kind),
            mask_share: c.objective.mask_share,
            hides: c.user.hides(),
            slots: c.user.slots(),
            whole: (c.objective.kind == ObjectiveKind::Full).then_some(items),
        }
    }
    /// Next-item prediction after every event, for histories of at most `slots` events.
    fn next_item(slots: usize) -> Self {
        Self { positions: Positions::All, mask_share: 0.0, hides: false, slots, whole: None }
    }
}

/// Table of a batch's distinct items while it is being built.
struct Table {
    positions: HashMap<u32, u32>,
    items: Vec<u32>,
    slots: Vec<u32>,
    whole: bool,
}

impl Table {
    fn new(whole: Option<usize>) -> Self {
        let n = whole.unwrap_or(0);
        Self { positions: HashMap::new(), items: (0..n as u32).collect(), slots: vec![0; n], whole: whole.is_some() }
    }
    fn position_of(&mut self, item: u32) -> u32 {
        if self.whole {
            return item;
        }
        *self.positions.entry(item).or_insert_with(|| {
            self.items.push(item);
            self.slots.push(0);
            self.items.len() as u32 - 1
        })
    }
}

impl Batch {
    /// Builds a next-item batch from windows of at least two items: inputs are all items but the last, targets all but
    /// the first.
    pub fn new<'a>(windows: impl IntoIterator<Item = &'a [u32]>, max_len: usize) -> Self {
        let windows: Vec<(u32, &[u32])> = windows.into_iter().map(|w| (0, w)).collect();
        Self::build(&windows, &BatchSpec::next_item(max_len), None, &mut Stream::new(0, ""))
    }

    /// Adds to each history's own items those of its user's training events outside the window whose items are in this
    /// batch.
    pub(crate) fn add_own_items<'e>(&mut self, windows: &[(u32, &[u32])], events: impl Fn(u32) -> &'e [u32]) {
        let longer = |(user, window): &(u32, &[u32])| events(*user).len() > window.len();
        if !windows.iter().any(longer) {
            return;
        }
        let positions: HashMap<u32, u32> = self.items.iter().enumerate().map(|(p, &i)| (i, p as u32)).collect();
        for ((user, _), own) in windows.iter().zip(&mut self.own).filter(|(w, _)| longer(w)) {
            own.extend(events(*user).iter().filter_map(|i| positions.get(i)));
            own.sort_unstable();
            own.dedup();
        }
    }

    /// Builds a batch from (user, window of at least two items); `stream` determines masked positions and sampled
    /// negatives.
    pub fn build(
        windows: &[(u32, &[u32])],
        spec: &BatchSpec,
        sampler: Option<&NegativeSampler>,
        stream: &mut Stream,
    ) -> Self {
        let mut table = Table::new(spec.whole);
        let (mut inputs, mut rows, mut targets, mut owner) = (vec![], vec![], vec![], vec![]);
        let (mut own, mut lengths) = (vec![], vec![]);
        for (row, (_, window)) in windows.iter().enumerate() {
            let at: Vec<u32> = window.iter().map(|&i| table.position_of(i)).collect();
            at.iter().for_each(|&p| table.slots[p as usize] += 1);
            let (first, last) = (inputs.len(), at.len() - 1);
            if spec.hides {
                let mut hidden: Vec<usize> = match spec.positions {
                    Positions::Masked => (0..=last).filter(|_| stream.uniform() < spec.mask_share).collect(),
                    _ => vec![last],
                };
                if hidden.is_empty() {
                    hidden.push(stream.below(at.len() as u64) as usize);
                }
                inputs.extend_from_slice(&at);
                for i in hidden {
                    inputs[first + i] = MASKED;
                    rows.push((first + i) as u32);
                    targets.push(at[i]);
                }
            } else {
                inputs.extend_from_slice(&at[..last]);
                let from = if spec.positions == Positions::Last { last - 1 } else { 0 };
                rows.extend((from..last).map(|i| (first + i) as u32));
                targets.extend_from_slice(&at[from + 1..]);
            }
            owner.resize(targets.len(), row as u32);
            lengths.push(inputs.len() - first);
            let mut mine = at;
            mine.sort_unstable();
            mine.dedup();
            own.push(mine);
        }
        let negatives = match sampler {
            None => vec![],
            Some(d) => d.draw(windows, &owner, stream).into_iter().map(|i| table.position_of(i)).collect(),
        };
        let every = rows.len() == inputs.len();
        Self {
            items: Arc::new(table.items),
            inputs: Arc::new(inputs),
            histories: Histories::new(lengths, spec.slots).of(windows.iter().map(|w| w.0).collect()),
            rows: (!every).then(|| Arc::new(rows)),
            targets,
            owner,
            own,
            slots: table.slots,
            negatives: Arc::new(negatives),
        }
    }
    /// Targets of the in-batch softmax of this batch (REFERENCE §4.1). `log_share[c]` is log p of candidate c; `None`
    /// means no debiasing. Under [`Multiplicity::Slots`] a negative that occurs in m slots has weight m.
    pub fn in_batch_targets(&self, log_share: Option<&[f32]>, multiplicity: Multiplicity) -> InBatchTargets {
        let label_bias: Vec<f32> = self.items.iter().map(|&c| log_share.map_or(0.0, |l| -l[c as usize])).collect();
        let negative_bias = label_bias
            .iter()
            .zip(&self.slots)
            .map(|(&b, &m)| match multiplicity {
                Multiplicity::Slots => b + (m.max(1) as f32).ln(),
                Multiplicity::Once => b,
            })
            .collect();
        InBatchTargets {
            target: self.targets.clone(),
            owner: self.owner.clone(),
            own: self.own.clone(),
            negative_bias,
            label_bias,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_holds_each_item_once() {
        let w: [&[u32]; 2] = [&[7, 3, 7], &[3, 9]];
        let b = Batch::new(w, 4);
        assert_eq!(*b.items, [7, 3, 9]);
        assert_eq!((&**b.inputs, &b.targets[..]), (&[0, 1, 1][..], &[1, 0, 2][..]));
        assert_eq!(b.slots, [2, 2, 1]);
        assert_eq!(b.own, [vec![0, 1], vec![1, 2]]);
        assert_eq!((&**b.histories.slots, &b.owner[..]), (&[2, 3, 3][..], &[0, 0, 1][..]));
        let s = b.in_batch_targets(Some(&[-1.0; 10]), Multiplicity::Slots);
        assert_eq!(s.label_bias, [1.0; 3]);
        assert!((s.negative_bias[0] - 1.0 - 2f32.ln()).abs() < 1e-6 && s.negative_bias[2] == 1.0);
    }

    #[test]
    fn items_of_older_events_are_own_too() {
        let windows: [(u32, &[u32]); 2] = [(0, &[4, 5]), (1, &[9, 4, 8])];
        let mut b = Batch::build(&windows, &BatchSpec::next_item(4), None, &mut Stream::new(0, ""));
        assert_eq!(b.own, [vec![0, 1], vec![0, 2, 3]]);
        let all: [&[u32]; 2] = [&[8, 7, 4, 5], &[9, 4, 8]];
        b.add_own_items(&windows, |u| all[u as usize]);
        assert_eq!(b.own, [vec![0, 1, 3], vec![0, 2, 3]]);
    }
}
