//! Validation of model names and revisions before they are used in a path or URL.

use crate::error::{Error, Result};

/// Validated model name: `name` or `owner/name`, each with an optional `@revision`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelName {
    /// Repository id of one or two parts, for example `bert-tiny` or `google/bert_uncased_L-2_H-128_A-2`.
    pub id: String,
    /// Branch, tag or commit if one was given.
    pub revision: Option<String>,
}

impl ModelName {
    /// Parses and validates a model name with an optional `@revision`.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name that could lead out of the cache folder or that no hub accepts: `..`, empty parts,
    /// more than one `/`, backslashes, `--` (the cache's separator), more than 96 characters, characters other than
    /// `A-Za-z0-9._-`.
    pub fn parse(text: &str) -> Result<Self> {
        let (id, revision) = match text.split_once('@') {
            Some((id, revision)) => (id, Some(revision)),
            None => (text, None),
        };
        check_id(id).map_err(|why| {
            Error::Usage(format!(
                "`{}` is neither an existing folder nor a model name: {why} (a name looks like `bert-base-uncased` or \
                 `google-bert/bert-base-uncased@main`)",
                text.escape_debug()
            ))
        })?;
        if let Some(revision) = revision {
            check_revision(revision)?;
        }
        Ok(Self { id: id.into(), revision: revision.map(Into::into) })
    }

    /// Name of the card's folder in `models/`; `None` for names with an owner, which have no such folder.
    pub fn card_name(&self) -> Option<&str> {
        (!self.id.contains('/')).then_some(self.id.as_str())
    }
}

impl std::fmt::Display for ModelName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.id)?;
        self.revision.as_ref().map_or(Ok(()), |r| write!(f, "@{r}"))
    }
}

/// Validates a repository id; the error describes the violation.
pub(super) fn check_id(id: &str) -> Result<(), String> {
    let parts: Vec<&str> = id.split('/').collect();
    if id.len() > 96 {
        return Err("it is longer than 96 characters".into());
    }
    if parts.len() > 2 {
        return Err("it has more than one `/`".into());
    }
    if id.contains("--") {
        return Err("it contains `--`".into());
    }
    for part in parts {
        check_part(part)?;
    }
    Ok(())
}

fn check_part(part: &str) -> Result<(), String> {
    if part.is_empty() {
        return Err("it has an empty part".into());
    }
    if part.contains("..") || part.starts_with(['.', '-']) || part.ends_with(['.', '-']) {
        return Err(format!("`{part}` has `..`, or starts or ends with `.` or `-`"));
    }
    match part.chars().find(|c| !(c.is_ascii_alphanumeric() || "._-".contains(*c))) {
        Some(c) => Err(format!("it contains `{}`", c.escape_debug())),
        None => Ok(()),
    }
}

/// Validates a branch, tag or commit; an inner `/` is allowed (`refs/pr/1`).
pub(super) fn check_revision(revision: &str) -> Result<()> {
    let fine = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && !part.contains("..")
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-+".contains(c))
    };
    if revision.len() <= 128 && revision.split('/').all(fine) {
        return Ok(());
    }
    let shown = revision.escape_debug();
    Err(Error::Usage(format!("`{shown}` is not a revision: use a branch, a tag or a commit, for example `main`")))
}

/// Whether a revision is a full commit id (40 hex digits), whose content never changes.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether a string from a server (commit id, ETag, file name) can safely be used as a file name in the cache.
pub(super) fn is_safe_token(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with('.')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// Whether a name is a plain file name that ends in `.safetensors`, as required for shards in an index file.
pub(super) fn is_shard_name(name: &str) -> bool {
    is_safe_token(name) && name.ends_with(".safetensors")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let n = ModelName::parse("google-bert/bert-base-uncased@refs/pr/1").unwrap();
        assert_eq!((n.id.as_str(), n.revision.as_deref()), ("google-bert/bert-base-uncased", Some("refs/pr/1")));
        assert_eq!(n.to_string(), "google-bert/bert-base-uncased@refs/pr/1");
        assert_eq!(ModelName::parse("bert_uncased_L-2").unwrap().card_name(), Some("bert_uncased_L-2"));
        let bad =
            ["", "../x", "x/..", "/etc", "a/b/c", "a\\b", "a--b", ".hidden", "a b", "a\n", "é", "C:x", "a//b", "~/x"];
        for bad in bad.iter().chain(&["a@", "a@../b", "a@.x", "a@b//c", "a@b?c", "a@b%2F"]) {
            assert!(matches!(ModelName::parse(bad), Err(Error::Usage(_))), "{bad}");
        }
        assert!(ModelName::parse(&"a".repeat(97)).is_err());
    }

    #[test]
    fn what_a_server_may_name() {
        assert!(is_safe_token("0123abcdef") && is_shard_name("model-00001-of-00002.safetensors"));
        for bad in ["", "../a", "a/b", ".", "..", "a\\b", "a b"] {
            assert!(!is_safe_token(bad), "{bad}");
        }
        assert!(!is_shard_name("../model.safetensors") && !is_shard_name("model.bin"));
        assert!(is_commit(&"a1".repeat(20)) && !is_commit("main"));
    }
}
