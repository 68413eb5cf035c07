//! Selection of input files from folders and from files given explicitly.

use crate::error::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Input paths given on the command line.
#[derive(Debug, Clone, Default)]
pub struct InputFiles {
    /// Folders to scan, and files to choose from.
    pub inputs: Vec<PathBuf>,
    /// Explicit interactions (or behaviours, or pairs) file.
    pub interactions: Option<PathBuf>,
    /// Explicit items file.
    pub items: Option<PathBuf>,
    /// Explicit users file.
    pub users: Option<PathBuf>,
}

impl InputFiles {
    /// All files to choose from, with folders expanded.
    ///
    /// # Errors
    /// A path that does not exist.
    fn candidates(&self) -> Result<Vec<PathBuf>> {
        let mut all = Vec::new();
        for input in &self.inputs {
            if input.is_dir() {
                for entry in fs::read_dir(input).map_err(Error::io(input))? {
                    let path = entry.map_err(Error::io(input))?.path();
                    if path.is_file() {
                        all.push(path);
                    }
                }
            } else {
                fs::metadata(input).map_err(Error::io(input))?;
                all.push(input.clone());
            }
        }
        all.sort();
        Ok(all)
    }

    /// Path of a file named by a flag: relative to the working directory, or inside one of the given folders.
    fn named(&self, path: &Path) -> Result<PathBuf> {
        if path.exists() {
            return Ok(path.into());
        }
        let inside = self.inputs.iter().map(|d| d.join(path)).find(|p| p.is_file());
        inside.ok_or_else(|| Error::io(path)(std::io::ErrorKind::NotFound.into()))
    }

    /// File for a role: the one named by `flag`, else the only candidate that `fits` (by file name without `.gz`).
    ///
    /// # Errors
    /// Several candidates, which the message lists. A named file that does not exist.
    pub fn find(&self, flag: &str, explicit: Option<&PathBuf>, fits: impl Fn(&str) -> bool) -> Result<Option<PathBuf>> {
        if let Some(path) = explicit {
            return self.named(path).map(Some);
        }
        let mut fitting = self.candidates()?;
        fitting.retain(|p| {
            let name = p.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
            fits(name.strip_suffix(".gz").unwrap_or(&name))
        });
        if fitting.len() > 1 {
            let list: Vec<String> = fitting.iter().map(|p| p.display().to_string()).collect();
            let m = format!("several files could be the one for {flag}: {}; choose with {flag} FILE", list.join(", "));
            return Err(Error::Usage(m));
        }
        Ok(fitting.pop())
    }

    /// [`InputFiles::find`] for a required role; `wanted` describes the file in the error.
    ///
    /// # Errors
    /// No candidate; the message lists the files that exist.
    pub fn require(
        &self,
        flag: &str,
        explicit: Option<&PathBuf>,
        wanted: &str,
        fits: impl Fn(&str) -> bool,
    ) -> Result<PathBuf> {
        if let Some(path) = self.find(flag, explicit, fits)? {
            return Ok(path);
        }
        let found: Vec<String> = self.candidates()?.iter().take(10).map(|p| p.display().to_string()).collect();
        let found = if found.is_empty() { "no files".into() } else { found.join(", ") };
        Err(Error::Usage(format!("no {wanted} among the inputs ({found}); pass {flag} FILE")))
    }
}
