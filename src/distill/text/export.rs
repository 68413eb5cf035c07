//! The student's files beside its weights, in Hugging Face's layout.

use crate::distill::DistillConfig;
use crate::error::{Error, Result};
use crate::item::text::TextFolder;
use serde_json::{Value, json};

/// `config.json`, `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json`: name and content.
pub fn files(folder: &TextFolder, config: &DistillConfig) -> Result<Vec<(&'static str, String)>> {
    let special = special_tokens(&folder.tokenizer_json);
    let mut settings = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.max_tokens,
        "clean_up_tokenization_spaces": true,
    });
    for (k, v) in &special {
        settings[k] = v.clone();
    }
    Ok(vec![
        ("config.json", folder.config_json.clone()),
        ("tokenizer.json", folder.tokenizer_json.clone()),
        ("tokenizer_config.json", pretty(&settings)?),
        ("special_tokens_map.json", pretty(&Value::Object(special.into_iter().collect()))?),
    ])
}

fn pretty(value: &Value) -> Result<String> {
    let text = serde_json::to_string_pretty(value);
    Ok(text.map_err(|e| Error::Numeric(format!("the student's files: {e}")))? + "\n")
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
