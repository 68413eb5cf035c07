//! Splits into training, validation and test events (MoRec's preprocessing; leave-one-out; global temporal split).

use super::{Csr, Dataset};
use crate::config::{DataConfig, SplitKind, Windows};
use crate::error::{Error, Result};
use crate::rng::Stream;

/// One validation or test case: predict the next item after the first events of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// Index of the user's row in [`Split::seqs`].
    pub user: u32,
    /// Length of the history `seqs.row(user)[..until]` (models use its last L events).
    pub until: u32,
    /// Candidate index of the target item.
    pub target: u32,
}

/// A data set split into training, validation and test, over a dense catalogue of candidates.
#[derive(Debug, Clone, Default)]
pub struct Split {
    /// Kind of split.
    pub kind: SplitKind,
    /// Data set item of each candidate.
    pub items: Vec<u32>,
    /// Data set user of each row.
    pub users: Vec<u32>,
    /// Each user's events as candidate indices, oldest first.
    pub seqs: Csr,
    /// Timestamps of the events in the order of `seqs`, if the data set has them.
    pub times: Option<Vec<i64>>,
    /// Number of first events of each row that belong to the training part.
    pub train_len: Vec<u32>,
    /// Validation cases.
    pub valid: Vec<Case>,
    /// Test cases.
    pub test: Vec<Case>,
    /// Number of training events of each candidate.
    pub counts: Vec<u32>,
}

/// Sampling distribution over candidates by share of training events, as cumulative counts.
pub struct Popularity(Vec<u64>);

impl Popularity {
    /// Draws a candidate index.
    pub fn draw(&self, stream: &mut Stream) -> u32 {
        let at = stream.below(self.0.last().copied().unwrap_or(1).max(1));
        self.0.partition_point(|&c| c <= at) as u32
    }
}

impl Split {
    /// Splits `data`; `max_len` is the longest history L.
    pub fn new(data: &Dataset, config: &DataConfig, max_len: usize) -> Result<Self> {
        let mut kept: Vec<u32> = (0..data.users.len() as u32)
            .filter(|&u| data.seqs.row(u as usize).len() >= config.min_user_items.max(1))
            .collect();
        if config.limit_users > 0 {
            kept.truncate(config.limit_users);
        }
        if kept.is_empty() {
            let m = format!("no user of `{}` has at least {} interactions", data.name, config.min_user_items);
            return Err(Error::config("data.min_user_items", m));
        }
        let whole = |u: u32| data.seqs.row(u as usize);
        let tail = |u: u32| {
            let s = whole(u);
            &s[s.len().saturating_sub(max_len + 3)..]
        };
        let mut split = match config.split {
            SplitKind::Morec => Self::leave_one_out(config.split, &kept, tail),
            SplitKind::LeaveOneOut => Self::leave_one_out(config.split, &kept, whole),
            SplitKind::Temporal => Self::temporal(data, config, &kept)?,
        };
        split.times = data.times.as_ref().map(|times| {
            let kept = |(row, &u): (usize, &u32)| {
                // Only the last events of each user are used.
                let end = data.seqs.offsets[u as usize + 1];
                times[end - split.seqs.row(row).len()..end].to_vec()
            };
            split.users.iter().enumerate().flat_map(kept).collect()
        });
        split.make_dense(data, config.split == SplitKind::Morec);
        if split.valid.is_empty() || split.test.is_empty() || split.counts.iter().all(|&c| c == 0) {
            return Err(Error::config(
                "data.split",
                format!("`{}` leaves nothing to train, validate or test on", data.name),
            ));
        }
        Ok(split)
    }

    fn leave_one_out<'d>(kind: SplitKind, users: &[u32], seq: impl Fn(u32) -> &'d [u32]) -> Self {
        let mut s = Self::empty(kind);
        for &u in users {
            let seq = seq(u);
            let row = s.users.len() as u32;
            s.users.push(u);
            s.seqs.push(seq);
            let n = seq.len() as u32;
            s.train_len.push(n.saturating_sub(2));
            if n >= 3 {
                s.valid.push(Case { user: row, until: n - 2, target: seq[n as usize - 2] });
            }
            if n >= 2 {
                s.test.push(Case { user: row, until: n - 1, target: seq[n as usize - 1] });
            }
        }
        s
    }

    /// Splits at two quantiles of all timestamps. A user's case has as target the first event at or after a cut, and as
    /// history all events before the cut.
    fn temporal(data: &Dataset, config: &DataConfig, users: &[u32]) -> Result<Self> {
        let times = data.times.as_ref().ok_or_else(|| {
            Error::config(
                "data.split",
                format!("`{}` has no timestamps; use split = \"leave-one-out\" or \"morec\"", data.name),
            )
        })?;
        let mut sorted: Vec<i64> = times.clone();
        sorted.sort_unstable();
        let at = |share: f64| sorted[((sorted.len() as f64 * share) as usize).min(sorted.len() - 1)];
        let (t1, t2) = (at(config.train_share), at(config.train_share + config.valid_share));
        let mut s = Self::empty(SplitKind::Temporal);
        for &u in users {
            let range = data.seqs.offsets[u as usize]..data.seqs.offsets[u as usize + 1];
            let (seq, time) = (&data.seqs.values[range.clone()], &times[range]);
            let (a, b) = (time.partition_point(|&t| t < t1), time.partition_point(|&t| t < t2));
            let row = s.users.len() as u32;
            s.users.push(u);
            s.seqs.push(seq);
            s.train_len.push(a as u32);
            if a > 0 && a < b {
                s.valid.push(Case { user: row, until: a as u32, target: seq[a] });
            }
            if b > 0 && b < seq.len() {
                s.test.push(Case { user: row, until: b as u32, target: seq[b] });
            }
        }
        Ok(s)
    }

    fn empty(kind: SplitKind) -> Self {
        Self { kind, ..Self::default() }
    }

    /// Maps items to dense candidate indices (items that occur, or all items) and counts training events.
    fn make_dense(&mut self, data: &Dataset, only_seen: bool) {
        let total = data.items.ids.len();
        let mut seen = vec![!only_seen; total];
        self.seqs.values.iter().for_each(|&i| seen[i as usize] = true);
        self.items = (0..total as u32).filter(|&i| seen[i as usize]).collect();
        let mut dense = vec![u32::MAX; total];
        for (c, &i) in self.items.iter().enumerate() {
            dense[i as usize] = c as u32;
        }
        let fix = |i: &mut u32| *i = dense[*i as usize];
        self.seqs.values.iter_mut().for_each(fix);
        self.valid.iter_mut().chain(&mut self.test).for_each(|c| fix(&mut c.target));
        self.counts = vec![0; self.items.len()];
        for (row, &n) in self.seqs.rows().zip(&self.train_len) {
            row[..n as usize].iter().for_each(|&i| self.counts[i as usize] += 1);
        }
    }

    /// Training events of row `user`, as candidate indices.
    pub fn train_row(&self, user: usize) -> &[u32] {
        &self.seqs.row(user)[..self.train_len[user] as usize]
    }
    /// History of a case, as candidate indices.
    pub fn history(&self, case: &Case) -> &[u32] {
        &self.seqs.row(case.user as usize)[..case.until as usize]
    }
    /// Number of training events of all users.
    pub fn train_events(&self) -> u64 {
        self.counts.iter().map(|&c| u64::from(c)).sum()
    }
    /// Sampling distribution over candidates by their share of training events.
    pub fn popularity(&self) -> Popularity {
        let mut sum = 0;
        let cumulated = self.counts.iter().map(|&n| {
            sum += u64::from(n);
            sum
        });
        Popularity(cumulated.collect())
    }
    /// Log share of training events of each candidate, unsmoothed; candidates without training events get the share of
    /// a single event.
    pub fn log_share(&self) -> Vec<f32> {
        let total = self.train_events().max(1) as f64;
        self.counts.iter().map(|&c| (f64::from(c.max(1)) / total).ln() as f32).collect()
    }
    /// Training windows (user, from, to) of at most L+1 events, for each row with at least two training events: the
    /// last window only, or as many as predict each event once. `sliding` windows predict only their last event.
    pub fn windows(&self, max_len: usize, which: Windows, sliding: bool) -> Vec<(u32, u32, u32)> {
        let l = max_len as u32;
        let mut out = vec![];
        for u in 0..self.users.len() as u32 {
            let mut to = self.train_len[u as usize];
            while to >= 2 {
                let from = to.saturating_sub(l + 1);
                out.push((u, from, to));
                to = match (which, sliding) {
                    (Windows::Last, _) => 0,
                    (Windows::All, true) => to - 1,
                    (Windows::All, false) => from + 1,
                };
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(times: Option<Vec<i64>>) -> Dataset {
        let mut seqs = Csr::default();
        seqs.push(&[0, 1, 2, 3, 4, 5]);
        seqs.push(&[5, 4]);
        seqs.push(&[9, 7, 5, 3, 9]);
        let ids = (0..10).map(|i| i.to_string()).collect();
        Dataset {
            items: crate::data::Items { ids, text: vec![String::new(); 10], ..Default::default() },
            users: vec!["a".into(), "b".into(), "c".into()],
            seqs,
            times,
            ..Default::default()
        }
    }

    #[test]
    fn morec_keeps_the_tail_and_leaves_one_out_twice() {
        let s = Split::new(&data(None), &DataConfig::default(), 2).unwrap();
        assert_eq!(s.users, [0, 2]);
        // user a keeps L+3 = 5 items: 1..=5; c keeps all; candidates 1 2 3 4 5 7 9
        assert_eq!(s.items, [1, 2, 3, 4, 5, 7, 9]);
        assert_eq!(s.train_row(0), [0, 1, 2]);
        assert_eq!(s.valid[0], Case { user: 0, until: 3, target: 3 });
        assert_eq!(s.test[1], Case { user: 1, until: 4, target: 6 });
        assert_eq!(s.counts, [1, 1, 1, 0, 1, 1, 1]);
        assert_eq!(s.windows(2, Windows::Last, false), [(0, 0, 3), (1, 0, 3)]);
        assert_eq!(s.windows(1, Windows::Last, false), [(0, 1, 3), (1, 1, 3)]);
        assert_eq!(s.windows(1, Windows::All, false)[..2], [(0, 1, 3), (0, 0, 2)]);
        assert_eq!(s.windows(2, Windows::All, true)[..2], [(0, 0, 3), (0, 0, 2)]);
    }

    #[test]
    fn temporal_trains_on_nothing_later_than_a_test() {
        let times = (0..13).map(|i| [10, 20, 30, 40, 50, 60, 35, 36, 1, 2, 3, 55, 70][i]).collect();
        let config = DataConfig {
            split: SplitKind::Temporal,
            min_user_items: 1,
            train_share: 0.6,
            valid_share: 0.2,
            ..Default::default()
        };
        let s = Split::new(&data(Some(times)), &config, 2).unwrap();
        // sorted: 1 2 3 10 20 30 35 36 40 50 55 60 70; cuts at index 7 (36) and 10 (55)
        assert_eq!(s.train_len, [3, 1, 3]);
        assert_eq!(s.valid, [Case { user: 0, until: 3, target: 3 }, Case { user: 1, until: 1, target: 4 }]);
        assert_eq!(s.test, [Case { user: 0, until: 5, target: 5 }, Case { user: 2, until: 3, target: 3 }]);
        assert!(Split::new(&data(None), &config, 2).unwrap_err().to_string().contains("timestamps"));
    }
}
