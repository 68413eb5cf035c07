//! Real data and models beside the checkout, and small made-up ones.

use morec::config::{Config, ItemKind, UserKind};
use morec::data::{Csr, Dataset, Items};
use morec::experiment::Prepared;
use morec::rng::Stream;
use std::path::{Path, PathBuf};

/// A path below the folder of real data and models (`MOREC_SHARED`, else `../shared`). Missing is a failure.
pub fn shared(path: &str) -> PathBuf {
    let root = std::env::var_os("MOREC_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let full = root.join(path);
    assert!(full.exists(), "{} is needed by this test; MOREC_SHARED names the folder that holds it", full.display());
    full
}

/// The real all-MiniLM-L6-v2, fetched beforehand.
pub fn minilm() -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/models/all-minilm-l6-v2");
    assert!(
        dir.join("model.safetensors").exists(),
        "{} is needed by this test; fetch it with `../shared/models/get-models target/models`",
        dir.display()
    );
    dir
}

/// Every user encoder.
pub const USER_KINDS: [UserKind; 7] = [
    UserKind::Sasrec,
    UserKind::Bert4rec,
    UserKind::Gru4rec,
    UserKind::Nextitnet,
    UserKind::Caser,
    UserKind::Mean,
    UserKind::Dssm,
];

const WORDS: [&str; 24] = [
    "red", "blue", "old", "new", "small", "large", "guitar", "piano", "drum", "violin", "flute", "horn", "strings",
    "stand", "case", "bow", "pick", "stick", "cable", "tuner", "strap", "book", "lamp", "chair",
];

/// Writes a Hugging Face folder of a tiny BERT (no weights: for `item.pretrained = false`).
pub fn tiny_bert(dir: &Path, dropout: f64) -> PathBuf {
    let vocab: serde_json::Map<String, serde_json::Value> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
        .iter()
        .chain(&WORDS)
        .enumerate()
        .map(|(i, w)| (w.to_string(), i.into()))
        .collect();
    let special = |id: u32, content: &str| {
        serde_json::json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    let token = |id: &str| serde_json::json!({"id": id, "ids": [if id == "[CLS]" { 2 } else { 3 }], "tokens": [id]});
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "[PAD]"), special(1, "[UNK]"), special(2, "[CLS]"), special(3, "[SEP]")],
        "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "decoder": null,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"[CLS]": token("[CLS]"), "[SEP]": token("[SEP]")}},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"}
    });
    let config = serde_json::json!({
        "model_type": "bert", "vocab_size": 28, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "hidden_act": "gelu", "max_position_embeddings": 16, "type_vocab_size": 2,
        "layer_norm_eps": 1e-12, "hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout
    });
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    dir.into()
}

/// A domain in which a user's next item shares the last one's words more often than not.
pub fn domain(name: &str, users: usize, items: usize) -> Dataset {
    let mut s = Stream::new(77, name);
    let mut words = || WORDS[s.below(WORDS.len() as u64) as usize];
    let text: Vec<String> = (0..items).map(|_| format!("{} {} {}", words(), words(), words())).collect();
    let mut seqs = Csr::default();
    for _ in 0..users {
        let n = 5 + s.below(6) as usize;
        let mut row = vec![s.below(items as u64) as u32];
        while row.len() < n {
            let last = &text[*row.last().unwrap() as usize];
            let next = (0..20)
                .map(|_| s.below(items as u64) as u32)
                .find(|&c| text[c as usize].split(' ').any(|w| last.contains(w)))
                .unwrap_or(0);
            row.push(next);
        }
        seqs.push(&row);
    }
    Dataset {
        name: name.into(),
        items: Items { ids: (0..items).map(|i| format!("{name}-{i}")).collect(), text, ..Default::default() },
        users: (0..users).map(|u| format!("u{u}")).collect(),
        seqs,
        digest: format!("made up {name} {users} {items}"),
        ..Default::default()
    }
}

/// Settings of a model that trains in a blink.
pub fn small_config(kind: ItemKind, bert: &Path) -> Config {
    let mut c = Config::default();
    c.item.kind = kind;
    c.item.model = bert.display().to_string();
    c.item.pretrained = false;
    c.item.max_tokens = 8;
    c.user.dim = 16;
    c.user.max_len = 6;
    c.train.batch_size = 16;
    c.train.epochs = 2;
    c.train.checkpoint_steps = 3;
    c
}

/// A divided [`domain`].
pub fn prepared(name: &str, config: &Config) -> Prepared {
    Prepared::new(domain(name, 120, 60), config).unwrap()
}
