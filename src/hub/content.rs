//! Checks whether a model file can be parsed as the format that its name implies. [`verify`](super::verify()) reports
//! the result; a pull deletes a file that fails.

use super::folder::{CONFIG, INDEX, PREPROCESSOR, TOKENIZER};
use super::name::is_shard_name;
use crate::error::{Error, Result};
use safetensors::SafeTensors;
use safetensors::tensor::Metadata;
use std::fs::File;
use std::path::Path;

/// Parsed content of a file, or a description of the defect.
pub(super) type Checked<T> = std::result::Result<T, String>;

/// Reads the header of a safetensors file; checks the header's length, each tensor's offsets and the file's length.
///
/// # Errors
/// [`Error::Model`] when the file is missing or cannot be read; [`Error::Io`] when it cannot be mapped.
pub(super) fn tensors(path: &Path) -> Result<Checked<Metadata>> {
    let file = File::open(path).map_err(Error::model_io(path))?;
    let length = file.metadata().map_err(Error::io(path))?.len();
    if length < 8 {
        return Ok(Err(format!("too short for a safetensors file: {length} bytes")));
    }
    // SAFETY: the map is read-only and dropped in this function. Another program that truncates the file meanwhile
    // is not supported.
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io(path))?;
    let whole = || {
        SafeTensors::deserialize(&map)?;
        SafeTensors::read_metadata(&map).map(|(_, header)| header)
    };
    Ok(whole().map_err(|e: safetensors::SafeTensorError| format!("not a whole safetensors file: {e}")))
}

/// Parses a JSON file.
///
/// # Errors
/// [`Error::Model`] when the file is missing or cannot be read; [`Error::Io`].
pub(super) fn json(path: &Path) -> Result<Checked<serde_json::Value>> {
    let bytes = std::fs::read(path).map_err(Error::model_io(path))?;
    Ok(serde_json::from_slice(&bytes).map_err(|e| format!("not JSON: {e}")))
}

/// Description of the defect of the file at `path` that will be named `name`: an incomplete safetensors header or
/// invalid JSON. `None` for an intact file, and for other file formats.
///
/// # Errors
/// [`Error::Model`] when the file is missing or cannot be read; [`Error::Io`].
pub(super) fn damage(path: &Path, name: &str) -> Result<Option<String>> {
    if is_shard_name(name) {
        return Ok(match tensors(path)? {
            Ok(header) if header.tensors().is_empty() => Some("holds no tensors".into()),
            Ok(_) => None,
            Err(why) => Some(why),
        });
    }
    match [CONFIG, INDEX, TOKENIZER, PREPROCESSOR].contains(&name) {
        true => Ok(json(path)?.err()),
        false => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::damage;

    #[test]
    fn a_file_is_judged_by_what_its_name_promises() {
        let tmp = tempfile::tempdir().unwrap();
        let judged = |name: &str, content: &[u8]| {
            let path = tmp.path().join("x");
            std::fs::write(&path, content).unwrap();
            damage(&path, name).unwrap()
        };
        for bad in
            [&b"{}"[..], b"", &[2, 0, 0, 0, 0, 0, 0, 0, b'{', b'}'], b"version https://git-lfs.github.com/spec/v1\n"]
        {
            assert!(judged("model.safetensors", bad).is_some(), "{bad:?}");
        }
        for (name, bad) in
            [("config.json", &b"<html>"[..]), ("tokenizer.json", b""), ("model.safetensors.index.json", b"{")]
        {
            assert!(judged(name, bad).unwrap().contains("JSON"), "{name}");
        }
        assert_eq!((judged("vocab.txt", b"<html>"), judged("config.json", b"{}")), (None, None));
    }
}
