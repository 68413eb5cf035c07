//! Sampling of negatives: uniform, by popularity, or from the same batch; never one of the user's own training items.

use crate::config::{ObjectiveConfig, Sampler};
use crate::data::Split;
use crate::data::split::Popularity;
use crate::rng::Stream;

/// Number of random draws after which the next item that is not the user's own is taken instead.
const TRIES: usize = 100;

/// Samples negative candidates.
pub struct NegativeSampler<'a> {
    split: &'a Split,
    sampler: Sampler,
    k: usize,
    popularity: Popularity,
}

impl<'a> NegativeSampler<'a> {
    /// Sampler of the kind and with the number k of negatives from the settings.
    pub fn new(split: &'a Split, c: &ObjectiveConfig) -> Self {
        Self { split, sampler: c.sampler, k: c.negatives, popularity: split.popularity() }
    }
    /// Samples k candidates for each prediction, given the (user, window) of each history and the history of each
    /// prediction.
    pub(super) fn draw(&self, windows: &[(u32, &[u32])], owner: &[u32], stream: &mut Stream) -> Vec<u32> {
        let pool: Vec<u32> = match self.sampler {
            Sampler::InBatch => windows.iter().flat_map(|w| w.1).copied().collect(),
            _ => vec![],
        };
        let items = self.split.items.len() as u64;
        let mut out = Vec::with_capacity(owner.len() * self.k);
        let (mut of, mut own): (Option<u32>, Vec<u32>) = (None, vec![]);
        for &row in owner {
            if of != Some(row) {
                own = self.split.train_row(windows[row as usize].0 as usize).to_vec();
                own.sort_unstable();
                own.dedup();
                of = Some(row);
            }
            for _ in 0..self.k {
                let one = |s: &mut Stream| match self.sampler {
                    Sampler::Uniform => s.below(items) as u32,
                    Sampler::InBatch => pool[s.below(pool.len() as u64) as usize],
                    Sampler::Popularity => self.popularity.draw(s),
                };
                let free = |i: &u32| own.binary_search(i).is_err();
                let drawn = (0..TRIES).map(|_| one(stream)).find(free);
                out.push(drawn.unwrap_or_else(|| {
                    // Almost no item is allowed: take the first allowed one after a randomly drawn index.
                    let from = stream.below(items);
                    (0..items).map(|i| ((from + i) % items) as u32).find(free).unwrap_or(from as u32)
                }));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SplitKind;
    use crate::data::Csr;

    #[test]
    fn never_an_own_item_and_as_often_as_it_should() {
        let mut seqs = Csr::default();
        seqs.push(&[0, 1, 2, 9]);
        seqs.push(&[3, 4, 3, 5, 8]);
        let split = Split {
            kind: SplitKind::LeaveOneOut,
            items: (0..10).collect(),
            users: vec![0, 1],
            seqs,
            train_len: vec![3, 4],
            counts: vec![1, 1, 1, 2, 1, 1, 0, 0, 0, 0],
            ..Split::default()
        };
        let windows: [(u32, &[u32]); 2] = [(0, &[0, 1, 2]), (1, &[3, 4, 3, 5])];
        let count = |sampler| {
            let c = ObjectiveConfig { sampler, negatives: 5000, ..Default::default() };
            let drawn = NegativeSampler::new(&split, &c).draw(&windows, &[0, 1], &mut Stream::new(1, "t"));
            let of = |half: &[u32]| (0..10).map(|i| half.iter().filter(|&&d| d == i).count()).collect::<Vec<_>>();
            (of(&drawn[..5000]), of(&drawn[5000..]))
        };
        let near = |n: usize, want: f64| (n as f64 / 5000.0 - want).abs() < 0.03;
        let (a, b) = count(Sampler::Uniform);
        assert!(a[..3] == [0, 0, 0] && a[3..].iter().all(|&n| near(n, 1.0 / 7.0)), "{a:?}");
        assert!(b[3..6] == [0, 0, 0] && near(b[9], 1.0 / 7.0), "{b:?}");
        let (a, b) = count(Sampler::Popularity);
        assert!(near(a[3], 0.5) && near(a[4], 0.25) && a[6..] == [0; 4], "{a:?}");
        assert!(near(b[0], 1.0 / 3.0) && b[3..] == [0; 7], "{b:?}");
        let (a, _) = count(Sampler::InBatch);
        assert!(near(a[3], 0.5) && near(a[5], 0.25) && a[..3] == [0; 3], "{a:?}");
    }
}
