//! Merging adapters into their base and removing them again, importing adapters of other packages, and comparing
//! models.

use super::layout::{self, EncoderInfo};
use super::{Blueprint, ModelFolder, TableIds, adapter_folder, folder};
use crate::config::{AdapterMethod, Config, Modality};
use crate::error::{Error, Result};
use crate::fsio::{Manifest, Staged};
use crate::nn::weights::{self, Weights};
use crate::nn::{Action, Origin, Resolved};
use candle_core::Device;
use serde::Serialize;
use std::path::Path;

/// Result of a merge.
#[derive(Debug, Clone, Serialize)]
pub struct Merged {
    /// Method of the adapter.
    pub method: AdapterMethod,
    /// Number of tensors that changed.
    pub folded: usize,
    /// Whether the whole adapter was merged into the weights, so that no separate part is left.
    pub whole: bool,
}

fn folds(method: AdapterMethod) -> bool {
    matches!(method, AdapterMethod::Lora | AdapterMethod::Ia3)
}

/// Adds the adapter's update to the values of the tensor `name`, or subtracts it if `off`; returns whether there was an
/// update.
fn fold(values: &mut [f32], name: &str, adapter: &ModelFolder, off: bool) -> Result<bool> {
    let w = &adapter.weights;
    let Some((stem, part)) = name.rsplit_once('.').filter(|(_, p)| ["weight", "bias"].contains(p)) else {
        return Ok(false);
    };
    let (a, b, l) = (format!("{stem}.lora_A.weight"), format!("{stem}.lora_B.weight"), format!("{stem}.ia3_l"));
    if part == "weight"
        && let (Some(&[r, inputs]), Some(_)) = (w.shape(&a), w.shape(&b))
    {
        let (a, b) = (w.read(&a)?, w.read(&b)?);
        let scale = adapter.config.adapter.alpha / adapter.config.adapter.rank as f64;
        let sign = if off { -scale } else { scale };
        for (row, b) in values.chunks_exact_mut(inputs).zip(b.chunks_exact(r)) {
            for (i, v) in row.iter_mut().enumerate() {
                let sum: f64 = b.iter().enumerate().map(|(k, b)| f64::from(*b) * f64::from(a[k * inputs + i])).sum();
                *v = (f64::from(*v) + sign * sum) as f32;
            }
        }
        return Ok(true);
    }
    let Some(&[rows, columns]) = w.shape(&l) else { return Ok(false) };
    let l = w.read(&l)?;
    if off && l.contains(&0.0) {
        return Err(Error::Numeric(format!("`{stem}` was multiplied by zero, which cannot be undone")));
    }
    let times = |v: f32, l: f32| if off { v / l } else { v * l };
    if columns == 1 {
        let width = values.len() / rows.max(1);
        for (row, l) in values.chunks_exact_mut(width).zip(&l) {
            row.iter_mut().for_each(|v| *v = times(*v, *l));
        }
    } else if part == "weight" {
        values.chunks_exact_mut(columns).for_each(|row| row.iter_mut().zip(&l).for_each(|(v, l)| *v = times(*v, *l)));
    } else {
        return Ok(false);
    }
    Ok(true)
}

/// Writes the whole model of `config` to `dir`, with the values of `from`, each passed through `change`.
fn write(
    dir: &Path,
    from: &ModelFolder,
    config: Config,
    facts: serde_json::Value,
    change: &dyn Fn(&str, &mut [f32]) -> Result<bool>,
) -> Result<usize> {
    let blueprint = Blueprint { config, base: None, ..from.blueprint() };
    let specs = blueprint.declare()?;
    let staged = Staged::new(dir)?;
    // Only models with ID tables have raw ids.
    let ids = TableIds { items: from.items.as_deref().unwrap_or(&[]), users: from.users.as_deref().unwrap_or(&[]) };
    let mut files = folder::write_settings(staged.path(), &blueprint.config, &from.encoders, ids)?;
    let entries: Vec<_> = specs.iter().map(|s| (s.name.clone(), s.shape.clone())).collect();
    let mut changed = 0;
    weights::save_each(&staged.path().join("model.safetensors"), &entries, weights::pytorch_metadata(), |i| {
        let mut values = from.weights.read(&entries[i].0)?;
        changed += usize::from(change(&entries[i].0, &mut values)?);
        Ok(values.into())
    })?;
    files.push("model.safetensors".into());
    let mut manifest = Manifest::new(folder::KIND, folder::FORMAT);
    manifest.facts = facts;
    manifest.seal(staged.path(), &files.iter().map(String::as_str).collect::<Vec<_>>())?;
    staged.commit()?;
    Ok(changed)
}

fn without(config: &Config) -> Config {
    let mut c = config.clone();
    c.adapter.method = AdapterMethod::None;
    c
}

/// Writes an adapter and its base as one whole model. Low-rank updates and (IA)³ are merged into the weights; other
/// adapters remain separate parts.
pub fn merge(adapter: &ModelFolder, dir: &Path) -> Result<Merged> {
    let Some(base) = &adapter.base else {
        return Err(Error::model(&adapter.dir, "is a whole model, not an adapter; there is nothing to merge"));
    };
    // Every tensor has the shape that its settings ask for.
    adapter.build(&Device::Cpu)?;
    let method = adapter.config.adapter.method;
    let whole = folds(method);
    let config = if whole { without(&adapter.config) } else { adapter.config.clone() };
    let facts = serde_json::json!({"merged": {"method": method, "adapter": adapter.digest, "base": base.digest}});
    let change = |name: &str, v: &mut [f32]| if whole { fold(v, name, adapter, false) } else { Ok(false) };
    let folded = write(dir, adapter, config, facts, &change)?;
    Ok(Merged { method, folded, whole })
}

/// Removes an adapter from a model into which it was merged.
pub fn unmerge(merged: &ModelFolder, adapter: &ModelFolder, dir: &Path) -> Result<Merged> {
    let method = adapter.config.adapter.method;
    if adapter.base.is_none() || !folds(method) {
        let m = format!("method {}: only lora and ia3 become part of a model's weights", method.name());
        return Err(Error::model(&adapter.dir, m));
    }
    let manifest = Manifest::read(&merged.dir, folder::KIND, folder::FORMAT, adapter_folder::REMAKE)?;
    if manifest.facts["merged"]["adapter"] != adapter.digest.as_str() {
        let m =
            format!("`{}` was not merged into it; `morec adapters merge` writes down what was", adapter.dir.display());
        return Err(Error::model(&merged.dir, m));
    }
    merged.build(&Device::Cpu)?;
    adapter.build(&Device::Cpu)?;
    // Values that were trained but not merged are restored from the base.
    let base = folder::find_base(&adapter.dir, None)?;
    let change = |name: &str, v: &mut [f32]| {
        if adapter.own.iter().any(|n| n == name) {
            v.copy_from_slice(&base.weights.read(name)?);
            return Ok(true);
        }
        fold(v, name, adapter, true)
    };
    let facts = serde_json::json!({"unmerged": {"method": method, "adapter": adapter.digest}});
    let folded = write(dir, merged, without(&merged.config), facts, &change)?;
    Ok(Merged { method, folded, whole: true })
}

/// Imports an adapter from a folder that the Python packages `peft` or `adapters` wrote for the encoder of `modality`
/// of `base`; returns its method.
pub fn import(from: &Path, base: &ModelFolder, modality: Modality, dir: &Path) -> Result<AdapterMethod> {
    let name = modality.name();
    let kind = base.encoders.get(modality).and_then(|e| EncoderInfo::parse(e.config_json())).ok_or_else(|| {
        Error::model(&base.dir, format!("has no {name} encoder that takes adapters of other packages"))
    })?;
    if base.config.adapter.method != AdapterMethod::None {
        return Err(Error::model(&base.dir, "has an adapter already; import onto the model without it"));
    }
    let (layout, adapter, called) = layout::read_external(from, &kind)?;
    Config { adapter: adapter.clone(), ..base.config.clone() }
        .check()
        .map_err(|e| Error::model(from.join("adapter_config.json"), e.to_string()))?;
    let path = from.join(layout.file());
    let prefix = modality.backbone_prefix();
    let foreign = Weights::open(&path)?;
    let ours = |n: &str| layout.to_internal(&kind, n, &called).map(|n| format!("{prefix}{n}"));
    if let Some(odd) = foreign.names().find(|n| ours(n).is_none()) {
        return Err(Error::model(&path, format!("tensor `{odd}` is in no place that is known here")));
    }
    let values = foreign.renamed(ours)?;
    let config = Config { adapter, ..base.config.clone() };
    let method = config.adapter.method;
    let blueprint = Blueprint { config, base: Some(base.as_base()), ..base.blueprint() };
    let specs = blueprint.declare()?;
    let wanted = |n: &str| specs.iter().find(|s| s.added && s.name == n);
    if let Some(odd) = values.names().find(|n| wanted(n).is_none()) {
        return Err(Error::model(&path, format!("`{odd}`: the model has no such place; is it for another base?")));
    }
    for s in specs.iter().filter(|s| s.added && s.name.starts_with(&prefix)) {
        match values.shape(&s.name) {
            Some(have) if have == s.shape => {}
            Some(have) => {
                let m = format!("`{}` is {have:?}, this base asks for {:?}; is it for another base?", s.name, s.shape);
                return Err(Error::model(&path, m));
            }
            None => return Err(Error::model(&path, format!("`{}` is missing", s.name))),
        }
    }
    if let Some(other) = specs.iter().find(|s| s.added && !s.name.starts_with(&prefix)) {
        let m = format!("the model would have `{}` as well, which such a file has no value for", other.name);
        return Err(Error::model(&base.dir, m));
    }
    let act = |train| Action { origin: Origin::Source, train, lr: None };
    let actions: Resolved = specs.iter().map(|s| (s.name.clone(), act(s.added))).collect();
    let model = blueprint.build(&Device::Cpu, &actions, Some(&values.overlay(&base.weights)))?;
    let staged = Staged::new(dir)?;
    folder::save(staged.path(), &model, TableIds { items: &[], users: &[] })?;
    staged.commit()?;
    Ok(method)
}

/// A tensor that differs between two models.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// Name of the tensor.
    pub name: String,
    /// Shape in the first of the two models that has it.
    pub shape: Vec<usize>,
    /// Euclidean norm in each model; `None` if the model does not have it.
    pub norms: [Option<f64>; 2],
    /// Euclidean norm of the difference, if both models have it in the same shape.
    pub distance: Option<f64>,
}

/// Differences between two models in name order, and the number of equal tensors.
pub fn difference(a: &ModelFolder, b: &ModelFolder) -> Result<(Vec<Difference>, usize)> {
    let mut names: Vec<&str> = a.weights.names().chain(b.weights.names()).collect();
    names.sort_unstable();
    names.dedup();
    let norm = |v: &[f32]| v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let (mut out, mut same) = (vec![], 0);
    for name in names {
        let (sa, sb) = (a.weights.shape(name), b.weights.shape(name));
        let Some(shape) = sa.or(sb) else { continue };
        let read = |m: &ModelFolder, s: Option<&[usize]>| s.map(|_| m.weights.read(name)).transpose();
        let (va, vb) = (read(a, sa)?, read(b, sb)?);
        let distance = match (&va, &vb) {
            (Some(x), Some(y)) if x == y => {
                same += 1;
                continue;
            }
            (Some(x), Some(y)) if sa == sb => Some(norm(&x.iter().zip(y).map(|(x, y)| x - y).collect::<Vec<_>>())),
            _ => None,
        };
        let norms = [va.as_deref().map(norm), vb.as_deref().map(norm)];
        out.push(Difference { name: name.into(), shape: shape.into(), norms, distance });
    }
    Ok((out, same))
}
