//! Layers of settings: defaults, then TOML files in order, then `-s key=value`. The error for an unknown key names the
//! nearest known key.

use super::Config;
use crate::error::{Error, Result};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// The defaults overlaid with `base`, the TOML files and the overrides. Unknown keys are errors; values are not checked
/// (see [`Config::check`]).
pub fn load(base: &Config, files: &[impl AsRef<Path>], overrides: &[String]) -> Result<Config> {
    let read = |path: &Path| -> Result<(PathBuf, String)> {
        let text = std::fs::read_to_string(path).map_err(|e| match e.kind() {
            ErrorKind::InvalidData | ErrorKind::IsADirectory => {
                Error::config(path.display().to_string(), e.to_string())
            }
            _ => Error::io(path)(e),
        })?;
        Ok((path.into(), text))
    };
    let texts = files.iter().map(|f| read(f.as_ref())).collect::<Result<Vec<_>>>()?;
    merged(base, &texts, overrides)
}

/// Reads the settings of a run or a model from `config.toml` in its folder.
///
/// # Errors
/// [`Error::Model`] when the file is missing or damaged; [`Error::Io`].
pub fn load_stored(dir: &Path) -> Result<Config> {
    let path = dir.join("config.toml");
    let text = crate::fsio::read_model_text(&path)?;
    let config = merged(&Config::default(), &[(path.clone(), text)], &[]).and_then(|c| c.check().map(|()| c));
    config.map_err(|e| match e {
        Error::Config { key, message } => {
            let m = format!("damaged: {key}: {message}; train again, or use the version that wrote it");
            Error::model(&path, m)
        }
        e => e,
    })
}

/// The defaults overlaid with `base`, the texts of TOML files and the overrides.
fn merged(base: &Config, texts: &[(PathBuf, String)], overrides: &[String]) -> Result<Config> {
    let known = table(&Config::default())?;
    let mut all = table(base)?;
    let mut given = [("eval", "ks", false), ("train", "metric", false)];
    let mut mark = |layer: &Table| {
        for (section, key, named) in &mut given {
            *named |= layer.get(*section).and_then(Value::as_table).is_some_and(|s| s.contains_key(*key));
        }
    };
    for (path, text) in texts {
        let layer: Table =
            text.parse().map_err(|e: toml::de::Error| Error::config(path.display().to_string(), e.to_string()))?;
        mark(&layer);
        overlay(&mut all, layer, &known, "", &format!("{}: ", path.display()))?;
    }
    for o in overrides {
        let (key, value) = o.split_once('=').ok_or_else(|| Error::Usage(format!("-s {o}: expected key=value")))?;
        let layer = nest(key.trim(), parse(value.trim()));
        mark(&layer);
        overlay(&mut all, layer, &known, "", "")?;
    }
    let text = toml::to_string(&all).map_err(|e| Error::config("config", e.to_string()))?;
    let mut config: Config = toml::from_str(&text).map_err(|e| {
        let at = e.span().map_or(0, |s| s.start);
        Error::config(key_at(&text, at), e.message().to_string())
    })?;
    [config.eval.ks_given, config.train.metric_given] = given.map(|(_, _, named)| named);
    Ok(config)
}

/// The setting at byte `at` of a TOML text written by this crate.
fn key_at(text: &str, at: usize) -> String {
    let upto = text[at.min(text.len())..].find('\n').map_or(text.len(), |n| at + n);
    let (mut section, mut key) = ("", "config");
    for line in text[..upto].lines() {
        match (line.strip_prefix('['), line.split_once(" = ")) {
            (Some(s), _) if line.ends_with(']') => section = s.trim_end_matches(']'),
            (_, Some((k, _))) => key = k,
            _ => {}
        }
    }
    if section.is_empty() { key.into() } else { format!("{section}.{key}") }
}

/// Serialises all settings as TOML.
pub fn to_toml(config: &Config) -> Result<String> {
    toml::to_string(config).map_err(|e| Error::config("config", e.to_string()))
}

fn table(config: &Config) -> Result<Table> {
    Table::try_from(config).map_err(|e| Error::config("config", e.to_string()))
}

/// Parses a TOML value; text that is no TOML value is a string, so that `-s data.path=datasets/x` needs no quotes.
fn parse(text: &str) -> Value {
    format!("v = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| Value::String(text.into()))
}

fn nest(key: &str, value: Value) -> Table {
    let mut table = Table::new();
    match key.split_once('.') {
        Some((head, rest)) => table.insert(head.into(), Value::Table(nest(rest, value))),
        None => table.insert(key.into(), value),
    };
    table
}

fn overlay(into: &mut Table, layer: Table, known: &Table, path: &str, place: &str) -> Result<()> {
    for (key, value) in layer {
        let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let Some(like) = known.get(&key) else {
            return Err(Error::config(full.clone(), format!("{place}unknown setting{}", nearest(&full))));
        };
        match (into.get_mut(&key), value, like) {
            (Some(Value::Table(t)), Value::Table(v), Value::Table(k)) => overlay(t, v, k, &full, place)?,
            (_, value, like) => {
                let value = match (value, like) {
                    (Value::Integer(i), Value::Float(_)) => Value::Float(i as f64),
                    // Override of a string setting by a number: `-s name=2024`.
                    (v @ (Value::Integer(_) | Value::Float(_) | Value::Boolean(_)), Value::String(_)) => {
                        Value::String(v.to_string())
                    }
                    (v, _) => v,
                };
                if !value.same_type(like) {
                    let m = format!("{place}{} `{value}` where {} is expected", value.type_str(), like.type_str());
                    return Err(Error::config(full, m));
                }
                into.insert(key, value);
            }
        }
    }
    Ok(())
}

/// The first setting that differs between two configurations, except those in `free`, as "`key` (old → new)".
pub fn first_difference(a: &Config, b: &Config, free: &[&str]) -> Result<Option<String>> {
    fn walk(a: &Table, b: &Table, path: &str, free: &[&str]) -> Option<String> {
        a.iter().find_map(|(key, old)| {
            let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match (old, b.get(key)) {
                (Value::Table(x), Some(Value::Table(y))) => walk(x, y, &full, free),
                (x, Some(y)) if x == y || free.contains(&full.as_str()) => None,
                (x, y) => Some(format!("`{full}` ({x} → {})", y.map_or("unset".into(), Value::to_string))),
            }
        })
    }
    Ok(walk(&table(a)?, &table(b)?, "", free))
}

/// The suffix ", did you mean `…`?" with the nearest known key; empty where none is near.
fn nearest(key: &str) -> String {
    let mut all = vec![];
    if let Ok(known) = table(&Config::default()) {
        names(&known, "", &mut all);
    }
    let last = key.rsplit('.').next().unwrap_or(key);
    let score = |k: &String| {
        let short = k.rsplit('.').next().unwrap_or(k);
        strsim::jaro_winkler(k, key).max(strsim::jaro_winkler(short, last))
    };
    match all.into_iter().max_by(|a, b| score(a).total_cmp(&score(b))) {
        Some(best) if score(&best) > 0.7 => format!(", did you mean `{best}`?"),
        _ => String::new(),
    }
}

fn names(t: &Table, path: &str, out: &mut Vec<String>) {
    for (k, v) in t {
        let full = if path.is_empty() { k.clone() } else { format!("{path}.{k}") };
        match v {
            Value::Table(t) => names(t, &full, out),
            _ => out.push(full),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(o: &[&str]) -> Result<Config> {
        let files: [&str; 0] = [];
        load(&Config::default(), &files, &o.iter().map(|s| s.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn overrides_are_typed_and_unknown_keys_name_the_nearest() {
        let c =
            set(&["train.lr=1", "data.path=datasets/x", "eval.ks=[1, 2]", "name=2024", "objective.multiplicity=once"])
                .unwrap();
        assert_eq!(
            (c.train.lr, c.data.path.as_str(), c.eval.ks, c.name.as_str()),
            (1.0, "datasets/x", vec![1, 2], "2024")
        );
        let e = set(&["train.batchsize=3"]).unwrap_err().to_string();
        assert!(e.contains("train.batch_size"), "{e}");
        let e = set(&["train.batch_size=many"]).unwrap_err().to_string();
        assert!(e.contains("train.batch_size") && e.contains("integer"), "{e}");
        let e = set(&["user.kind=transformer"]).unwrap_err().to_string();
        assert!(e.contains("user.kind") && e.contains("gru4rec"), "{e}");
        let e = set(&["eval.ties=never"]).unwrap_err().to_string();
        assert!(e.contains("eval.ties"), "{e}");
    }

    #[test]
    fn toml_round_trip() {
        let mut c = Config::default();
        c.transfer.rules.push(super::super::Rule { pattern: "user*".into(), action: "load, freeze".into() });
        assert_eq!(toml::from_str::<Config>(&to_toml(&c).unwrap()).unwrap(), c);
    }

    #[test]
    fn impossible_values_name_their_field() {
        let mut c = Config::default();
        c.item.model = "m".into();
        c.check().unwrap();
        c.user.heads = 3;
        assert!(c.check().unwrap_err().to_string().contains("user.heads"));
        c.user.heads = 2;
        c.train.metric = "ndcg@7".into();
        assert!(c.check().unwrap_err().to_string().contains("eval.ks"));
    }
}
