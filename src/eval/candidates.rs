//! Ranking among sampled candidates, as in older papers. Such metrics are optimistic (Krichene & Rendle 2020), so their
//! names carry the protocol, and the candidates are written to a file that others can use.
//!
//! The file has one line per test case: raw ids of user, target and the n candidates, separated by tabs.

use crate::config::{Sampler, sampled_protocol};
use crate::data::{Case, Split};
use crate::error::{DataError, Error, Result};
use crate::fsio;
use crate::rng::Stream;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// Seed of all samples. It is fixed because the candidates belong to the protocol, not to a run.
const SEED: u64 = 42;

/// Sampled candidates of each case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidates {
    /// Name of the protocol, for example `uni100`.
    pub name: String,
    /// Number of candidates per case.
    pub n: usize,
    /// Candidate indices, `n` consecutive values per case.
    pub rows: Vec<u32>,
}

/// Raw ids of a split's users and candidates.
#[derive(Clone, Copy)]
pub struct IdNames<'a> {
    /// Raw id of user row u.
    pub user: &'a dyn Fn(u32) -> &'a str,
    /// Raw id of candidate i.
    pub item: &'a dyn Fn(u32) -> &'a str,
}

impl Candidates {
    /// Draws n distinct candidates per case, none of which occurs in the user's events.
    pub fn draw(split: &Split, cases: &[Case], name: &str) -> Result<Self> {
        let (sampler, n) = sampled_protocol(name)?;
        let items = split.items.len();
        let popularity = split.popularity();
        let with_events = split.counts.iter().filter(|&&c| c > 0).count();
        let mut rows = Vec::with_capacity(cases.len() * n);
        for (q, case) in cases.iter().enumerate() {
            let own: HashSet<u32> = split.seqs.row(case.user as usize).iter().copied().collect();
            let left = match sampler {
                Sampler::Popularity => with_events - own.iter().filter(|&&i| split.counts[i as usize] > 0).count(),
                _ => items - own.len(),
            };
            if left < n {
                let m = format!("`{name}`: user {} has only {left} items that are not their own", case.user + 1);
                return Err(Error::config("eval.sampled", m));
            }
            let mut stream = Stream::new(SEED, &format!("candidates/{name}/{q}"));
            let mut taken = own;
            while rows.len() < (q + 1) * n {
                let i = match sampler {
                    Sampler::Popularity => popularity.draw(&mut stream),
                    _ => stream.below(items as u64) as u32,
                };
                if taken.insert(i) {
                    rows.push(i);
                }
            }
        }
        Ok(Self { name: name.into(), n, rows })
    }
    /// Candidates of case `q`: n indices.
    pub fn of(&self, q: usize) -> &[u32] {
        &self.rows[q * self.n..(q + 1) * self.n]
    }
    /// Reads `path` if it exists (its lines have to match these cases), else draws the candidates and writes the file.
    /// With `cache`, a failed write is no error, because drawing again gives the same candidates.
    pub fn open(path: &Path, split: &Split, cases: &[Case], name: &str, names: IdNames, cache: bool) -> Result<Self> {
        if path.exists() {
            return Self::read(path, split, cases, name, names);
        }
        let drawn = Self::draw(split, cases, name)?;
        let mut text = String::new();
        for (q, c) in cases.iter().enumerate() {
            let ids = std::iter::once((names.user)(c.user))
                .chain(std::iter::once(&c.target).chain(drawn.of(q)).map(|&i| (names.item)(i)));
            text += &(ids.collect::<Vec<_>>().join("\t") + "\n");
        }
        let dir = path.parent().unwrap_or(Path::new("."));
        let made = std::fs::create_dir_all(dir).map_err(Error::io(dir));
        match made.and_then(|()| fsio::write_bytes(path, text.as_bytes())) {
            Err(Error::Io { .. }) if cache => Ok(drawn),
            done => done.map(|()| drawn),
        }
    }
    fn read(path: &Path, split: &Split, cases: &[Case], name: &str, names: IdNames) -> Result<Self> {
        let (_, n) = sampled_protocol(name)?;
        let remedy = "remove the file to draw the candidates again, or give the one of this data set and split";
        let place: HashMap<&str, u32> = (0..split.items.len() as u32).map(|i| ((names.item)(i), i)).collect();
        let text = fsio::read_data_text(path)?;
        let lines: Vec<&str> = text.lines().collect();
        let bad = |line: usize, field: &str, m: String| {
            Error::from(DataError::new(path, m).line(line as u64 + 1).field(field).remedy(remedy))
        };
        if lines.len() != cases.len() {
            let m = format!("{} lines for {} questions", lines.len(), cases.len());
            return Err(bad(lines.len().min(cases.len()), "user", m));
        }
        let mut rows = Vec::with_capacity(cases.len() * n);
        for (q, (line, case)) in lines.iter().zip(cases).enumerate() {
            let fields: Vec<&str> = line.split('\t').collect();
            if fields.len() != n + 2 {
                return Err(bad(q, "candidates", format!("{} fields instead of {}", fields.len(), n + 2)));
            }
            let (user, target) = ((names.user)(case.user), (names.item)(case.target));
            if fields[0] != user || fields[1] != target {
                let m = format!("user `{}`, target `{}` instead of `{user}`, `{target}`", fields[0], fields[1]);
                return Err(bad(q, "user", m));
            }
            for id in &fields[2..] {
                let i = *place.get(id).ok_or_else(|| bad(q, "candidates", format!("no candidate `{id}`")))?;
                if split.seqs.row(case.user as usize).contains(&i) {
                    return Err(bad(q, "candidates", format!("`{id}` is one of the user's own items")));
                }
                rows.push(i);
            }
        }
        Ok(Self { name: name.into(), n, rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Csr;

    #[test]
    fn drawn_once_and_read_again() {
        let mut seqs = Csr::default();
        seqs.push(&[0, 1, 2]);
        seqs.push(&[3, 3, 4]);
        let split = Split {
            items: (0..9).collect(),
            users: vec![0, 1],
            seqs,
            counts: vec![3, 1, 1, 4, 2, 1, 0, 0, 5],
            ..Split::default()
        };
        let cases = [Case { user: 0, until: 2, target: 2 }, Case { user: 1, until: 2, target: 4 }];
        let ids: Vec<String> = (0..9).map(|i| format!("i{i}")).collect();
        let (user, item) = (|u: u32| ["a", "b"][u as usize], |i: u32| ids[i as usize].as_str());
        let names = IdNames { user: &user, item: &item };
        let dir = tempfile::tempdir().unwrap();
        for (name, file) in [("uni4", "u.tsv"), ("pop3", "p.tsv")] {
            let path = dir.path().join("made").join(file);
            let drawn = Candidates::open(&path, &split, &cases, name, names, false).unwrap();
            for (q, c) in cases.iter().enumerate() {
                let distinct: HashSet<&u32> = drawn.of(q).iter().collect();
                assert_eq!(distinct.len(), drawn.n);
                assert!(drawn.of(q).iter().all(|i| !split.seqs.row(c.user as usize).contains(i)));
            }
            assert_eq!(Candidates::open(&path, &split, &cases, name, names, false).unwrap(), drawn);
            let text = std::fs::read_to_string(&path).unwrap();
            for (from, to, word) in [
                ("b\t", "c\t", ":2: field"),
                ("\n", "\ti1\n", ":1: field"),
                ("a\t", "a\tx\t", "fields"),
                ("i2\ti", "i2\ti1\ti", "fields"),
            ] {
                std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
                let e = Candidates::open(&path, &split, &cases, name, names, false).unwrap_err().to_string();
                assert!(e.contains(word) && e.contains("remove the file"), "{e}");
            }
            std::fs::write(&path, text.lines().next().unwrap()).unwrap();
            assert!(Candidates::open(&path, &split, &cases, name, names, false).is_err(), "half a file");
        }
        let e = Candidates::draw(&split, &cases, "pop5").unwrap_err().to_string();
        assert!(e.contains("eval.sampled") && e.contains("only"), "{e}");
        assert!(Candidates::draw(&split, &cases, "random").is_err());
    }
}
