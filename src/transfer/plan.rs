//! Transfer plans: ordered rules `glob → load | reset | pretrained, train | freeze, lr`, resolved to one row per
//! parameter before the model is built.

use crate::config::{AdapterMethod, Modality, Rule};
use crate::error::{Error, Result};
use crate::item::block_of;
use crate::nn::params::Action;
use crate::nn::weights::Weights;
use crate::nn::{Origin, Resolved, Spec};
use serde::Serialize;
use wildmatch::WildMatch;

/// Resolved decision for one parameter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Name of the parameter.
    pub name: String,
    /// Shape of the parameter.
    pub shape: Vec<usize>,
    /// Where its initial value comes from.
    pub origin: Origin,
    /// Whether it trains.
    pub train: bool,
    /// Its own learning rate; `None` unless a rule sets one.
    pub lr: Option<f64>,
    /// Whether it belongs to a pre-trained encoder (a separate learning-rate group).
    pub encoder: bool,
    /// Whether it belongs to an adapter.
    pub added: bool,
}

/// A resolved transfer plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// One row per parameter, in name order.
    pub rows: Vec<Row>,
}

/// Names of all presets, for messages and help.
pub const PRESETS: &str = "full, frozen, head, user-only, item-only, top-layers=K, zero-shot, from-scratch, houlsby, pfeiffer, parallel, compacter, lora, ia3, prompt, kadapter, side, peterrec, bitfit, norms";

/// Pattern of the parameter names of a pre-trained encoder.
fn backbone(modality: Modality) -> String {
    modality.backbone_prefix() + "*"
}

fn rule(pattern: &str, action: &str) -> Rule {
    Rule { pattern: pattern.into(), action: action.into() }
}

/// Rules for adapter parameters: initialised and trained.
fn added(specs: &[Spec]) -> Vec<Rule> {
    specs.iter().filter(|s| s.added).map(|s| rule(&s.name, "reset, train")).collect()
}

/// Whether a preset trains nothing but an adapter, biases or norms.
pub fn is_adapter_preset(name: &str) -> bool {
    AdapterMethod::named(name).is_some() || ["bitfit", "norms"].contains(&name)
}

/// Rules that train the weights and biases of all norms outside adapters.
fn norms(specs: &[Spec]) -> Vec<Rule> {
    specs.iter().filter(|s| s.norm && !s.added).map(|s| rule(&s.name, "train")).collect()
}

/// Refuses a model in which the preset's adapter is inserted nowhere.
fn require_adapter_sites(name: &str, specs: &[Spec], encoders: &[Modality]) -> Result<()> {
    let within = |prefix: &str| specs.iter().any(|s| s.added && s.name.starts_with(prefix));
    let m = if name == "peterrec" && !within("user_encoder.") {
        "a user encoder that takes model patches (nextitnet, sasrec and bert4rec, with user.norm post or pre), and adapter.user_width above 0"
    } else if name != "peterrec" && !encoders.is_empty() && !encoders.iter().any(|e| within(&e.parameter_prefix())) {
        "an encoder of the BERT, ViT or Swin family (prompt, kadapter and side: not Swin)"
    } else if !specs.iter().any(|s| s.added) {
        "a text or image encoder, or sasrec, bert4rec or nextitnet"
    } else {
        return Ok(());
    };
    let m = format!("`{name}` finds no place for its parts; they need {m}, and adapter.method = \"{name}\"");
    Err(Error::config("transfer.preset", m))
}

/// Rules of a preset for a model with the parameters `specs`.
fn preset_rules(name: &str, specs: &[Spec]) -> Result<Vec<Rule>> {
    let has = |pattern: &str| specs.iter().any(|s| WildMatch::new(pattern).matches(&s.name));
    let there: Vec<Modality> = Modality::ALL.into_iter().filter(|&m| has(&backbone(m))).collect();
    let text = !there.is_empty();
    let all = |action: &str| there.iter().map(|&m| rule(&backbone(m), action)).collect::<Vec<_>>();
    let mut rules = match name {
        "from-scratch" | "" => vec![rule("*", "reset, train")],
        "full" => vec![rule("*", "load, train")],
        "frozen" => [vec![rule("*", "load, train")], all("freeze")].concat(),
        "head" => [vec![rule("*", "load, freeze"), rule("item_encoder.*", "train")], all("freeze")].concat(),
        "user-only" => vec![rule("*", "load, freeze"), rule("user_encoder.*", "train")],
        "item-only" => vec![rule("*", "load, freeze"), rule("item_encoder.*", "train")],
        "zero-shot" => vec![rule("*", "load, freeze")],
        other if AdapterMethod::named(other).is_some() => {
            require_adapter_sites(other, specs, &there)?;
            // Only norms of blocks that have a bottleneck, so that the blocks below the first adapter stay frozen.
            let stems: Vec<&str> =
                specs.iter().filter(|s| s.added).filter_map(|s| Some(s.name.split_once(".adapter_")?.0)).collect();
            let beside = |r: &Rule| stems.iter().any(|s| r.pattern.strip_prefix(s).is_some_and(|n| n.starts_with('.')));
            let more = if other == "pfeiffer" { norms(specs).into_iter().filter(beside).collect() } else { vec![] };
            [vec![rule("*", "load, freeze")], added(specs), more].concat()
        }
        "bitfit" => {
            let own = |s: &&Spec| s.name.ends_with(".bias") && !s.buffer;
            let biases = specs.iter().filter(own).map(|s| rule(&s.name, "train"));
            std::iter::once(rule("*", "load, freeze")).chain(biases).collect()
        }
        "norms" => [vec![rule("*", "load, freeze")], norms(specs)].concat(),
        other => match other.strip_prefix("top-layers=").map(str::parse::<usize>) {
            Some(Ok(k)) => {
                let mut rules = vec![rule("*", "load, train")];
                for &modality in &there {
                    rules.extend(depth_rules(modality, k, specs, "transfer.preset")?);
                }
                rules
            }
            _ => return Err(Error::config("transfer.preset", format!("`{other}` is none of {PRESETS}"))),
        },
    };
    if matches!(name, "from-scratch" | "") {
        // TFS of the reference: encoders pre-trained, everything else random.
        let added = added(specs);
        let any = specs.iter().any(|s| s.pretrained);
        if text && any {
            // An encoder may have no pre-trained weights (`pretrained = false`); a checkpoint may lack some (a pooler).
            let known = |m: &&Modality| {
                let glob = WildMatch::new(&backbone(**m));
                specs.iter().filter(|s| glob.matches(&s.name)).any(|s| s.pretrained)
            };
            rules.extend(there.iter().filter(known).map(|&m| rule(&backbone(m), "pretrained")));
            rules.extend(added);
        }
        return Ok(rules);
    }
    if !text && (name == "frozen" || name == "head" || name.starts_with("top-layers")) {
        return Err(Error::config(
            "transfer.preset",
            format!("`{name}` needs a model of texts or pictures; this one has ID items"),
        ));
    }
    if has("item_encoder.id.*") {
        if matches!(name, "zero-shot" | "user-only") || is_adapter_preset(name) {
            let m = format!("`{name}` cannot be: an ID table does not transfer, the target's items would stay random");
            return Err(Error::config("transfer.preset", m));
        }
        rules.push(rule("item_encoder.id.*", "reset"));
    }
    if has("user_encoder.user_embedding.*") {
        if matches!(name, "zero-shot" | "item-only" | "head") || is_adapter_preset(name) {
            let m =
                format!("`{name}` cannot be: a table of users does not transfer, the target's users would stay random");
            return Err(Error::config("transfer.preset", m + "; train the source with user.user_id = false"));
        }
        rules.push(rule("user_encoder.user_embedding.*", "reset"));
    }
    if name == "user-only" && !has("user_encoder.*") {
        let m = "`user-only` cannot be: this user encoder has no parameters";
        return Err(Error::config("transfer.preset", m));
    }
    Ok(rules)
}

/// Rules that freeze the encoder of a modality except its last `k` blocks and the norm above them. `setting` names the
/// setting in errors. Returns no rules where the model lacks the modality.
pub fn depth_rules(modality: Modality, k: usize, specs: &[Spec], setting: &str) -> Result<Vec<Rule>> {
    let prefix = modality.backbone_prefix();
    let own: Vec<&str> = specs.iter().filter_map(|s| s.name.strip_prefix(&prefix)).collect();
    if own.is_empty() {
        return Ok(vec![]);
    }
    let mut blocks: Vec<((usize, usize), String)> = own.iter().filter_map(|n| block_of(n)).collect();
    blocks.sort();
    blocks.dedup();
    let real: Vec<(usize, usize)> = blocks.iter().map(|b| b.0).filter(|b| b.1 != usize::MAX).collect();
    if k > real.len() {
        let m = format!("{k} layers to train: the {} encoder has {} layers", modality.name(), real.len());
        return Err(Error::config(setting, m));
    }
    let mut rules = vec![rule(&backbone(modality), "freeze")];
    if k == 0 {
        return Ok(rules);
    }
    let first = real[real.len() - k];
    rules.extend(blocks.iter().filter(|b| b.0 >= first).map(|b| rule(&format!("{prefix}{}*", b.1), "train")));
    let above = own.iter().filter(|n| n.starts_with("layernorm.") || n.contains("post_layernorm."));
    rules.extend(above.map(|n| rule(&format!("{prefix}{n}"), "train")));
    Ok(rules)
}

/// Parsed action of one rule.
#[derive(Default)]
struct Effect {
    origin: Option<Origin>,
    train: Option<bool>,
    lr: Option<f64>,
    /// Whether a rule that matches no parameter is allowed.
    if_any: bool,
}

impl Effect {
    fn parse(rule: &Rule) -> Result<Self> {
        let mut e = Self::default();
        let bad = |word: &str| {
            let m = format!(
                "rule `{}`: `{word}` is none of load, reset, pretrained, train, freeze, lr=NUMBER, if-any",
                rule.pattern
            );
            Error::config("transfer.rules", m)
        };
        for word in rule.action.split(',').map(str::trim) {
            match word {
                "load" => e.origin = Some(Origin::Source),
                "reset" => e.origin = Some(Origin::Init),
                "pretrained" => e.origin = Some(Origin::Pretrained),
                "train" => e.train = Some(true),
                "freeze" => e.train = Some(false),
                "if-any" => e.if_any = true,
                other => {
                    let lr = other.strip_prefix("lr=").and_then(|v| v.trim().parse::<f64>().ok());
                    let lr = lr.filter(|v| v.is_finite() && *v >= 0.0).ok_or_else(|| bad(other))?;
                    e.lr = Some(lr);
                    e.train = Some(true);
                }
            }
        }
        Ok(e)
    }
}

impl Plan {
    /// Resolves a preset and rules for the parameters `specs`, given the source's values. Errors: a rule that matches
    /// no parameter, a value that is missing or has another shape, a parameter without a decision.
    pub fn resolve(specs: &[Spec], source: Option<&Weights>, preset: &str, rules: &[Rule]) -> Result<Self> {
        let mut all = preset_rules(preset, specs)?;
        all.extend_from_slice(rules);
        let mut decided: Vec<Effect> = specs.iter().map(|_| Effect::default()).collect();
        for r in &all {
            let effect = Effect::parse(r)?;
            if preset == "from-scratch" && effect.origin == Some(Origin::Source) {
                let m = format!(
                    "rule `{}`: from-scratch takes nothing from the source; run it without this rule",
                    r.pattern
                );
                return Err(Error::config("transfer.rules", m));
            }
            let glob = WildMatch::new(&r.pattern);
            let mut hit = false;
            for (d, _) in decided.iter_mut().zip(specs).filter(|(_, s)| glob.matches(&s.name)) {
                hit = true;
                d.origin = effect.origin.or(d.origin);
                d.train = effect.train.or(d.train);
                d.lr = effect.lr.or(d.lr);
            }
            if !hit && !effect.if_any {
                let near = specs.iter().max_by(|a, b| {
                    strsim::jaro_winkler(&a.name, &r.pattern).total_cmp(&strsim::jaro_winkler(&b.name, &r.pattern))
                });
                let near = near.map_or(String::new(), |s| format!("; the nearest parameter is `{}`", s.name));
                return Err(Error::config("transfer.rules", format!("`{}` matches no parameter{near}", r.pattern)));
            }
        }
        let mut rows = vec![];
        for (s, d) in specs.iter().zip(decided) {
            let (Some(origin), Some(train)) = (d.origin, d.train) else {
                let m = format!("no rule says where `{}` comes from and whether it trains", s.name);
                return Err(Error::config("transfer.rules", m));
            };
            check_value(s, origin, source)?;
            let train = train && !s.buffer;
            let lr = d.lr.filter(|_| train);
            let (encoder, added) = (s.encoder, s.added);
            rows.push(Row { name: s.name.clone(), shape: s.shape.clone(), origin, train, lr, encoder, added });
        }
        Ok(Self { rows })
    }
    /// Action per parameter name, for [`crate::nn::Params::build`].
    pub fn actions(&self) -> Resolved {
        let action = |r: &Row| Action { origin: r.origin, train: r.train, lr: r.lr };
        self.rows.iter().map(|r| (r.name.clone(), action(r))).collect()
    }
    /// Number of trainable parameters and of all parameters, in scalars.
    pub fn counts(&self) -> (usize, usize) {
        let numel = |r: &Row| r.shape.iter().product::<usize>();
        (self.rows.iter().filter(|r| r.train).map(numel).sum(), self.rows.iter().map(numel).sum())
    }
    /// The plan as a text table.
    pub fn table(&self) -> String {
        let width = self.rows.iter().map(|r| r.name.len()).max().unwrap_or(4).max(4);
        let mut out = format!("{:width$}  {:>14}  {:10}  action\n", "name", "shape", "origin");
        for r in &self.rows {
            let shape = r.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
            let origin = match r.origin {
                Origin::Init => "init",
                Origin::Pretrained => "pretrained",
                Origin::Source => "source",
            };
            let action = match (r.train, r.lr) {
                (false, _) => "frozen".into(),
                (true, Some(lr)) => format!("train, lr {lr}"),
                (true, None) if r.added => "train (adapter)".into(),
                (true, None) if r.encoder => "train (encoder)".into(),
                (true, None) => "train".to_string(),
            };
            out += &format!("{:width$}  {shape:>14}  {origin:10}  {action}\n", r.name);
        }
        let (t, n) = self.counts();
        out + &format!("{t} of {n} parameters train ({:.2} %)\n", 100.0 * t as f64 / n.max(1) as f64)
    }
}

fn check_value(s: &Spec, origin: Origin, source: Option<&Weights>) -> Result<()> {
    match (origin, source) {
        (Origin::Source, None) => {
            Err(Error::config("transfer.source", format!("`{}` is to be loaded, but no source run is given", s.name)))
        }
        (Origin::Source, Some(w)) if w.shape(&s.name) != Some(&s.shape) => {
            let have = w.shape(&s.name).map_or("does not have it".into(), |h| format!("has {h:?}"));
            let m = format!(
                "`{}`: the target needs {:?}, the source {have}; give both the same user.* and item.* settings, or add the rule `{}` = \"reset\"",
                s.name, s.shape, s.name
            );
            Err(Error::config("transfer.rules", m))
        }
        (Origin::Pretrained, _) if !s.pretrained => {
            Err(Error::config("transfer.rules", format!("`{}` has no pre-trained value; use reset or load", s.name)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs() -> Vec<Spec> {
        let names = [
            "item_encoder.text.model.embeddings.word_embeddings.weight",
            "item_encoder.text.model.encoder.layer.0.output.dense.weight",
            "item_encoder.text.model.encoder.layer.1.output.dense.weight",
            "item_encoder.text.projection.weight",
            "user_encoder.transformer_encoder.layer_norm.weight",
        ];
        names
            .iter()
            .map(|n| Spec {
                name: n.to_string(),
                shape: vec![2],
                encoder: n.contains("model"),
                pretrained: n.contains("model"),
                buffer: false,
                added: n.contains("adapter"),
                norm: n.contains("norm"),
            })
            .collect()
    }

    fn source(dir: &std::path::Path) -> Weights {
        let path = dir.join("s.safetensors");
        let t: Vec<_> = specs().into_iter().map(|s| (s.name, s.shape, vec![1.0, 2.0])).collect();
        crate::nn::weights::save(&path, &t, Default::default()).unwrap();
        Weights::open(&path).unwrap()
    }

    fn trained(preset: &str, rules: &[Rule]) -> Vec<bool> {
        let dir = tempfile::tempdir().unwrap();
        let s = source(dir.path());
        Plan::resolve(&specs(), Some(&s), preset, rules).unwrap().rows.iter().map(|r| r.train).collect()
    }

    #[test]
    fn presets_free_what_they_say() {
        assert_eq!(trained("full", &[]), [true; 5]);
        assert_eq!(trained("frozen", &[]), [false, false, false, true, true]);
        assert_eq!(trained("head", &[]), [false, false, false, true, false]);
        assert_eq!(trained("user-only", &[]), [false, false, false, false, true]);
        assert_eq!(trained("item-only", &[]), [true, true, true, true, false]);
        assert_eq!(trained("top-layers=1", &[]), [false, false, true, true, true]);
        assert_eq!(trained("zero-shot", &[]), [false; 5]);
        assert_eq!(trained("full", &[rule("user*", "freeze")]), [true, true, true, true, false]);
    }

    #[test]
    fn mistakes_are_errors_before_any_work() {
        let dir = tempfile::tempdir().unwrap();
        let s = source(dir.path());
        let e = |preset: &str, r: &[Rule]| Plan::resolve(&specs(), Some(&s), preset, r).unwrap_err().to_string();
        assert!(e("full", &[rule("user_encoderr.*", "freeze")]).contains("user_encoder.transformer"));
        assert!(e("fulll", &[]).contains("zero-shot"));
        assert!(e("from-scratch", &[rule("user*", "load, train")]).contains("takes nothing"));
        assert!(e("top-layers=3", &[]).contains("2 layers"));
        assert!(e("full", &[rule("*", "thaw")]).contains("thaw"));
        assert!(e("full", &[rule("user*", "pretrained")]).contains("no pre-trained value"));
        let none = Plan::resolve(&specs(), None, "full", &[]).unwrap_err().to_string();
        assert!(none.contains("source"));
        let mut wide = specs();
        wide[4].shape = vec![3];
        let m = Plan::resolve(&wide, Some(&s), "full", &[]).unwrap_err().to_string();
        assert!(m.contains("[3]") && m.contains("[2]") && m.contains("reset"), "{m}");
    }

    #[test]
    fn from_scratch_is_pretrained_encoder_and_random_rest() {
        let p = Plan::resolve(&specs(), None, "from-scratch", &[]).unwrap();
        let origins: Vec<_> = p.rows.iter().map(|r| r.origin).collect();
        assert_eq!(origins[0], Origin::Pretrained);
        assert_eq!(origins[3..], [Origin::Init, Origin::Init]);
    }
}
