//! Corpus of a text distillation: catalogues and text files, each distinct text once, a share held out.

use crate::data::Dataset;
use crate::distill::holdout::is_held_out;
use crate::error::{DataError, Result};
use crate::rng::Stream;
use std::collections::HashSet;
use std::path::PathBuf;

/// Training texts and held-out texts.
#[derive(Debug, Clone, Default)]
pub struct TextCorpus {
    /// Training titles, followed by random crops of them.
    pub train: Vec<String>,
    /// Held-out titles, of which no crop is trained on either.
    pub held_out: Vec<String>,
    /// Digest of each data source, by name.
    pub sources: Vec<(String, String)>,
}

impl TextCorpus {
    /// Reads the items' texts of data set folders and the lines of text files. About `share` of the distinct texts is
    /// held out, chosen by the text itself, so that adding a source moves no text from one side to the other. Each
    /// training text also brings `crops` random runs of at least three of its words.
    pub fn read(data: &[PathBuf], files: &[PathBuf], share: f64, crops: usize, seed: u64) -> Result<Self> {
        let mut out = Self::default();
        let mut seen = HashSet::new();
        let mut texts = vec![];
        let mut add = |t: &str| {
            let t = t.trim();
            if !t.is_empty() && seen.insert(t.to_lowercase()) {
                texts.push(t.to_string());
            }
        };
        for dir in data {
            let d = Dataset::open(dir)?;
            d.items.text.iter().for_each(|t| add(t));
            out.sources.push((d.name.clone(), d.digest.clone()));
        }
        for path in files {
            let text = crate::fsio::read_data_text(path)?;
            text.lines().for_each(&mut add);
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            out.sources.push((name, crate::fsio::sha256_bytes(text.as_bytes())));
        }
        let (mut held, mut train) = (vec![], vec![]);
        for t in texts {
            if is_held_out(&t.to_lowercase(), share, seed) { held.push(t) } else { train.push(t) }
        }
        if train.len() < 2 {
            let from = data.first().or(files.first()).cloned().unwrap_or_default();
            return Err(DataError::new(&from, "fewer than two distinct texts to learn from")
                .remedy("add data sets with --data or text files with --texts")
                .into());
        }
        let mut stream = Stream::new(seed, "crops");
        let mut parts = vec![];
        for t in &train {
            let words: Vec<&str> = t.split_whitespace().collect();
            for _ in 0..if words.len() > 3 { crops } else { 0 } {
                let n = 3 + stream.below(words.len() as u64 - 3) as usize;
                let at = stream.below((words.len() - n) as u64 + 1) as usize;
                let part = words[at..at + n].join(" ");
                if seen.insert(part.to_lowercase()) {
                    parts.push(part);
                }
            }
        }
        out.held_out = held;
        out.train = train;
        out.train.append(&mut parts);
        Ok(out)
    }
}
