//! Benchmarks of a text encoder: training on random tokens, encoding of real titles.

use super::case::{Case, stepping};
use super::cases::Spec;
use crate::data::Dataset;
use crate::error::Result;
use crate::item::Tokens;
use crate::item::text::{Bert, BertConfig, SentenceEncoder, TextFolder};
use crate::nn::ops::{self, InBatchTargets, Pooling};
use crate::nn::{Params, Pass, Segments, Tape, TrainContext};
use crate::rng::Stream;
use crate::train::optimizer::AdamW;
use candle_core::Device;
use serde_json::json;
use std::sync::Arc;

/// Forward, backward and AdamW on `batch` random texts of `len` tokens, with an in-batch softmax over them.
pub struct Training {
    params: Params,
    bert: Bert,
    optimizer: AdamW,
    stream: Stream,
    target: Arc<InBatchTargets>,
    spec: Spec,
    step: u64,
}

impl Training {
    /// Creates a randomly initialised encoder of the spec's shape.
    pub fn new(spec: &Spec) -> Result<Self> {
        let config = json!({
            "model_type": "bert", "vocab_size": spec.rows, "hidden_size": spec.dim, "num_hidden_layers": spec.layers,
            "num_attention_heads": spec.heads, "intermediate_size": 4 * spec.dim, "max_position_embeddings": 512,
            "hidden_dropout_prob": spec.dropout, "attention_probs_dropout_prob": spec.dropout,
        });
        let config = BertConfig::parse(&config.to_string()).map_err(|m| crate::Error::config("bench", m))?;
        let (params, bert) = Params::fresh(1, &Device::Cpu, |s| Bert::new(s, &config))?;
        let n = spec.batch as u32;
        let target = Arc::new(InBatchTargets {
            target: (0..n).map(|i| (i + 1) % n).collect(),
            owner: vec![0; spec.batch],
            own: vec![vec![]],
            negative_bias: vec![0.0; spec.batch],
            label_bias: vec![0.0; spec.batch],
        });
        let stream = Stream::new(1, "bench/text");
        Ok(Self { params, bert, optimizer: AdamW::default(), stream, target, spec: spec.clone(), step: 0 })
    }
}

impl Case for Training {
    fn step(&mut self) -> Result<Option<f64>> {
        let s = &self.spec;
        let ids = (0..s.batch * s.len).map(|_| self.stream.below(s.rows as u64) as u32).collect();
        let segments = Segments::from_lengths(vec![s.len; s.batch]);
        self.params.clear_grads();
        let tape = Tape::new();
        let train = TrainContext::new(&tape, 1, self.step);
        let pass = Pass::train(&train);
        let hidden = self.bert.forward(ids, &segments, &pass)?;
        let pooled = ops::pool(&pass, &hidden, &segments, Pooling::Mean)?;
        let loss = ops::in_batch_softmax(&pass, &pooled, &pooled, &self.target)?;
        stepping(&tape, &loss, &mut self.optimizer, 1e-5)?;
        self.step += 1;
        Ok(None)
    }
}

/// Tokenising and encoding of titles of a data set.
pub struct Encoding {
    folder: TextFolder,
    encoder: SentenceEncoder,
    texts: Vec<String>,
}

impl Encoding {
    /// Selects titles at equal distances in the catalogue, and writes them into the exchange folder for the peer.
    pub fn new(spec: &Spec) -> Result<Self> {
        let folder = TextFolder::open(&spec.model, true)?;
        let encoder = SentenceEncoder::new(&folder, Pooling::Mean)?;
        let all = Dataset::open(&spec.data)?.items.text;
        let every = (all.len() / spec.batch.max(1)).max(1);
        let texts: Vec<String> = all.into_iter().step_by(every).take(spec.batch).collect();
        crate::fsio::write_json(&spec.exchange.join("texts.json"), &texts)?;
        Ok(Self { folder, encoder, texts })
    }
}

impl Case for Encoding {
    fn step(&mut self) -> Result<Option<f64>> {
        let limit = self.folder.config.usable_positions().min(256);
        let tokens = Tokens::new(&self.folder.tokenizer, &self.texts, limit, false)?;
        let rows = self.encoder.encode(&tokens, &|_, _| {})?;
        // Value to compare with the peer's: the mean absolute value of the first vector.
        let d = self.encoder.width();
        Ok(Some(rows[..d].iter().map(|v| f64::from(v.abs())).sum::<f64>() / d as f64))
    }
}
