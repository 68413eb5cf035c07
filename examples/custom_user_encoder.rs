//! A user encoder of one's own in the trainer, without a change to the crate: it trains, transfers, is saved and opened again
//! like the built-in ones.
//!
//! `cargo run --release --example custom_user_encoder -- datasets/mine title-mini runs/gated`

use morec::config::{Config, UserConfig, UserKind};
use morec::eval::encode::{catalogue, no_progress, states};
use morec::experiment::{Experiment, Prepared};
use morec::model::ModelFolder;
use morec::nn::init::Init;
use morec::nn::{Act, LayerNorm, Linear, Pass, Scope, ops};
use morec::user::{Histories, UserEncoder, UserEncoderBuilder};
use std::path::Path;
use std::sync::Arc;

/// The state after event i is LN(xᵢ + W·mean over j ≤ i of σ(G·xⱼ) ⊙ xⱼ): a gate decides how much of each item counts.
struct GatedMean {
    gate: Linear,
    output: Linear,
    norm: LayerNorm,
    dropout: f32,
}

impl GatedMean {
    /// Declares `gate`, `output` and `norm`; the operations have their gradients, so nothing else is needed to train them.
    fn build(scope: &Scope, config: &UserConfig) -> morec::Result<Box<dyn UserEncoder>> {
        let d = config.dim;
        Ok(Box::new(Self {
            gate: Linear::new(&scope.pp("gate"), d, d, true, Init::XavierNormal)?,
            output: Linear::new(&scope.pp("output"), d, d, true, Init::XavierNormal)?,
            norm: LayerNorm::new(&scope.pp("norm"), d, 1e-6)?,
            dropout: config.dropout as f32,
        }))
    }
}

impl UserEncoder for GatedMean {
    fn encode(&self, x: &Act, histories: &Histories, pass: &Pass) -> morec::Result<Act> {
        let gated = ops::sigmoid_gate(pass, &ops::linear(pass, x, &self.gate)?, x)?;
        let mean = ops::running_mean(pass, &gated, &histories.segments)?;
        let y = ops::linear(pass, &mean, &self.output)?;
        ops::add_norm(pass, &y, Some(x), &self.norm, self.dropout)
    }
}

fn main() -> morec::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [data, encoder, run] = args.as_slice() else {
        return Err(morec::Error::Usage("usage: custom_user_encoder DATASET ENCODER RUN".into()));
    };
    let mut config = Config::default();
    config.data.path = data.clone();
    config.item.model = encoder.clone();
    config.user.kind = UserKind::Custom;
    config.train.epochs = 5;
    let prepared = Prepared::open(&config)?;
    let builder: UserEncoderBuilder = Arc::new(GatedMean::build);
    let experiment =
        Experiment { user_encoder: Some(builder.clone()), ..Experiment::new(&config, &prepared, Path::new(run)) };
    println!("test HR@10 {:.4}", experiment.run(vec![], &no_progress)?.test.get("hr@10"));
    // Opened again, with the same builder.
    let model = ModelFolder::open(Path::new(run))?.with_user_encoder(builder).build(&candle_core::Device::Cpu)?;
    let items = catalogue(&model, &model.features(&prepared.texts)?, &no_progress)?;
    let history = [0, 1];
    for (item, score) in morec::eval::top_k(&states(&model, &items, &[&history], None)?, &items, 3, &history) {
        println!("{score:7.3}  {}", prepared.texts[item as usize]);
    }
    Ok(())
}
