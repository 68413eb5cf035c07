//! Builder of a data set, used by all import formats: interning of ids, policies, counted warnings, stable sort.
//!
//! Memory per interaction: 16 bytes while reading, 12 more bytes while sorting.

use super::dataset::{Csr, Dataset, Items};
use super::notes::Notes;
use super::policy::{Policy, TimeUnit, UnknownItems};
use super::{text, time};
use crate::error::{DataError, Result};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Maximum number of skipped rows listed in an error.
const LISTED: usize = 5;

/// Markers of missing values that exports of pandas, R, SQL databases and Hive write. (An artist may be called `nan`.)
const NULL_MARKERS: [&str; 8] = ["nan", "NaN", "None", "null", "NULL", "\\N", "<NA>", "NA"];

/// File and line of a row of raw input.
#[derive(Debug, Clone, Copy)]
pub struct SourceLocation<'a> {
    /// Raw file.
    pub file: &'a Path,
    /// 1-based line or row.
    pub line: u64,
}

impl SourceLocation<'_> {
    fn short(&self) -> String {
        let name = self.file.file_name().unwrap_or_default();
        format!("{}:{}", name.to_string_lossy(), self.line)
    }
}

/// Called with a file, the bytes (or rows) read of it, and its size.
pub type ProgressFn<'a> = dyn FnMut(&Path, u64, u64) + 'a;

/// Handling of malformed rows, and progress, while raw files are read.
pub struct ImportSink<'a> {
    limit: u64,
    skipped: u64,
    listed: Vec<String>,
    on_progress: Box<ProgressFn<'a>>,
}

impl ImportSink<'_> {
    /// Reports a malformed row. The row is counted while the policy allows it; otherwise its error stops the import.
    ///
    /// # Errors
    /// The row's error, with the number of rows skipped before it.
    pub fn malformed(&mut self, mut e: DataError) -> Result<()> {
        if self.skipped < self.limit {
            self.skipped += 1;
            if self.listed.len() < LISTED {
                self.listed.push(e.to_string());
            }
            return Ok(());
        }
        if self.limit > 0 {
            e.message = format!(
                "{} (after {} malformed rows skipped, as many as --skip-malformed allows)",
                e.message, self.skipped
            );
        }
        Err(e.into())
    }
    /// Reports the progress of reading a file.
    pub fn on_progress(&mut self, file: &Path, done: u64, total: u64) {
        (self.on_progress)(file, done, total);
    }
}

/// Dense indices for raw ids, in order of first appearance. Each id is held once.
#[derive(Default)]
struct Interner(HashMap<Box<str>, u32>);

impl Interner {
    fn get(&self, id: &str) -> Option<u32> {
        self.0.get(id).copied()
    }
    fn add(&mut self, id: &str) -> u32 {
        if let Some(&i) = self.0.get(id) {
            return i;
        }
        // 2³² ids would need more memory than any machine this runs on.
        let i = u32::try_from(self.0.len()).expect("fewer than 2^32 ids");
        self.0.insert(id.into(), i);
        i
    }
    fn into_ids(self) -> Vec<String> {
        let mut ids = vec![String::new(); self.0.len()];
        for (id, i) in self.0 {
            ids[i as usize] = id.into();
        }
        ids
    }
}

/// Number of timestamps that look like one unit, and the first of them.
#[derive(Default, Clone)]
struct FirstSeen {
    count: u64,
    value: i64,
    file: PathBuf,
    line: u64,
}

/// Collects one data set. Feed items first, then interactions or sequences, then users; then [`Builder::finish`].
pub struct Builder<'a> {
    policy: Policy,
    /// Malformed rows and progress.
    pub intake: ImportSink<'a>,
    notes: Notes,
    items: Interner,
    text: Vec<String>,
    item_columns: Vec<(String, Vec<String>)>,
    /// Number of items of the items file; items with a larger index occur in interactions only.
    known: usize,
    matched: bool,
    users: Interner,
    user_columns: Vec<(String, Vec<String>)>,
    user_rows: Vec<bool>,
    has_sequence: Vec<bool>,
    event_user: Vec<u32>,
    event_item: Vec<u32>,
    event_time: Vec<i64>,
    units: [FirstSeen; 5],
}

/// Names of attribute columns must not collide with those of the tables.
fn attribute_names(names: &[&str], taken: &[&str]) -> Vec<(String, Vec<String>)> {
    let rename = |n: &&str| if taken.contains(n) { format!("{n}_attribute") } else { (*n).to_string() };
    names.iter().map(|n| (rename(n), Vec::new())).collect()
}

impl<'a> Builder<'a> {
    /// An empty builder.
    pub fn new(policy: Policy, on_progress: Box<ProgressFn<'a>>) -> Self {
        let intake = ImportSink { limit: policy.skip_malformed, skipped: 0, listed: Vec::new(), on_progress };
        Self {
            policy,
            intake,
            notes: Notes::default(),
            items: Interner::default(),
            text: Vec::new(),
            item_columns: Vec::new(),
            known: 0,
            matched: false,
            users: Interner::default(),
            user_columns: Vec::new(),
            user_rows: Vec::new(),
            has_sequence: Vec::new(),
            event_user: Vec::new(),
            event_item: Vec::new(),
            event_time: Vec::new(),
            units: Default::default(),
        }
    }

    /// Policy of the import.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }
    /// Counts a finding at a location in the raw files.
    pub fn note(&mut self, kind: &str, message: &str, at: SourceLocation<'_>, what: &str) {
        self.notes.add(kind, message, || if what.is_empty() { at.short() } else { format!("{} {what}", at.short()) });
    }
    fn cleaned(&self, raw: &str) -> String {
        if self.policy.raw_text { raw.to_string() } else { text::clean(raw) }
    }
    /// Trims an id; an empty id is reported as a malformed row.
    fn id<'t>(&mut self, at: SourceLocation<'_>, field: &str, raw: &'t str) -> Result<Option<&'t str>> {
        let id = raw.trim();
        if id.is_empty() {
            let e = DataError::new(at.file, "is empty").line(at.line).field(field);
            self.intake.malformed(e.remedy("give the row an id, or pass `--skip-malformed N`"))?;
            return Ok(None);
        }
        if NULL_MARKERS.contains(&id) {
            let dropped = self.policy.drop_null_ids;
            let message = match dropped {
                true => "rows have an id that means a missing value; dropped",
                false => {
                    "rows have an id that means a missing value in exports; kept as an id like others (--drop-null-ids)"
                }
            };
            self.note("null_ids", message, at, &format!("{field} `{id}`"));
            if dropped {
                return Ok(None);
            }
        }
        Ok(Some(id))
    }

    /// Declares the names of the attributes that [`Builder::item`] receives.
    pub fn item_attributes(&mut self, names: &[&str]) {
        self.item_columns = attribute_names(names, &["item_id", "text"]);
    }

    /// Adds a row of the items file; of several rows with one id the first is kept.
    ///
    /// # Errors
    /// An empty id, unless tolerated.
    pub fn item(&mut self, at: SourceLocation<'_>, id: &str, raw: &str, attributes: &[&str]) -> Result<()> {
        let Some(id) = self.id(at, "item id", id)? else { return Ok(()) };
        let text = self.cleaned(raw);
        if let Some(i) = self.items.get(id) {
            if self.text[i as usize] == text {
                self.note("duplicate_items", "item rows repeat an id; the first is kept", at, id);
            } else {
                let what = format!("{id}: `{}` kept, `{text}` left out", self.text[i as usize]);
                self.note(
                    "conflicting_items",
                    "item rows repeat an id with another text; the first is kept",
                    at,
                    &what,
                );
            }
            return Ok(());
        }
        if text.trim().is_empty() {
            self.note("empty_text", "items have an empty text", at, id);
        }
        self.items.add(id);
        self.text.push(text);
        for (k, value) in attributes.iter().enumerate() {
            let value = self.cleaned(value);
            self.item_columns[k].1.push(value);
        }
        self.known = self.text.len();
        Ok(())
    }

    /// Index of an item that occurs in an interaction; `None` when the policy leaves the interaction out.
    fn item_index(&mut self, at: SourceLocation<'_>, id: &str) -> Result<Option<u32>> {
        if let Some(i) = self.items.get(id)
            && (self.known == 0 || (i as usize) < self.known)
        {
            self.matched = true;
            return Ok(Some(i));
        }
        if self.known == 0 {
            return Ok(Some(self.items.add(id)));
        }
        match self.policy.unknown_items {
            UnknownItems::Keep => {
                self.note(
                    "unknown_items",
                    "interactions are with items that the items file lacks; kept without text",
                    at,
                    id,
                );
                Ok(Some(self.items.add(id)))
            }
            UnknownItems::Drop => {
                self.note("unknown_items", "interactions are with items that the items file lacks; dropped", at, id);
                Ok(None)
            }
            UnknownItems::Error => {
                let e = DataError::new(at.file, format!("item `{id}` is not in the items file"));
                let e = e.line(at.line).field("item id");
                Err(e.remedy("add it there, or pass `--unknown-items keep` or `drop`").into())
            }
        }
    }

    /// Adds one interaction. `time` is in the unit of the policy, or in an unknown one when that is `auto`.
    ///
    /// # Errors
    /// An empty id, unless tolerated; an unknown item when the policy forbids it; timestamps in some rows only.
    pub fn interaction(&mut self, at: SourceLocation<'_>, user: &str, item: &str, time: Option<i64>) -> Result<()> {
        let Some(user) = self.id(at, "user id", user)? else { return Ok(()) };
        let Some(item) = self.id(at, "item id", item)? else { return Ok(()) };
        let Some(item) = self.item_index(at, item)? else { return Ok(()) };
        let timed = self.event_time.len() == self.event_item.len();
        if !self.event_item.is_empty() && timed != time.is_some() {
            let e = DataError::new(at.file, "some interactions have a timestamp and some have none");
            return Err(e
                .line(at.line)
                .field("timestamp")
                .remedy("import them with timestamps throughout, or without")
                .into());
        }
        self.event_user.push(self.users.add(user));
        self.event_item.push(item);
        if let Some(t) = time {
            let seen = &mut self.units[time::unit_of(t).map_or(0, |u| u as usize)];
            if seen.count == 0 {
                *seen = FirstSeen { count: 0, value: t, file: at.file.into(), line: at.line };
            }
            seen.count += 1;
            self.event_time.push(t);
        }
        Ok(())
    }

    /// Adds a user's whole history, oldest first, without timestamps. A user may have one such row.
    ///
    /// # Errors
    /// As [`Builder::interaction`]; a second row for a user, unless tolerated.
    pub fn sequence<'t>(
        &mut self,
        at: SourceLocation<'_>,
        user: &str,
        items: impl Iterator<Item = &'t str>,
    ) -> Result<()> {
        let Some(user) = self.id(at, "user id", user)? else { return Ok(()) };
        if let Some(u) = self.users.get(user)
            && self.has_sequence.get(u as usize) == Some(&true)
        {
            let e = DataError::new(at.file, format!("user `{user}` has a sequence already"));
            let e = e.line(at.line).field("user id");
            let remedy = "import a file with one row a user (of augmented prefixes, only the longest), or pass `--skip-malformed N`";
            return self.intake.malformed(e.remedy(remedy));
        }
        let before = self.event_item.len();
        for item in items {
            self.interaction(at, user, item, None)?;
        }
        if self.event_item.len() == before {
            self.note("empty_sequences", "users have an empty sequence; left out", at, user);
            return Ok(());
        }
        let u = self.users.add(user) as usize;
        self.has_sequence.resize(self.has_sequence.len().max(u + 1), false);
        self.has_sequence[u] = true;
        Ok(())
    }

    /// Declares the names of the attributes that [`Builder::user`] receives.
    pub fn user_attributes(&mut self, names: &[&str]) {
        self.user_columns = attribute_names(names, &["user_id"]);
        for (_, column) in &mut self.user_columns {
            column.resize(self.users.0.len(), String::new());
        }
        self.user_rows = vec![false; self.users.0.len()];
    }

    /// Adds the attributes of a user who has interactions; others are counted and left out.
    ///
    /// # Errors
    /// An empty id, unless tolerated.
    pub fn user(&mut self, at: SourceLocation<'_>, id: &str, attributes: &[&str]) -> Result<()> {
        let Some(id) = self.id(at, "user id", id)? else { return Ok(()) };
        let Some(u) = self.users.get(id) else {
            self.note("idle_users", "users of the users file have no interaction; left out", at, id);
            return Ok(());
        };
        if std::mem::replace(&mut self.user_rows[u as usize], true) {
            self.note("duplicate_users", "user rows repeat an id; the first is kept", at, id);
            return Ok(());
        }
        for (k, value) in attributes.iter().enumerate() {
            self.user_columns[k].1[u as usize] = self.cleaned(value);
        }
        Ok(())
    }

    /// Determines the unit of the timestamps and counts suspicious ones.
    fn unit(&mut self) -> Result<TimeUnit> {
        let all = [TimeUnit::Auto, TimeUnit::S, TimeUnit::Ms, TimeUnit::Us, TimeUnit::Ns];
        let total = self.event_time.len() as u64;
        let place = |s: &FirstSeen| format!("{}:{}", s.file.file_name().unwrap_or_default().to_string_lossy(), s.line);
        let unit = if self.policy.time_unit == TimeUnit::Auto {
            let mut dated: Vec<TimeUnit> =
                all.into_iter().skip(1).filter(|&u| self.units[u as usize].count > 0).collect();
            dated.sort_by_key(|&u| std::cmp::Reverse(self.units[u as usize].count));
            if let [most, .., least] = dated[..] {
                let (a, b) = (&self.units[most as usize], &self.units[least as usize]);
                let m = format!(
                    "{} looks like {}, but {} others look like {} (first at {}:{}: {})",
                    b.value,
                    least.word(),
                    a.count,
                    most.word(),
                    a.file.display(),
                    a.line,
                    a.value
                );
                let e = DataError::new(&b.file, m).line(b.line).field("timestamp");
                return Err(e.remedy("bring them to one unit, or name it with `--time-unit s|ms|us|ns`").into());
            }
            dated.first().copied().unwrap_or(TimeUnit::S)
        } else {
            self.policy.time_unit
        };
        if unit != TimeUnit::S {
            let m = format!("timestamps are in {}; converted to seconds (after sorting)", unit.word());
            self.notes.add_many("converted_timestamps", &m, total);
        }
        for other in all {
            let seen = &self.units[other as usize];
            if other != unit && seen.count > 0 {
                let m = format!("timestamps, read as {}, are not between 1990 and 2100", unit.word());
                let example = format!("{} {}", place(seen), seen.value);
                self.notes.add_many("odd_timestamps", &m, seen.count - 1);
                self.notes.add("odd_timestamps", &m, || example);
            }
        }
        Ok(unit)
    }

    /// Sorts the interactions, applies the remaining policies and returns the data set with the findings.
    ///
    /// # Errors
    /// No interaction at all; none of the items known; timestamps in mixed units.
    pub fn finish(mut self, source: &Path) -> Result<(Dataset, Notes)> {
        if self.event_item.is_empty() {
            let e = DataError::new(source, "holds no interaction that could be kept");
            return Err(e.remedy("check the file, the filters and `--unknown-items`").into());
        }
        if self.known > 0 && !self.matched {
            let e = DataError::new(source, "none of its item ids is in the items file").field("item id");
            return Err(e
                .remedy("check that the columns are not swapped and that the two files belong together")
                .into());
        }
        if self.intake.skipped > 0 {
            let listed = std::mem::take(&mut self.intake.listed);
            self.notes.add_many("malformed_rows", "malformed rows were skipped", self.intake.skipped);
            if let Some(note) = self.notes.0.iter_mut().find(|n| n.kind == "malformed_rows") {
                note.examples = listed;
            }
        }
        let timed = self.event_time.len() == self.event_item.len();
        let unit = if timed { self.unit()? } else { TimeUnit::S };
        let users = self.users.0.len();
        let (mut seqs, mut times) = group(users, &self.event_user, self.event_item, self.event_time);
        if timed {
            sort(&seqs.offsets, &mut seqs.values, &mut times);
            let copies = copies(&mut seqs, &mut times, self.policy.dedup);
            let what = if self.policy.dedup { "dropped" } else { "kept" };
            let m = format!("interactions repeat another one's user, item and timestamp; {what}");
            self.notes.add_many("duplicate_interactions", &m, copies);
            for t in &mut times {
                *t = t.div_euclid(unit.per_second());
            }
        }
        let ids = self.items.into_ids();
        let unknown = ids.len() - self.text.len();
        let what = if self.known == 0 {
            "items have no text: no items file was given"
        } else {
            "items are not in the items file"
        };
        self.notes.add_many("items_without_row", what, unknown as u64);
        self.text.resize(ids.len(), String::new());
        for (_, column) in &mut self.item_columns {
            column.resize(ids.len(), String::new());
        }
        let attributes = self.item_columns.into_iter().collect();
        let dataset = Dataset {
            items: Items { ids, text: self.text, attributes },
            users: self.users.into_ids(),
            user_attributes: self.user_columns.into_iter().collect(),
            seqs,
            times: timed.then_some(times),
            ..Dataset::default()
        };
        Ok((dataset, self.notes))
    }
}

/// Counting sort by user; keeps the order within each user.
fn group(users: usize, user: &[u32], item: Vec<u32>, time: Vec<i64>) -> (Csr, Vec<i64>) {
    let mut offsets = vec![0usize; users + 1];
    for &u in user {
        offsets[u as usize + 1] += 1;
    }
    for u in 0..users {
        offsets[u + 1] += offsets[u];
    }
    let mut next = offsets.clone();
    let mut values = vec![0u32; item.len()];
    let mut times = vec![0i64; time.len()];
    for (n, &u) in user.iter().enumerate() {
        let to = next[u as usize];
        next[u as usize] += 1;
        values[to] = item[n];
        if let Some(t) = time.get(n) {
            times[to] = *t;
        }
    }
    (Csr { offsets, values }, times)
}

/// Stable sort of each user's row by time.
fn sort(offsets: &[usize], values: &mut [u32], times: &mut [i64]) {
    let mut row: Vec<(i64, u32)> = Vec::new();
    for w in offsets.windows(2) {
        let (t, v) = (&mut times[w[0]..w[1]], &mut values[w[0]..w[1]]);
        if t.is_sorted() {
            continue;
        }
        row.clear();
        row.extend(t.iter().copied().zip(v.iter().copied()));
        row.sort_by_key(|e| e.0);
        for (k, (time, item)) in row.iter().enumerate() {
            (t[k], v[k]) = (*time, *item);
        }
    }
}

/// Counts the later copies of equal (user, item, timestamp), and removes them when `drop`.
fn copies(seqs: &mut Csr, times: &mut Vec<i64>, drop: bool) -> u64 {
    let (mut found, mut to) = (0u64, 0usize);
    let mut seen: std::collections::HashSet<u32> = std::collections::HashSet::new();
    for u in 0..seqs.len() {
        let (from, end) = (seqs.offsets[u], seqs.offsets[u + 1]);
        seqs.offsets[u] = to;
        let mut k = from;
        while k < end {
            let run = k + times[k..end].iter().take_while(|&&t| t == times[k]).count();
            seen.clear();
            for n in k..run {
                let copy = run - k > 1 && !seen.insert(seqs.values[n]);
                found += u64::from(copy);
                if !(copy && drop) {
                    seqs.values[to] = seqs.values[n];
                    times[to] = times[n];
                    to += 1;
                }
            }
            k = run;
        }
    }
    if let Some(last) = seqs.offsets.last_mut() {
        *last = to;
    }
    seqs.values.truncate(to);
    times.truncate(to);
    found
}
