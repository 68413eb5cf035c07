//! Pruning of a tokenizer's vocabulary so that it tokenises a corpus as the teacher's does.
//!
//! Tokens are kept by how often the corpus uses them, with everything a tokenizer needs to stay whole: special tokens
//! first, single characters (so that no word becomes unknown that was not), for byte-pair encodings the parts that
//! kept tokens are merged from.

use crate::error::{Error, Result};
use crate::item::Tokens;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// A pruned tokenizer.
#[derive(Debug, Clone)]
pub struct Pruned {
    /// Text of the pruned `tokenizer.json`.
    pub json: String,
    /// The teacher's token id of each new id.
    pub old_ids: Vec<u32>,
    /// Share of the corpus's tokens that are kept (1: every text is tokenised as before).
    pub coverage: f64,
}

fn wrong(path: &Path, message: impl Into<String>) -> Error {
    Error::model(path, format!("{}; give a WordPiece or BPE tokenizer, or --vocab 0 to keep it whole", message.into()))
}

/// Keeps about `size` tokens of the tokenizer `json` (all that the corpus uses, where that is fewer; 0: the whole
/// vocabulary). `path` is for messages.
pub fn prune(path: &Path, json: &str, corpus: &Tokens, size: usize) -> Result<Pruned> {
    let mut doc: Value = serde_json::from_str(json).map_err(|e| wrong(path, format!("not JSON: {e}")))?;
    let vocab = doc["model"]["vocab"].as_object().ok_or_else(|| wrong(path, "its vocabulary is not a map"))?;
    let ids: HashMap<&str, u32> =
        vocab.iter().filter_map(|(t, id)| Some((t.as_str(), u32::try_from(id.as_u64()?).ok()?))).collect();
    let special: BTreeSet<u32> = doc["added_tokens"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|t| u32::try_from(t["id"].as_u64()?).ok())
        .collect();
    let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
    for i in 0..corpus.len() {
        corpus.row(i).iter().for_each(|&t| *counts.entry(t).or_default() += 1);
    }
    let prefix = doc["model"]["continuing_subword_prefix"].as_str().unwrap_or("##").to_string();
    let merges = merges(&doc);
    let parts = parts(&merges, &ids);
    let mut kept: BTreeSet<u32> = special.clone();
    if size == 0 {
        kept.extend(ids.values());
    }
    // Latin letters, digits, signs: any text in the corpus's script stays readable.
    let single = |t: &str| t.strip_prefix(&prefix).unwrap_or(t).chars().count() == 1;
    let ascii = |t: &str| t.strip_prefix(&prefix).unwrap_or(t).is_ascii();
    let bytes = doc["model"]["type"] == "BPE";
    kept.extend(ids.iter().filter(|(t, _)| single(t) && (bytes || ascii(t))).map(|(_, &id)| id));
    let mut by_use: Vec<(u32, u64)> = counts.iter().map(|(&t, &n)| (t, n)).collect();
    by_use.sort_by_key(|&(t, n)| (std::cmp::Reverse(n), t));
    for (token, _) in by_use {
        if kept.len() >= size {
            break;
        }
        keep(token, &parts, &mut kept);
    }
    // Special tokens first, each group in the teacher's order.
    let old_ids: Vec<u32> =
        special.iter().copied().chain(kept.iter().copied().filter(|t| !special.contains(t))).collect();
    let new: HashMap<u32, u32> = old_ids.iter().enumerate().map(|(n, &o)| (o, n as u32)).collect();
    let total: u64 = counts.values().sum();
    let covered: u64 = counts.iter().filter(|(t, _)| new.contains_key(t)).map(|(_, n)| n).sum();

    let text_of: HashMap<u32, &str> = ids.iter().map(|(&t, &id)| (id, t)).collect();
    let mut fresh = Map::new();
    for (n, old) in old_ids.iter().enumerate() {
        if let Some(t) = text_of.get(old) {
            fresh.insert((*t).to_string(), json!(n));
        }
    }
    let merges: Vec<Value> = merges
        .into_iter()
        .filter(|(a, b)| [a.as_str(), b, &format!("{a}{b}")].iter().all(|t| fresh.contains_key(*t)))
        .map(|(a, b)| json!([a, b]))
        .collect();
    doc["model"]["vocab"] = Value::Object(fresh);
    if doc["model"].get("merges").is_some() {
        doc["model"]["merges"] = Value::Array(merges);
    }
    for t in doc["added_tokens"].as_array_mut().into_iter().flatten() {
        renumber(&mut t["id"], &new);
    }
    renumber_template(&mut doc["post_processor"], &new);
    // Truncation is set by the program that loads the tokenizer.
    doc["padding"] = Value::Null;
    doc["truncation"] = Value::Null;
    let json = serde_json::to_string(&doc).map_err(|e| wrong(path, e.to_string()))?;
    Ok(Pruned { json, old_ids, coverage: covered as f64 / total.max(1) as f64 })
}

/// Adds a token and, for byte-pair encodings, all tokens that it is merged from.
fn keep(token: u32, parts: &HashMap<u32, Vec<u32>>, kept: &mut BTreeSet<u32>) {
    let mut todo = vec![token];
    while let Some(t) = todo.pop() {
        if kept.insert(t) {
            todo.extend(parts.get(&t).into_iter().flatten());
        }
    }
}

/// Merge rules, written `"a b"` or `["a", "b"]`.
fn merges(doc: &Value) -> Vec<(String, String)> {
    let pair = |v: &Value| match v {
        Value::String(s) => s.split_once(' ').map(|(a, b)| (a.to_string(), b.to_string())),
        Value::Array(two) => Some((two.first()?.as_str()?.to_string(), two.get(1)?.as_str()?.to_string())),
        _ => None,
    };
    doc["model"]["merges"].as_array().into_iter().flatten().filter_map(pair).collect()
}

fn parts(merges: &[(String, String)], ids: &HashMap<&str, u32>) -> HashMap<u32, Vec<u32>> {
    let mut all: HashMap<u32, Vec<u32>> = HashMap::new();
    for (a, b) in merges {
        if let (Some(&whole), Some(&x), Some(&y)) = (ids.get(format!("{a}{b}").as_str()), ids.get(&**a), ids.get(&**b))
        {
            all.entry(whole).or_default().extend([x, y]);
        }
    }
    all
}

fn renumber(id: &mut Value, new: &HashMap<u32, u32>) {
    if let Some(n) = id.as_u64().and_then(|o| new.get(&(o as u32))) {
        *id = json!(n);
    }
}

/// Ids inside a post-processor: `ids` lists of a template, `["[SEP]", 102]` pairs of BERT's and RoBERTa's.
fn renumber_template(v: &mut Value, new: &HashMap<u32, u32>) {
    match v {
        Value::Object(map) => {
            for (key, v) in map {
                match (key.as_str(), &mut *v) {
                    ("ids", Value::Array(ids)) => ids.iter_mut().for_each(|i| renumber(i, new)),
                    ("sep" | "cls", Value::Array(pair)) if pair.len() == 2 => renumber(&mut pair[1], new),
                    _ => renumber_template(v, new),
                }
            }
        }
        Value::Array(all) => all.iter_mut().for_each(|v| renumber_template(v, new)),
        _ => {}
    }
}
