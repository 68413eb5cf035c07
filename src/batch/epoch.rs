//! Order of the training windows in an epoch, and batches built ahead of their use.

use super::{Batch, BatchSpec, NegativeSampler};
use crate::config::{Config, ObjectiveKind, Positions};
use crate::data::Split;
use crate::rng::Stream;

/// The training windows of one epoch in their shuffled order. A resumed run needs only the index of the next batch.
pub struct Epoch<'a> {
    split: &'a Split,
    windows: Vec<(u32, u32, u32)>,
    batch_size: usize,
    spec: BatchSpec,
    sampler: Option<NegativeSampler<'a>>,
    masks_own: bool,
    seed: u64,
    number: usize,
}

impl<'a> Epoch<'a> {
    /// Builds epoch `number`. The seed of the settings determines its order, the masked positions and the sampled
    /// negatives.
    pub fn new(split: &'a Split, config: &Config, number: usize) -> Self {
        let sliding = config.objective.positions(config.user.kind) == Positions::Last;
        let mut windows = split.windows(config.user.max_len, config.train.windows, sliding);
        Stream::new(config.seed, &format!("shuffle/{number}")).shuffle(&mut windows);
        Self {
            split,
            windows,
            batch_size: config.train.batch_size,
            spec: BatchSpec::new(config, split.items.len()),
            sampler: config.objective.draws().then(|| NegativeSampler::new(split, &config.objective)),
            masks_own: config.objective.kind == ObjectiveKind::InBatch,
            seed: config.seed,
            number,
        }
    }
    /// Number of batches.
    pub fn len(&self) -> usize {
        self.windows.len().div_ceil(self.batch_size)
    }
    /// Whether the epoch has no windows.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }
    /// The windows of batch `i`, each with its user.
    pub fn windows(&self, i: usize) -> impl Iterator<Item = (u32, &[u32])> {
        let part = &self.windows[i * self.batch_size..((i + 1) * self.batch_size).min(self.windows.len())];
        part.iter().map(|&(u, a, b)| (u, &self.split.seqs.row(u as usize)[a as usize..b as usize]))
    }
    /// Builds batch `i`.
    pub fn batch(&self, i: usize) -> Batch {
        let mut stream = Stream::new(self.seed, &format!("batch/{}/{i}", self.number));
        let windows: Vec<_> = self.windows(i).collect();
        let mut batch = Batch::build(&windows, &self.spec, self.sampler.as_ref(), &mut stream);
        if self.masks_own {
            batch.add_own_items(&windows, |u| self.split.train_row(u as usize));
        }
        batch
    }
}

/// Number of batches built in advance.
const AHEAD: usize = 2;

impl Epoch<'_> {
    /// Calls `work` with a function that returns batch `from`, then the next one, and so on; another thread builds the
    /// batches while `work` computes.
    pub fn prefetch<R>(&self, from: usize, work: impl FnOnce(&mut dyn FnMut() -> Batch) -> R) -> R {
        std::thread::scope(|scope| {
            let (give, take) = std::sync::mpsc::sync_channel(AHEAD);
            scope.spawn(move || (from..self.len()).take_while(|&i| give.send(self.batch(i)).is_ok()).count());
            let mut at = from;
            work(&mut || {
                at += 1;
                // The other thread ends early only if this one does.
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
            counts: vec![1; 52],
            ..Split::default()
        };
        let mut config = Config::default();
        (config.train.batch_size, config.user.max_len) = (4, 2);
        let epoch = Epoch::new(&split, &config, 0);
        assert_eq!(epoch.len(), 13);
        for (from, take) in [(0, 13), (5, 8), (2, 3), (12, 1)] {
            let got = epoch.prefetch(from, |next| (0..take).map(|_| next().items).collect::<Vec<_>>());
            assert_eq!(got, (from..from + take).map(|i| epoch.batch(i).items).collect::<Vec<_>>());
        }
    }
}
