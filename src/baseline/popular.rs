//! Popularity baselines: over all training events, or over the latest ones.

use super::Baseline;
use crate::data::Split;

/// Most popular: items ranked by number of training events.
pub struct MostPopular {
    counts: Vec<u32>,
}

impl MostPopular {
    /// Counts the training events of each item.
    pub fn new(split: &Split) -> Self {
        Self { counts: split.counts.clone() }
    }
}

impl Baseline for MostPopular {
    fn score(&self, _: &[u32], out: &mut [f64]) {
        out.iter_mut().zip(&self.counts).for_each(|(o, &c)| *o = f64::from(c));
    }
    fn name(&self) -> &'static str {
        "most popular"
    }
}

/// Share of the training events, latest first, that count as recent.
const RECENT: f64 = 0.1;

/// Recently popular: items ranked by number of events among the latest tenth of all training events; ties by number of
/// all training events.
pub struct RecentPopular {
    scores: Vec<f64>,
}

impl RecentPopular {
    /// Counts recent training events of each item; `None` for data without timestamps.
    pub fn new(split: &Split) -> Option<Self> {
        let times = split.times.as_ref()?;
        let train = || {
            (0..split.users.len()).flat_map(|u| {
                let from = split.seqs.offsets[u];
                from..from + split.train_len[u] as usize
            })
        };
        let mut sorted: Vec<i64> = train().map(|e| times[e]).collect();
        sorted.sort_unstable();
        let cut = *sorted.get(((sorted.len() as f64 * (1.0 - RECENT)) as usize).min(sorted.len().saturating_sub(1)))?;
        let most = f64::from(split.counts.iter().copied().max().unwrap_or(0)) + 1.0;
        let mut scores: Vec<f64> = split.counts.iter().map(|&c| f64::from(c) / most).collect();
        train().filter(|&e| times[e] >= cut).for_each(|e| scores[split.seqs.values[e] as usize] += 1.0);
        Some(Self { scores })
    }
}

impl Baseline for RecentPopular {
    fn score(&self, _: &[u32], out: &mut [f64]) {
        out.copy_from_slice(&self.scores);
    }
    fn name(&self) -> &'static str {
        "recent popular"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Csr;

    #[test]
    fn the_latest_tenth_decides() {
        let mut seqs = Csr::default();
        seqs.push(&[0; 11]);
        seqs.push(&[1, 0, 2, 2, 0, 0, 0, 0, 1, 3]);
        let mut split =
            Split { items: (0..4).collect(), users: vec![0, 1], seqs, train_len: vec![11, 9], ..Split::default() };
        split.counts = vec![16, 2, 2, 0];
        assert!(RecentPopular::new(&split).is_none(), "no times");
        // The two latest of 20 training events are a 2 and a 1; the 3, later still, is not trained on.
        split.times = Some((0..11).chain([0, 1, 2, 90, 4, 5, 6, 7, 91, 99]).collect());
        let mut out = vec![0.0; 4];
        RecentPopular::new(&split).unwrap().score(&[], &mut out);
        assert!(out[1] > 1.0 && out[1] == out[2] && out[0] < 1.0 && out[0] > out[3], "{out:?}");
    }
}
