//! The student's folder in Hugging Face's layout, with its card.

use super::corpus::Corpus;
use super::teacher::Teacher;
use super::{DistillConfig, DistillReport};
use crate::error::{Error, Result};
use crate::fsio;
use crate::item::text::TextFolder;
use crate::nn::weights::save_each_as;
use crate::nn::{Params, Weight, host};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// `config.json`, `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json`, `model.safetensors`.
pub fn write(dir: &Path, folder: &TextFolder, params: &Params, config: &DistillConfig) -> Result<()> {
    let all: Vec<&Weight> = params.iter().collect();
    let entries: Vec<_> = all.iter().map(|p| (p.name().to_string(), p.shape().to_vec())).collect();
    let meta = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    save_each_as(&dir.join("model.safetensors"), &entries, meta, config.precision(), |i| {
        Ok(host::to_vec(&all[i].value())?.into())
    })?;
    fsio::write_bytes(&dir.join("config.json"), folder.config_json.as_bytes())?;
    fsio::write_bytes(&dir.join("tokenizer.json"), folder.tokenizer_json.as_bytes())?;
    let special = special_tokens(&folder.tokenizer_json);
    let mut settings = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.max_tokens,
        "clean_up_tokenization_spaces": true,
    });
    for (k, v) in &special {
        settings[k] = v.clone();
    }
    fsio::write_json(&dir.join("tokenizer_config.json"), &settings)?;
    fsio::write_json(&dir.join("special_tokens_map.json"), &Value::Object(special.into_iter().collect()))
}

/// The roles of BERT's and RoBERTa's special tokens, as far as the tokenizer has them.
fn special_tokens(tokenizer_json: &str) -> Vec<(String, Value)> {
    let doc: Value = serde_json::from_str(tokenizer_json).unwrap_or_default();
    let has = |t: &str| doc["added_tokens"].as_array().into_iter().flatten().any(|a| a["content"] == t);
    let roles = [
        ("pad_token", ["[PAD]", "<pad>"]),
        ("unk_token", ["[UNK]", "<unk>"]),
        ("cls_token", ["[CLS]", "<s>"]),
        ("sep_token", ["[SEP]", "</s>"]),
        ("mask_token", ["[MASK]", "<mask>"]),
    ];
    roles
        .into_iter()
        .filter_map(|(role, names)| Some((role.to_string(), json!(names.into_iter().find(|n| has(n))?))))
        .collect()
}

/// `model.toml` and `distillation.json`: how it was made, from what, and how good it is.
pub fn card(
    dir: &Path,
    config: &DistillConfig,
    corpus: &Corpus,
    teacher: &Teacher,
    report: &DistillReport,
) -> Result<()> {
    let name = Path::new(&config.teacher).file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let from: Vec<&str> = corpus.sources.iter().map(|(n, _)| n.as_str()).collect();
    let mut sha256 = BTreeMap::new();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        sha256.insert(file.to_string(), fsio::sha256_file(&dir.join(file))?);
    }
    let pooling = serde_json::to_value(config.pooling).ok().and_then(|v| v.as_str().map(String::from));
    let card = crate::hub::Card {
        name: config.name.clone(),
        summary: format!(
            "Title encoder, {} layers of width {}, {} tokens; {:.1} million parameters, {:.1} MB",
            config.layers,
            config.hidden,
            report.vocab,
            report.parameters as f64 / 1e6,
            report.bytes as f64 / 1e6
        ),
        modality: "text".into(),
        architecture: teacher.folder.config.model_type.clone(),
        licence: "Apache-2.0".into(),
        origin: format!("distilled with `morec distill` from {name} on the titles of {}", from.join(", ")),
        hub: None,
        preprocessing: crate::hub::Preprocessing {
            pooling,
            max_tokens: u32::try_from(config.max_tokens).ok(),
            image_size: None,
        },
        quality: quality(report),
        sha256,
    };
    let text = toml::to_string(&card).map_err(|e| Error::model(dir, e.to_string()))?;
    fsio::write_bytes(&dir.join("model.toml"), text.as_bytes())?;
    // Where it was made says nothing about it.
    let (report, config) = (
        DistillReport { dir: config.name.clone(), ..report.clone() },
        DistillConfig { teacher: name, ..config.clone() },
    );
    fsio::write_json(
        &dir.join("distillation.json"),
        &json!({ "config": config, "teacher_sha256": teacher.digest, "corpus": corpus.sources, "report": report }),
    )
}

fn quality(report: &DistillReport) -> BTreeMap<String, String> {
    if report.held_out < 2 {
        return BTreeMap::new();
    }
    let percent = |x: f64| format!("{:.1} %", 100.0 * x);
    let mut all = BTreeMap::from([
        (
            "recall@10 of the teacher's neighbours".to_string(),
            format!(
                "{} on {} held-out titles; the teacher cut to this width: {}",
                percent(report.recall_at_10),
                report.held_out,
                percent(report.recall_at_10_limit)
            ),
        ),
        ("mean cosine to the teacher cut to this width".to_string(), format!("{:.4}", report.cosine)),
    ]);
    for (name, recall) in &report.others {
        all.insert(format!("recall@10, {name} beside it"), percent(*recall));
    }
    all
}
