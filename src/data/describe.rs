//! Statistics of a data set: sizes, history lengths, popularity, cold items, equal timestamps, leakage, text.
//!
//! Statistics that need a split use leave-one-out: a user's last event is the test event, the one before it the
//! validation event, the others are training events. Users with fewer than three events have training events only.

use super::dataset::Dataset;
use super::text;
use super::time;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Display, Formatter};

/// Upper bounds of the histogram's bins, inclusive; the last bin is unbounded.
const BINS: [usize; 9] = [2, 4, 9, 19, 49, 99, 199, 499, usize::MAX];

/// Distribution of a count. Quartiles are interpolated linearly between order statistics.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Distribution {
    /// Minimum.
    pub min: usize,
    /// First quartile.
    pub q1: f64,
    /// Median.
    pub median: f64,
    /// Third quartile.
    pub q3: f64,
    /// Mean.
    pub mean: f64,
    /// Maximum.
    pub max: usize,
}

impl Distribution {
    /// Computes the distribution of values in any order; `None` if there are no values.
    pub fn of(mut values: Vec<usize>) -> Option<Self> {
        values.sort_unstable();
        let (&min, &max) = (values.first()?, values.last()?);
        let at = |p: f64| {
            let x = p * (values.len() - 1) as f64;
            let (low, high) = (values[x.floor() as usize] as f64, values[x.ceil() as usize] as f64);
            low + (high - low) * x.fract()
        };
        let mean = values.iter().sum::<usize>() as f64 / values.len() as f64;
        Some(Self { min, q1: at(0.25), median: at(0.5), q3: at(0.75), mean, max })
    }
}

/// Histogram bin: number of users whose number of events lies between two bounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bin {
    /// Minimum number of events, inclusive.
    pub from: usize,
    /// Maximum number of events, inclusive; `None`: unbounded.
    pub to: Option<usize>,
    /// Number of users.
    pub users: usize,
}

/// Items without any training event, under leave-one-out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cold {
    /// Number of cold items.
    pub items: usize,
    /// Share of cold items in the catalogue.
    pub item_share: f64,
    /// Number of users with a test event.
    pub targets: usize,
    /// Share of test events whose item is cold; an ID model cannot learn such an item.
    pub target_share: f64,
}

/// Statistics that need timestamps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Times {
    /// First timestamp, seconds since 1970.
    pub first: i64,
    /// Last timestamp, seconds since 1970.
    pub last: i64,
    /// Share of users (of those with two or more events) whose last two timestamps are equal: their test item depends on
    /// the order of rows in the file.
    pub tie_share: f64,
    /// Share of training events (of all users) that are strictly later than a user's test event, averaged over the
    /// users with one: the share of training data from after the time of the test. ML-100K: 41.3 %.
    pub leaked_share: f64,
}

/// Statistics of repeated interactions of a user with the same item.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Repeats {
    /// Number of users with more than one interaction with an item.
    pub users: usize,
    /// Share of users with more than one interaction with an item.
    pub share: f64,
    /// Number of interactions after a user's first one with the item.
    pub events: usize,
}

/// Statistics of the items' text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Text {
    /// Number of items with text.
    pub items: usize,
    /// Share of items with text.
    pub share: f64,
    /// Words per item, over items with text.
    pub words: Option<Distribution>,
    /// Number of items with the same text, ignoring case, as an item of lower index.
    pub duplicates: usize,
}

/// Popular item.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Popular {
    /// Raw item id.
    pub id: String,
    /// Number of interactions with the item.
    pub events: usize,
    /// Text of the item.
    pub text: String,
}

/// Coverage of an attribute.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Attribute {
    /// Number of rows with a value.
    pub filled: usize,
    /// Number of distinct values.
    pub distinct: usize,
}

/// Statistics of a data set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Description {
    /// Name of the data set.
    pub name: String,
    /// Digest of the folder's content.
    pub digest: String,
    /// Number of users.
    pub users: usize,
    /// Number of items, with or without events.
    pub items: usize,
    /// Number of interactions.
    pub interactions: usize,
    /// Density: share of (user, item) pairs with at least one interaction.
    pub density: f64,
    /// Distribution of the number of events per user.
    pub lengths: Option<Distribution>,
    /// Histogram of the number of events per user.
    pub histogram: Vec<Bin>,
    /// Number of items without interactions.
    pub items_unused: usize,
    /// Number of items with exactly one interaction.
    pub items_once: usize,
    /// Number of items with one to four interactions.
    pub items_below_5: usize,
    /// The five items with the most interactions; ties are ordered by item index.
    pub popular: Vec<Popular>,
    /// Statistics of cold items; `None` if no user has three events.
    pub cold: Option<Cold>,
    /// Statistics of timestamps; `None` without timestamps.
    pub times: Option<Times>,
    /// Statistics of repeated interactions.
    pub repeats: Repeats,
    /// Statistics of the items' text.
    pub text: Text,
    /// Number of items with an image; `None` if the data set has no images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pictures: Option<usize>,
    /// Coverage of the items' attributes, by name.
    pub item_attributes: BTreeMap<String, Attribute>,
    /// Coverage of the users' attributes, by name.
    pub user_attributes: BTreeMap<String, Attribute>,
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl Description {
    /// Computes the description of a data set.
    pub fn of(d: &Dataset) -> Self {
        let items = d.items.ids.len();
        let mut events = vec![0usize; items];
        for &i in &d.seqs.values {
            events[i as usize] += 1;
        }
        let lengths: Vec<usize> = d.seqs.rows().map(<[u32]>::len).collect();
        let mut order: Vec<usize> = (0..items).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(events[i]));
        let popular = order.iter().take(5).filter(|&&i| events[i] > 0).map(|&i| Popular {
            id: d.items.ids[i].clone(),
            events: events[i],
            text: d.items.text[i].clone(),
        });
        let repeats = repeats(d);
        Self {
            name: d.name.clone(),
            digest: d.digest.clone(),
            users: d.users.len(),
            items,
            interactions: d.seqs.values.len(),
            density: share(d.seqs.values.len() - repeats.events, d.users.len() * items),
            histogram: histogram(&lengths),
            lengths: Distribution::of(lengths),
            items_unused: events.iter().filter(|&&n| n == 0).count(),
            items_once: events.iter().filter(|&&n| n == 1).count(),
            items_below_5: events.iter().filter(|&&n| (1..5).contains(&n)).count(),
            popular: popular.collect(),
            cold: cold(d),
            times: d.times.as_ref().and_then(|t| times(d, t)),
            repeats,
            text: describe_text(d),
            pictures: d.images.as_ref().map(|f| f.count()),
            item_attributes: attributes(&d.items.attributes),
            user_attributes: attributes(&d.user_attributes),
        }
    }
}

fn histogram(lengths: &[usize]) -> Vec<Bin> {
    let mut from = 0;
    let mut bins: Vec<Bin> = BINS
        .iter()
        .map(|&to| {
            let users = lengths.iter().filter(|&&n| (from..=to).contains(&n)).count();
            let bin = Bin { from, to: (to != usize::MAX).then_some(to), users };
            from = to.saturating_add(1);
            bin
        })
        .collect();
    while bins.len() > 1 && bins.last().is_some_and(|b| b.users == 0) {
        bins.pop();
    }
    let empty = bins.iter().take_while(|b| b.users == 0).count().min(bins.len() - 1);
    bins.drain(..empty);
    bins
}

/// Training events of a user's history.
fn train(row: &[u32]) -> &[u32] {
    if row.len() < 3 { row } else { &row[..row.len() - 2] }
}

fn cold(d: &Dataset) -> Option<Cold> {
    let mut warm = vec![false; d.items.ids.len()];
    for row in d.seqs.rows() {
        for &i in train(row) {
            warm[i as usize] = true;
        }
    }
    let targets: Vec<u32> = d.seqs.rows().filter(|r| r.len() >= 3).map(|r| r[r.len() - 1]).collect();
    let items = warm.iter().filter(|w| !**w).count();
    let missed = targets.iter().filter(|&&i| !warm[i as usize]).count();
    (!targets.is_empty()).then(|| Cold {
        items,
        item_share: share(items, warm.len()),
        targets: targets.len(),
        target_share: share(missed, targets.len()),
    })
}

fn times(d: &Dataset, all: &[i64]) -> Option<Times> {
    let rows = || d.seqs.offsets.windows(2).map(|w| &all[w[0]..w[1]]);
    let (mut ties, mut pairs) = (0, 0);
    let (mut train, mut tests) = (Vec::new(), Vec::new());
    for row in rows() {
        if let [.., a, b] = row {
            pairs += 1;
            ties += usize::from(a == b);
        }
        let kept = if row.len() < 3 { row.len() } else { row.len() - 2 };
        train.extend_from_slice(&row[..kept]);
        tests.extend(row.last().filter(|_| row.len() >= 3));
    }
    train.sort_unstable();
    let later = |t: &i64| share(train.len() - train.partition_point(|x| x <= t), train.len());
    let leaked = (0.0 + tests.iter().map(later).sum::<f64>()) / tests.len().max(1) as f64;
    Some(Times {
        first: *all.iter().min()?,
        last: *all.iter().max()?,
        tie_share: share(ties, pairs),
        leaked_share: leaked,
    })
}

fn repeats(d: &Dataset) -> Repeats {
    let (mut users, mut events) = (0, 0);
    let mut seen = HashSet::new();
    for row in d.seqs.rows() {
        seen.clear();
        seen.extend(row.iter().copied());
        users += usize::from(seen.len() < row.len());
        events += row.len() - seen.len();
    }
    Repeats { users, share: share(users, d.users.len()), events }
}

fn describe_text(d: &Dataset) -> Text {
    let filled: Vec<&String> = d.items.text.iter().filter(|t| !t.trim().is_empty()).collect();
    let distinct: HashSet<String> = filled.iter().map(|t| t.to_lowercase()).collect();
    Text {
        items: filled.len(),
        share: share(filled.len(), d.items.ids.len()),
        words: Distribution::of(filled.iter().map(|t| text::words(t)).collect()),
        duplicates: filled.len() - distinct.len(),
    }
}

fn attributes(columns: &BTreeMap<String, Vec<String>>) -> BTreeMap<String, Attribute> {
    let one = |values: &Vec<String>| {
        let filled: Vec<&String> = values.iter().filter(|v| !v.is_empty()).collect();
        let distinct: HashSet<&String> = filled.iter().copied().collect();
        Attribute { filled: filled.len(), distinct: distinct.len() }
    };
    columns.iter().map(|(n, v)| (n.clone(), one(v))).collect()
}

impl Display for Distribution {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "min {}  q1 {}  median {}  q3 {}", self.min, self.q1, self.median, self.q3)?;
        write!(f, "  mean {:.2}  max {}", self.mean, self.max)
    }
}

impl Display for Description {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut line = |label: &str, value: String| writeln!(f, "{label:<24}{value}");
        let percent = |x: f64| format!("{:.1} %", 100.0 * x);
        line("data set", self.name.clone())?;
        line("users", self.users.to_string())?;
        line("items", self.items.to_string())?;
        line("interactions", self.interactions.to_string())?;
        line("density", format!("{:.4} %", 100.0 * self.density))?;
        if let Some(s) = &self.lengths {
            line("events a user", s.to_string())?;
        }
        let most = self.histogram.iter().map(|b| b.users).max().unwrap_or(0).max(1);
        for bin in &self.histogram {
            let range = bin.to.map_or(format!("{}+", bin.from), |to| format!("{}–{to}", bin.from));
            line(&format!("  {range}"), format!("{:>8}  {}", bin.users, "█".repeat(bin.users * 40 / most)))?;
        }
        line("items never used", self.items_unused.to_string())?;
        line("items used once", self.items_once.to_string())?;
        line("items used 1–4 times", self.items_below_5.to_string())?;
        if let Some(c) = &self.cold {
            line("cold items", format!("{} ({}) have no training event", c.items, percent(c.item_share)))?;
            line("cold test targets", format!("{} of {}", percent(c.target_share), c.targets))?;
        }
        match &self.times {
            Some(t) => {
                line("time", format!("{} to {}", time::date(t.first), time::date(t.last)))?;
                line(
                    "ties at the end",
                    format!("{} of users: the last two timestamps are equal", percent(t.tie_share)),
                )?;
                let m = "of training events are later than the test event (mean over users)";
                line("leak, leave-one-out", format!("{} {m}", percent(t.leaked_share)))?;
            }
            None => line("time", "an order only, no timestamps".into())?,
        }
        line("repeats", format!("{} users ({}) meet an item again", self.repeats.users, percent(self.repeats.share)))?;
        line("items with text", format!("{} ({})", self.text.items, percent(self.text.share)))?;
        if let Some(s) = &self.text.words {
            line("words a text", s.to_string())?;
        }
        line("duplicate texts", self.text.duplicates.to_string())?;
        if let Some(n) = self.pictures {
            line("items with picture", format!("{n} ({})", percent(n as f64 / self.items.max(1) as f64)))?;
        }
        for (what, columns) in [("item", &self.item_attributes), ("user", &self.user_attributes)] {
            for (name, a) in columns {
                line(&format!("{what}: {name}"), format!("{} filled, {} distinct", a.filled, a.distinct))?;
            }
        }
        line("most popular", String::new())?;
        for p in &self.popular {
            line(&format!("  {}", p.id), format!("{:>8}  {}", p.events, p.text))?;
        }
        Ok(())
    }
}
