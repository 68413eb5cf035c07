//! Cache of a catalogue's token ids in the folder of the data set, so that texts are tokenised once for all runs.
//!
//! The file is a safetensors file with `ids` (tokens) and `lengths` (texts), both U32. Its name contains a digest of
//! the texts, the tokenizer and the maximum length, so that an outdated file is never read.

use super::Tokens;
use crate::error::{Error, Result};
use crate::fsio;
use safetensors::{Dtype, SafeTensors};
use std::io::Write;
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

/// Reads the tokens from the cache, or computes them by [`Tokens::new`] and writes the cache. `json` is the text of the
/// tokenizer's file.
pub fn tokens(
    data: Option<&Path>,
    tokenizer: &Tokenizer,
    json: &str,
    texts: &[impl AsRef<str> + Sync],
    max_tokens: usize,
    lower_case: bool,
) -> Result<Tokens> {
    let make = || Tokens::new(tokenizer, texts, max_tokens, lower_case);
    let Some(data) = data else { return make() };
    let path = cache_path(data, json, texts, max_tokens, lower_case);
    let known = tokenizer.get_vocab_size(true) as u32;
    if let Some(found) = read(&path, texts.len(), max_tokens).filter(|t| t.ids().iter().all(|&i| i < known)) {
        return Ok(found);
    }
    let made = make()?;
    match write(&path, &made) {
        // A read-only or full disk must not stop the run: it goes on without the cache.
        Err(Error::Io { .. }) | Ok(()) => Ok(made),
        Err(e) => Err(e),
    }
}

fn cache_path(data: &Path, json: &str, texts: &[impl AsRef<str>], max_tokens: usize, lower_case: bool) -> PathBuf {
    let mut key = format!("morec tokens 1 {max_tokens} {lower_case} {}\n", fsio::sha256_bytes(json.as_bytes()));
    for t in texts {
        // The length comes first, so that two different lists of texts never give the same key.
        key.push_str(&format!("{} {}\n", t.as_ref().len(), t.as_ref()));
    }
    data.join(".cache").join(format!("tokens-{}.safetensors", &fsio::sha256_bytes(key.as_bytes())[..24]))
}

fn read(path: &Path, texts: usize, max_tokens: usize) -> Option<Tokens> {
    let bytes = std::fs::read(path).ok()?;
    let file = SafeTensors::deserialize(&bytes).ok()?;
    let numbers = |name: &str| {
        let t = file.tensor(name).ok().filter(|t| t.dtype() == Dtype::U32)?;
        Some(t.data().chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect::<Vec<_>>())
    };
    let (ids, lengths) = (numbers("ids")?, numbers("lengths")?);
    let sound = lengths.len() == texts && lengths.iter().all(|&l| l > 0 && l as usize <= max_tokens);
    Tokens::from_parts(ids, &lengths).filter(|_| sound)
}

fn write(path: &Path, tokens: &Tokens) -> Result<()> {
    let lengths: Vec<u32> = (0..tokens.len()).map(|i| tokens.row(i).len() as u32).collect();
    let ids = tokens.ids();
    let header = crate::nn::weights::header(
        &Default::default(),
        &[("ids", "U32", &[ids.len()], 4), ("lengths", "U32", &[lengths.len()], 4)],
    );
    fsio::write_atomic(path, |w| {
        let io = |e| Error::io(path)(e);
        w.write_all(&header).map_err(io)?;
        ids.iter().chain(&lengths).try_for_each(|v| w.write_all(&v.to_le_bytes())).map_err(io)
    })
}
