//! A deep check of a data set folder: digests, ranges and order (errors), ids and text (findings).

use super::dataset::Dataset;
use super::notes::Notes;
use super::text;
use crate::error::{DataError, Result};
use rayon::prelude::*;
use std::collections::HashSet;
use std::path::Path;

/// Checks a data set folder completely; returns findings that do not make the data set unusable.
///
/// # Errors
/// As [`Dataset::open`]; a data error when the folder is damaged: wrong size or digest of a file, index out of range,
/// rows out of order, duplicate id.
pub fn validate(dir: &Path) -> Result<(Dataset, Notes)> {
    let dataset = Dataset::open(dir)?;
    for (what, ids) in [("item", &dataset.items.ids), ("user", &dataset.users)] {
        let mut seen = HashSet::with_capacity(ids.len());
        if let Some(id) = ids.iter().find(|id| !seen.insert(id.as_str())) {
            let e = DataError::new(dir, format!("the {what} id `{id}` occurs twice"));
            return Err(e.remedy("import the data set again (`morec data import … --force`)").into());
        }
    }
    let mut notes = Notes::default();
    let mut texts: HashSet<String> = HashSet::new();
    for (id, t) in dataset.items.ids.iter().zip(&dataset.items.text) {
        if t.trim().is_empty() {
            notes.add("empty_text", "items have no text", || id.clone());
            continue;
        }
        if let Some(problem) = text::problem(t) {
            notes.add("text_problem", "texts look damaged", || format!("{id}: {problem}"));
        }
        if !texts.insert(t.to_lowercase()) {
            notes.add("duplicate_text", "items have the text of an earlier item", || id.clone());
        }
    }
    if let Some(file) = &dataset.images {
        file.each(0, 256, |from, batch| {
            let faults: Vec<_> = batch.par_iter().map(|bytes| crate::picture::check(bytes).err()).collect();
            for (k, fault) in faults.into_iter().enumerate() {
                if let Some(fault) = fault {
                    let id = &dataset.items.ids[file.items()[from + k] as usize];
                    notes.add("bad_images", "pictures cannot be used", || format!("{id} {fault}"));
                }
            }
            Ok(())
        })?;
        let places = file.places(dataset.items.ids.len());
        for (id, _) in dataset.items.ids.iter().zip(&places).filter(|(_, p)| p.is_none()) {
            notes.add("items_without_image", "items have no picture", || id.clone());
        }
    }
    for (u, row) in dataset.seqs.rows().enumerate() {
        if row.is_empty() {
            notes.add("empty_users", "users have no interaction", || dataset.users[u].clone());
        }
    }
    Ok((dataset, notes))
}
