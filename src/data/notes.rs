//! Counted warnings of an import, with the first few cases as examples.

use serde::{Deserialize, Serialize};

/// Maximum number of examples per finding.
const EXAMPLES: usize = 3;

/// One kind of finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Stable name of the kind, for example `unknown_items`.
    pub kind: String,
    /// Number of occurrences.
    pub count: u64,
    /// Explanation, and how the import handled it.
    pub message: String,
    /// First examples.
    pub examples: Vec<String>,
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} × {}", self.count, self.message)?;
        if !self.examples.is_empty() {
            write!(f, " (for example {})", self.examples.join("; "))?;
        }
        Ok(())
    }
}

/// Findings by kind, in order of first occurrence.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Notes(pub Vec<Note>);

impl Notes {
    /// Counts one case of `kind`; `example` is only called while fewer than the maximum number of examples are stored.
    pub fn add(&mut self, kind: &str, message: &str, example: impl FnOnce() -> String) {
        self.add_many(kind, message, 1);
        if let Some(note) = self.0.iter_mut().find(|n| n.kind == kind)
            && note.examples.len() < EXAMPLES
        {
            note.examples.push(example());
        }
    }
    /// Counts `count` cases of `kind` without examples; does nothing when `count` is 0.
    pub fn add_many(&mut self, kind: &str, message: &str, count: u64) {
        if count == 0 {
            return;
        }
        match self.0.iter_mut().find(|n| n.kind == kind) {
            Some(note) => note.count += count,
            None => {
                self.0.push(Note { kind: kind.into(), count, message: message.into(), examples: Vec::new() });
            }
        }
    }
    /// Number of occurrences of `kind`.
    pub fn count(&self, kind: &str) -> u64 {
        self.0.iter().find(|n| n.kind == kind).map_or(0, |n| n.count)
    }
    /// Whether there are no findings.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// All findings.
    pub fn iter(&self) -> impl Iterator<Item = &Note> {
        self.0.iter()
    }
}
