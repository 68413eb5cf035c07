//! BERT (Devlin et al. 2019) and RoBERTa (Liu et al. 2019) over packed tokens, under their Hugging Face names.
//!
//! Source: transformers' `modeling_bert.py` and `modeling_roberta.py`. The pooler is not included: MoRec and the
//! sentence encoders use the last hidden state.

use crate::error::Result;
use crate::item::prompt::Prompt;
use crate::nn::adapter::{LinearRole, Sublayer, SublayerAdapter};
use crate::nn::init::Init;
use crate::nn::kernels::Activation;
use crate::nn::ops::{self, AttentionSpec};
use crate::nn::{Act, LayerNorm, Linear, Pass, Scope, Segments, Weight};
use serde::Deserialize;
use std::sync::Arc;

/// The fields of `config.json` that are used.
#[derive(Debug, Clone, Deserialize)]
pub struct BertConfig {
    /// Architecture: `bert`, `roberta`, `xlm-roberta` or `camembert`.
    #[serde(default)]
    pub model_type: String,
    /// Number of rows of the token table.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Number of attention heads.
    pub num_attention_heads: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Name of the activation function of the feed-forward part.
    #[serde(default = "gelu")]
    pub hidden_act: String,
    /// Number of rows of the position table.
    pub max_position_embeddings: usize,
    /// Number of rows of the segment table.
    #[serde(default = "two")]
    pub type_vocab_size: usize,
    /// LayerNorm's ε.
    #[serde(default = "eps")]
    pub layer_norm_eps: f64,
    /// Dropout probability of hidden states.
    #[serde(default = "tenth")]
    pub hidden_dropout_prob: f64,
    /// Dropout probability of attention weights.
    #[serde(default = "tenth")]
    pub attention_probs_dropout_prob: f64,
    /// Id of the padding token; RoBERTa's first position is this number plus one.
    #[serde(default)]
    pub pad_token_id: Option<usize>,
    /// Standard deviation of randomly initialised weights.
    #[serde(default = "sigma")]
    pub initializer_range: f64,
    /// Kind of position embedding; only `absolute` is supported.
    #[serde(default)]
    pub position_embedding_type: Option<String>,
}

fn gelu() -> String {
    "gelu".into()
}
fn two() -> usize {
    2
}
fn eps() -> f64 {
    1e-12
}
fn tenth() -> f64 {
    0.1
}
fn sigma() -> f64 {
    0.02
}

impl BertConfig {
    /// Parses `config.json`; the error is a message for the user.
    pub fn parse(json: &str) -> std::result::Result<Self, String> {
        #[derive(Deserialize)]
        struct Kind {
            model_type: Option<String>,
        }
        let kind: Kind = serde_json::from_str(json).map_err(|e| format!("not JSON of a model: {e}"))?;
        match kind.model_type.as_deref() {
            Some("bert" | "roberta" | "xlm-roberta" | "camembert") => {}
            Some(other) => return Err(format!("model_type `{other}` is not supported; BERT and RoBERTa folders are")),
            None => return Err("no model_type; is it a Hugging Face folder?".into()),
        }
        let c: Self = serde_json::from_str(json).map_err(|e| format!("a field is missing or wrong: {e}"))?;
        // Bounds that no model comes near: a damaged number must neither overflow nor ask for more memory than there is.
        for (key, value, most) in [
            ("vocab_size", c.vocab_size, 1 << 24),
            ("hidden_size", c.hidden_size, 1 << 16),
            ("num_hidden_layers", c.num_hidden_layers, 1 << 10),
            ("intermediate_size", c.intermediate_size, 1 << 20),
            ("max_position_embeddings", c.max_position_embeddings, 1 << 20),
            ("type_vocab_size", c.type_vocab_size, 1 << 16),
        ] {
            if !(1..=most).contains(&value) {
                return Err(format!("{key} = {value} is not between 1 and {most}"));
            }
        }
        for (key, p) in [
            ("hidden_dropout_prob", c.hidden_dropout_prob),
            ("attention_probs_dropout_prob", c.attention_probs_dropout_prob),
        ] {
            if !(0.0..1.0).contains(&p) {
                return Err(format!("{key} = {p} is no probability below 1"));
            }
        }
        for (key, v) in [("layer_norm_eps", c.layer_norm_eps), ("initializer_range", c.initializer_range)] {
            if !(0.0..=1e3).contains(&v) {
                return Err(format!("{key} = {v} is not between 0 and 1000"));
            }
        }
        if c.num_attention_heads == 0 || !c.hidden_size.is_multiple_of(c.num_attention_heads) {
            return Err(format!(
                "num_attention_heads = {} does not divide hidden_size = {}",
                c.num_attention_heads, c.hidden_size
            ));
        }
        if c.position_embedding_type.as_deref().is_some_and(|p| p != "absolute") {
            return Err("position_embedding_type other than `absolute` is not supported".into());
        }
        c.activation()?;
        if c.pad_token_id.is_some_and(|p| p >= c.vocab_size) || c.usable_positions() == 0 {
            return Err(format!(
                "pad_token_id = {:?} does not fit vocab_size = {} and max_position_embeddings = {}",
                c.pad_token_id, c.vocab_size, c.max_position_embeddings
            ));
        }
        Ok(c)
    }
    fn activation(&self) -> std::result::Result<Activation, String> {
        Ok(match self.hidden_act.as_str() {
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            other => return Err(format!("hidden_act `{other}` is not supported (gelu, gelu_new, relu are)")),
        })
    }
    /// Row of the first position in the position table; in RoBERTa it follows the padding index.
    fn first_position(&self) -> usize {
        if self.model_type == "bert" { 0 } else { self.pad_token_id.unwrap_or(1) + 1 }
    }
    /// Maximum length of a sequence, in tokens, that the position table allows.
    pub fn usable_positions(&self) -> usize {
        self.max_position_embeddings.saturating_sub(self.first_position())
    }
}

/// Possible names of a parameter in a weight file: with or without the architecture's prefix, `weight`/`bias` or the
/// old `gamma`/`beta`.
pub fn file_names(name: &str) -> Vec<String> {
    let old = match name.rsplit_once("LayerNorm.") {
        Some((head, "weight")) => Some(format!("{head}LayerNorm.gamma")),
        Some((head, "bias")) => Some(format!("{head}LayerNorm.beta")),
        _ => None,
    };
    let stems: Vec<String> = std::iter::once(name.to_string()).chain(old).collect();
    ["", "bert.", "roberta.", "model."].iter().flat_map(|p| stems.iter().map(move |s| format!("{p}{s}"))).collect()
}

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
    after_attention: SublayerAdapter,
    after_output: SublayerAdapter,
}

impl Layer {
    fn new(scope: &Scope, c: &BertConfig) -> Result<Self> {
        let (d, init) = (c.hidden_size, Init::Normal(c.initializer_range));
        let (attention, at_self) = (scope.pp("attention"), scope.pp("attention.self"));
        let dense = |s: Scope, i: usize, o: usize| Linear::new(&s, i, o, true, init);
        let updated = |s: Scope, role: LinearRole, i: usize| Linear::adapted(&s, role, (i, d), true, init);
        let norm = |s: Scope| LayerNorm::new(&s.pp("LayerNorm"), d, c.layer_norm_eps);
        Ok(Self {
            query: updated(at_self.pp("query"), LinearRole::Query, d)?,
            key: updated(at_self.pp("key"), LinearRole::Key, d)?,
            value: updated(at_self.pp("value"), LinearRole::Value, d)?,
            attention_output: dense(attention.pp("output.dense"), d, d)?,
            attention_norm: norm(attention.pp("output"))?,
            intermediate: dense(scope.pp("intermediate.dense"), d, c.intermediate_size)?,
            output: updated(scope.pp("output.dense"), LinearRole::Outer, c.intermediate_size)?,
            output_norm: norm(scope.pp("output"))?,
            after_attention: SublayerAdapter::new(scope, Sublayer::Attention, d)?,
            after_output: SublayerAdapter::new(scope, Sublayer::FeedForward, d)?,
        })
    }
    fn trains(&self) -> bool {
        [&self.query, &self.key, &self.value, &self.attention_output, &self.intermediate, &self.output]
            .iter()
            .any(|l| l.trains())
            || self.attention_norm.trains()
            || self.output_norm.trains()
            || self.after_attention.trains()
            || self.after_output.trains()
    }
}

/// BERT or RoBERTa transformer.
pub struct Bert {
    config: BertConfig,
    activation: Activation,
    words: Weight,
    positions: Weight,
    types: Weight,
    norm: LayerNorm,
    layers: Vec<Layer>,
    prompt: Option<Prompt>,
}

impl Bert {
    /// Declares `embeddings.*` and `encoder.layer.{i}.*`.
    pub fn new(scope: &Scope, c: &BertConfig) -> Result<Self> {
        let emb = scope.pp("embeddings");
        let init = Init::Normal(c.initializer_range);
        let table = |name: &str, rows: usize| emb.pp(name).weight("weight", &[rows, c.hidden_size], init);
        Ok(Self {
            words: table("word_embeddings", c.vocab_size)?,
            positions: table("position_embeddings", c.max_position_embeddings)?,
            types: table("token_type_embeddings", c.type_vocab_size)?,
            norm: LayerNorm::new(&emb.pp("LayerNorm"), c.hidden_size, c.layer_norm_eps)?,
            layers: (0..c.num_hidden_layers)
                .map(|i| Layer::new(&scope.pp(format!("encoder.layer.{i}")).within(i, c.num_hidden_layers), c))
                .collect::<Result<_>>()?,
            prompt: Prompt::new(scope, c.num_hidden_layers, c.hidden_size, 0)?,
            activation: c.activation().map_err(|m| crate::Error::config("item.model", m))?,
            config: c.clone(),
        })
    }
    /// Number of blocks.
    pub fn depth(&self) -> usize {
        self.layers.len()
    }
    fn embeddings_train(&self) -> bool {
        self.words.trains() || self.positions.trains() || self.types.trains() || self.norm.trains()
    }
    /// Whether any parameter is trainable.
    pub fn trains(&self) -> bool {
        self.embeddings_train() || self.layers.iter().any(Layer::trains) || self.prompt_trains()
    }
    fn prompt_trains(&self) -> bool {
        self.prompt.as_ref().is_some_and(Prompt::trains)
    }
    /// Number of frozen blocks, counted from the first; 0 if the embeddings are trainable.
    pub fn frozen_blocks(&self) -> usize {
        // A prompt changes the rows from its block on.
        let most = self.prompt.as_ref().map_or(self.layers.len(), |p| p.first);
        let frozen = self.layers[..most].iter().take_while(|l| !l.trains()).count();
        if self.embeddings_train() { 0 } else { frozen }
    }
    /// Maps packed token ids (t) to the last hidden state (t, width). Layers before the first trainable parameter run
    /// in evaluation mode: no dropout, nothing recorded.
    pub fn forward(&self, ids: Vec<u32>, segments: &Segments, pass: &Pass) -> Result<Act> {
        let x = self.embed(ids, segments, pass)?;
        self.blocks(x, 0..self.layers.len(), segments, pass, &mut |_, _| Ok(()))
    }
    /// Maps packed token ids to the hidden states after each of the `taps` numbers of blocks and after the last block.
    pub fn forward_with_taps(
        &self,
        ids: Vec<u32>,
        segments: &Segments,
        pass: &Pass,
        taps: &[usize],
    ) -> Result<Vec<Act>> {
        let x = self.embed(ids, segments, pass)?;
        let mut seen = vec![];
        let last = self.blocks(x, 0..self.layers.len(), segments, pass, &mut |i, x| {
            if taps.contains(&i) {
                seen.push(x.clone());
            }
            Ok(())
        })?;
        seen.push(last);
        Ok(seen)
    }
    /// Maps packed token ids to the hidden state after the first `blocks` blocks, without gradient.
    pub fn forward_lower(&self, ids: Vec<u32>, segments: &Segments, blocks: usize) -> Result<Act> {
        let x = self.embed(ids, segments, &Pass::eval())?;
        self.blocks(x, 0..blocks, segments, &Pass::eval(), &mut |_, _| Ok(()))
    }
    /// Maps the hidden state after the first `from` blocks to the last hidden state.
    pub fn forward_upper(&self, x: Act, from: usize, segments: &Segments, pass: &Pass) -> Result<Act> {
        self.blocks(x, from..self.layers.len(), segments, pass, &mut |_, _| Ok(()))
    }
    fn embed(&self, ids: Vec<u32>, segments: &Segments, pass: &Pass) -> Result<Act> {
        let c = &self.config;
        let first = c.first_position() as u32;
        let positions: Vec<u32> = segments.iter().flat_map(|(_, l)| (0..l as u32).map(move |i| first + i)).collect();
        let zeros = vec![0u32; ids.len()];
        let eval = Pass::eval();
        let p = if self.embeddings_train() { pass } else { &eval };
        let tables =
            [(&self.words, Arc::new(ids)), (&self.positions, Arc::new(positions)), (&self.types, Arc::new(zeros))];
        let x = ops::embed(p, None, &tables)?;
        let x = ops::add_norm(p, &x, None, &self.norm, 0.0)?;
        ops::dropout(p, &x, c.hidden_dropout_prob as f32)
    }
    /// Runs the blocks `which`; `hook` is called with the index and the input of each block.
    fn blocks(
        &self,
        mut x: Act,
        which: std::ops::Range<usize>,
        segments: &Segments,
        pass: &Pass,
        hook: &mut dyn FnMut(usize, &Act) -> Result<()>,
    ) -> Result<Act> {
        let c = &self.config;
        let eval = Pass::eval();
        let hidden_p = c.hidden_dropout_prob as f32;
        let spec = AttentionSpec {
            heads: c.num_attention_heads,
            causal: false,
            dropout: c.attention_probs_dropout_prob as f32,
        };
        let mut live = self.embeddings_train() || self.layers[..which.start].iter().any(Layer::trains);
        let (own, mut segments) = (segments, segments.clone());
        let mut prompted = false;
        for i in which {
            let l = &self.layers[i];
            hook(i, &x)?;
            if let Some(prompt) = self.prompt.as_ref().filter(|p| p.first == i) {
                live |= prompt.trains();
                (x, segments) = prompt.insert(if live { pass } else { &eval }, &x, &segments)?;
                prompted = true;
            }
            live |= l.trains();
            let p = if live { pass } else { &eval };
            let qkv = ops::linears(p, &x, &[&l.query, &l.key, &l.value])?;
            let a = ops::attention(p, &qkv, &segments, spec)?;
            let a = ops::linear(p, &a, &l.attention_output)?;
            x = l.after_attention.add_norm(p, a, &x, &l.attention_norm, hidden_p)?;
            let f = ops::feed_forward(p, &x, &l.intermediate, self.activation, &l.output)?;
            x = l.after_output.add_norm(p, f, &x, &l.output_norm, hidden_p)?;
        }
        match &self.prompt {
            Some(prompt) if prompted => prompt.remove(if live { pass } else { &eval }, &x, own),
            _ => Ok(x),
        }
    }
}
