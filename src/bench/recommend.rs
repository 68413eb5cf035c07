//! Benchmark of training steps of the whole recommender on a real data set; batches and initial parameters are written
//! for the peer.

use super::case::{Case, stepping};
use super::cases::{Kind, Spec};
use crate::batch::Epoch;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::eval::encode;
use crate::experiment::Prepared;
use crate::fsio;
use crate::item::Features;
use crate::item::text::TextFolder;
use crate::model::{Blueprint, Recommender};
use crate::nn::{Action, Origin, Pass, Tape, TrainContext};
use crate::objective;
use crate::train::optimizer::AdamW;
use candle_core::Device;
use serde_json::json;

/// Number of batches written for the peer.
const BATCHES: usize = 24;

/// Model, data and optimiser of the benchmark.
pub struct Training {
    prepared: Prepared,
    config: Config,
    model: Recommender,
    features: Features,
    optimizer: AdamW,
    at: usize,
}

impl Training {
    /// Builds the model and writes `model.safetensors` and `batches.json` into the exchange folder.
    pub fn new(spec: &Spec) -> Result<Self> {
        let mut config = Config { user: spec.user(), ..Default::default() };
        config.data.path = spec.data.display().to_string();
        config.item.model = spec.model.display().to_string();
        config.item.dropout = spec.dropout;
        config.train.batch_size = spec.batch;
        let prepared = Prepared::open(&config)?;
        let folder = TextFolder::open(&spec.model, true)?;
        let blueprint = Blueprint {
            config: config.clone(),
            counts: prepared.counts(),
            encoders: folder.clone().into(),
            ..Default::default()
        };
        let frozen = spec.kind == Kind::MorecFrozen;
        let actions = blueprint
            .declare()?
            .into_iter()
            .map(|s| {
                let origin = if s.pretrained { Origin::Pretrained } else { Origin::Init };
                (s.name, Action { origin, train: !(frozen && s.encoder), lr: None })
            })
            .collect();
        let model = blueprint.build(&Device::Cpu, &actions, None)?;
        let mut features = blueprint.features(&prepared.texts)?;
        crate::eval::build_frozen_caches(&model, &mut features, Some(&spec.exchange), &encode::no_progress)?;
        let this = Self { prepared, config, model, features, optimizer: AdamW::default(), at: 0 };
        this.model.params.save(&spec.exchange.join("model.safetensors"))?;
        let epoch = this.epoch();
        let windows: Vec<Vec<Vec<u32>>> =
            (0..epoch.len().min(BATCHES)).map(|i| epoch.windows(i).map(|(_, w)| w.to_vec()).collect()).collect();
        let rows = |t: &crate::item::Tokens| (0..t.len()).map(|i| t.row(i).to_vec()).collect::<Vec<_>>();
        let encoder: serde_json::Value = serde_json::from_str(&folder.config_json)
            .map_err(|e| Error::model(spec.model.join("config.json"), e.to_string()))?;
        let given = json!({
            "windows": windows,
            "steps_an_epoch": epoch.len(),
            "tokens": this.features.tokens().map(rows),
            "max_tokens": this.config.item.max_tokens,
            "log_share": this.prepared.split.log_share(),
            "encoder_config": encoder,
        });
        fsio::write_json(&spec.exchange.join("batches.json"), &given)?;
        Ok(this)
    }
    fn epoch(&self) -> Epoch<'_> {
        Epoch::new(&self.prepared.split, &self.config, 0)
    }
}

impl Case for Training {
    fn step(&mut self) -> Result<Option<f64>> {
        let batch = {
            let epoch = self.epoch();
            epoch.batch(self.at % epoch.len().min(BATCHES))
        };
        let objective = objective::build(&self.config.objective, &self.prepared.split)?;
        self.model.params.clear_grads();
        let tape = Tape::new();
        let train = TrainContext::new(&tape, 1, self.at as u64);
        let pass = Pass::train(&train);
        let loss = crate::train::forward(&self.model, &self.features, objective.as_ref(), &batch, &pass)?;
        let value = f64::from(loss.value().to_scalar::<f32>()?);
        stepping(&tape, &loss, &mut self.optimizer, 1e-4)?;
        self.at += 1;
        Ok(Some(value))
    }
}
