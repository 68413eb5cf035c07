//! The student of a text teacher: its configuration and its initial values.

use super::teacher::Teacher;
use super::vocab::Pruned;
use crate::distill::DistillConfig;
use crate::distill::subspace::Reduction;
use crate::error::{Error, Result};
use crate::item::Tokens;
use crate::item::text::{Bert, BertConfig, TextFolder, backbone};
use crate::nn::{Params, host};
use candle_core::Device;
use serde_json::json;

/// σ of token vectors at the start; the LayerNorm behind them makes their length a matter of speed only.
const SIGMA: f32 = 0.05;

/// The student's folder (without weights): teacher's config.json with the student's sizes, pruned tokenizer.
pub fn folder(teacher: &TextFolder, pruned: &Pruned, c: &DistillConfig) -> Result<TextFolder> {
    let broken = |e: String| Error::Numeric(format!("the student's files: {e}"));
    let mut doc: serde_json::Value = serde_json::from_str(&teacher.config_json).map_err(|e| broken(e.to_string()))?;
    let positions = c.max_tokens + (teacher.config.max_position_embeddings - teacher.config.usable_positions());
    let pad = teacher.config.pad_token_id.and_then(|p| pruned.old_ids.iter().position(|&o| o as usize == p));
    for (key, value) in [
        ("vocab_size", pruned.old_ids.len()),
        ("hidden_size", c.hidden),
        ("num_hidden_layers", c.layers),
        ("num_attention_heads", c.heads),
        ("intermediate_size", c.intermediate),
        ("max_position_embeddings", positions),
        ("pad_token_id", pad.unwrap_or(0)),
    ] {
        doc[key] = json!(value);
    }
    for key in ["hidden_dropout_prob", "attention_probs_dropout_prob"] {
        doc[key] = json!(0.1);
    }
    doc["_name_or_path"] = json!(c.name);
    let base = if teacher.config.model_type == "bert" { "BertModel" } else { "RobertaModel" };
    doc["architectures"] = json!([base]);
    for old in ["bos_token_id", "eos_token_id"] {
        if let Some(id) = doc.get(old).and_then(|v| v.as_u64())
            && let Some(new) = pruned.old_ids.iter().position(|&o| u64::from(o) == id)
        {
            doc[old] = json!(new);
        }
    }
    let config_json = serde_json::to_string_pretty(&doc).map_err(|e| broken(e.to_string()))? + "\n";
    let mut config = BertConfig::parse(&config_json).map_err(broken)?;
    // No dropout: the student regresses fixed targets, which noise would only blur.
    (config.hidden_dropout_prob, config.attention_probs_dropout_prob) = (0.0, 0.0);
    let tokenizer = pruned.json.parse().map_err(|e| broken(format!("{e}")))?;
    Ok(TextFolder { config, config_json, tokenizer, tokenizer_json: pruned.json.clone(), weights: None })
}

/// Builds the student; its token vectors start as the teacher's view of each token alone, reduced to its width.
pub fn build(
    folder: &TextFolder,
    teacher: &Teacher,
    pruned: &Pruned,
    reduction: &Reduction,
    c: &DistillConfig,
) -> Result<(Params, Bert)> {
    let (params, bert) = Params::fresh(c.seed, &Device::Cpu, |s| backbone(s, folder))?;
    let around = |t: u32| {
        // `[CLS] token [SEP]`, as the tokenizer's post-processor adds them.
        let frame = teacher.folder.tokenizer.encode_fast("a", true).map(|e| e.get_ids().to_vec()).unwrap_or_default();
        match frame.as_slice() {
            [first, _, last] => vec![*first, t, *last],
            _ => vec![t],
        }
    };
    let rows: Vec<Vec<u32>> = pruned.old_ids.iter().map(|&t| around(t)).collect();
    let alone = teacher.encoder.encode(&Tokens::from_rows(&rows), &|_, _| {})?;
    let mut words = reduction.project(&alone);
    // The mean over tokens carries no information about a token: it is subtracted, and the rest scaled.
    let k = c.hidden;
    let n = words.len() / k;
    let mut mean = vec![0f64; k];
    words.chunks_exact(k).for_each(|r| r.iter().zip(&mut mean).for_each(|(x, m)| *m += f64::from(*x) / n as f64));
    words.chunks_exact_mut(k).for_each(|r| r.iter_mut().zip(&mean).for_each(|(x, m)| *x -= *m as f32));
    let power = words.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / words.len().max(1) as f64;
    let scale = SIGMA / power.sqrt().max(1e-12) as f32;
    words.iter_mut().for_each(|x| *x *= scale);
    let name = "embeddings.word_embeddings.weight";
    let table = params.get(name).ok_or_else(|| Error::Numeric(format!("the student lacks `{name}`")))?;
    host::update(&table.value(), |v| v.copy_from_slice(&words))?;
    Ok((params, bert))
}
