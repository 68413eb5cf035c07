//! Batches: each distinct item once, and positions into that small table.

use crate::config::Multiplicity;
use crate::data::Split;
use crate::nn::ops::InBatch;
use crate::rng::Stream;
use crate::user::Histories;
use std::collections::HashMap;
use std::sync::Arc;

/// What one training step sees.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The n distinct items (candidate indices), in order of first appearance.
    pub items: Arc<Vec<u32>>,
    /// Position in `items` of each of the t input events, packed.
    pub inputs: Arc<Vec<u32>>,
    /// How the t events are packed.
    pub histories: Histories,
    /// Position in `items` of the next item, for each of the t events.
    pub targets: Vec<u32>,
    /// Which history (row) each of the t events belongs to.
    pub owner: Vec<u32>,
    /// Positions of each history's own items, each once.
    pub own: Vec<Vec<u32>>,
    /// In how many slots (inputs and last targets) each of the n items stands.
    pub slots: Vec<u32>,
}

impl Batch {
    /// From windows of at least two items: inputs are all but the last, targets all but the first.
    pub fn new<'a>(windows: impl IntoIterator<Item = &'a [u32]>, max_len: usize) -> Self {
        let mut place: HashMap<u32, u32> = HashMap::new();
        let (mut items, mut slots) = (vec![], vec![]);
        let (mut inputs, mut targets, mut owner, mut own, mut lengths) = (vec![], vec![], vec![], vec![], vec![]);
        for (row, window) in windows.into_iter().enumerate() {
            let at: Vec<u32> = window
                .iter()
                .map(|&item| {
                    let p = *place.entry(item).or_insert_with(|| {
                        items.push(item);
                        slots.push(0);
                        items.len() as u32 - 1
                    });
                    slots[p as usize] += 1;
                    p
                })
                .collect();
            let l = at.len() - 1;
            inputs.extend_from_slice(&at[..l]);
            targets.extend_from_slice(&at[1..]);
            owner.extend(std::iter::repeat_n(row as u32, l));
            lengths.push(l);
            let mut mine = at;
            mine.sort_unstable();
            mine.dedup();
            own.push(mine);
        }
        Self {
            items: Arc::new(items),
            inputs: Arc::new(inputs),
            histories: Histories::new(lengths, max_len),
            targets,
            owner,
            own,
            slots,
        }
    }
    /// The in-batch softmax of this batch (REFERENCE §4.1): `log_share[c]` = log p of candidate c, or `None` for no
    /// debiasing. A negative standing in m slots weighs m times under [`Multiplicity::Slots`].
    pub fn in_batch(&self, log_share: Option<&[f32]>, multiplicity: Multiplicity) -> InBatch {
        let label_bias: Vec<f32> = self.items.iter().map(|&c| log_share.map_or(0.0, |l| -l[c as usize])).collect();
        let negative_bias = label_bias
            .iter()
            .zip(&self.slots)
            .map(|(&b, &m)| match multiplicity {
                Multiplicity::Slots => b + (m as f32).ln(),
                Multiplicity::Once => b,
            })
            .collect();
        InBatch {
            target: self.targets.clone(),
            owner: self.owner.clone(),
            own: self.own.clone(),
            negative_bias,
            label_bias,
        }
    }
}

/// The order of training windows in one epoch; a cursor into it is all a resumed run needs.
pub struct Epoch<'a> {
    split: &'a Split,
    windows: Vec<(u32, u32, u32)>,
    batch_size: usize,
    max_len: usize,
}

impl<'a> Epoch<'a> {
    /// Epoch number `epoch`, shuffled under `seed`.
    pub fn new(split: &'a Split, seed: u64, epoch: usize, batch_size: usize, max_len: usize) -> Self {
        let mut windows = split.windows(max_len);
        Stream::new(seed, &format!("shuffle/{epoch}")).shuffle(&mut windows);
        Self { split, windows, batch_size, max_len }
    }
    /// Number of batches.
    pub fn len(&self) -> usize {
        self.windows.len().div_ceil(self.batch_size)
    }
    /// Whether there is nothing to train on.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }
    /// The windows of batch `i`.
    pub fn windows(&self, i: usize) -> impl Iterator<Item = &[u32]> {
        let part = &self.windows[i * self.batch_size..((i + 1) * self.batch_size).min(self.windows.len())];
        part.iter().map(|&(u, a, b)| &self.split.seqs.row(u as usize)[a as usize..b as usize])
    }
    /// Batch `i`.
    pub fn batch(&self, i: usize) -> Batch {
        Batch::new(self.windows(i), self.max_len)
    }
}

/// Batches made in advance.
const AHEAD: usize = 2;

impl Epoch<'_> {
    /// Runs `work` with a function that gives batch `from`, then the next, and so on; another thread makes them while
    /// `work` computes.
    pub fn ahead<R>(&self, from: usize, work: impl FnOnce(&mut dyn FnMut() -> Batch) -> R) -> R {
        std::thread::scope(|scope| {
            let (give, take) = std::sync::mpsc::sync_channel(AHEAD);
            scope.spawn(move || (from..self.len()).take_while(|&i| give.send(self.batch(i)).is_ok()).count());
            let mut at = from;
            work(&mut || {
                at += 1;
                // The other thread ends early only with this one.
                take.recv().unwrap_or_else(|_| self.batch(at - 1))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_come_in_order_and_need_not_all_be_taken() {
        let mut seqs = crate::data::Csr::default();
        (0..50u32).for_each(|i| seqs.push(&[i, i + 1, i + 2]));
        let split = Split {
            kind: crate::config::SplitKind::LeaveOneOut,
            items: (0..52).collect(),
            users: (0..50).collect(),
            seqs,
            train_len: vec![3; 50],
            valid: vec![],
            test: vec![],
            counts: vec![1; 52],
        };
        let epoch = Epoch::new(&split, 1, 0, 4, 2);
        assert_eq!(epoch.len(), 13);
        for (from, take) in [(0, 13), (5, 8), (2, 3), (12, 1)] {
            let got = epoch.ahead(from, |next| (0..take).map(|_| next().items).collect::<Vec<_>>());
            assert_eq!(got, (from..from + take).map(|i| epoch.batch(i).items).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_batch_holds_each_item_once() {
        let w: [&[u32]; 2] = [&[7, 3, 7], &[3, 9]];
        let b = Batch::new(w, 4);
        assert_eq!(*b.items, [7, 3, 9]);
        assert_eq!((&**b.inputs, &b.targets[..]), (&[0, 1, 1][..], &[1, 0, 2][..]));
        assert_eq!(b.slots, [2, 2, 1]);
        assert_eq!(b.own, [vec![0, 1], vec![1, 2]]);
        assert_eq!((&**b.histories.slots, &b.owner[..]), (&[2, 3, 3][..], &[0, 0, 1][..]));
        let s = b.in_batch(Some(&[-1.0; 10]), Multiplicity::Slots);
        assert_eq!(s.label_bias, [1.0; 3]);
        assert!((s.negative_bias[0] - 1.0 - 2f32.ln()).abs() < 1e-6 && s.negative_bias[2] == 1.0);
    }
}
