//! Benchmarks of vision encoders: training and encoding with random images, decoding of real covers.

use super::case::{Case, stepping};
use super::cases::{Kind, Spec};
use crate::config::BatchNormMode;
use crate::error::{Error, Result};
use crate::item::image::{Backbone, Images, ResNet, ResNetConfig, Vit, VitConfig};
use crate::nn::ops::{self, InBatchTargets, Pooling};
use crate::nn::{Params, Pass, Tape, TrainContext};
use crate::picture::{Filter, decode, resize};
use crate::rng::Stream;
use crate::train::optimizer::AdamW;
use candle_core::Device;
use rayon::prelude::*;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

const SIDE: usize = 224;

/// A network and a batch of images; forward, backward and AdamW, or forward only.
pub struct Network {
    params: Params,
    net: Box<dyn Backbone>,
    pooling: Pooling,
    pixels: Vec<f32>,
    optimizer: Option<AdamW>,
    target: Arc<InBatchTargets>,
    step: u64,
}

impl Network {
    /// Creates a randomly initialised network of the spec's shape.
    pub fn new(spec: &Spec) -> Result<Self> {
        let bad = |m: String| Error::Usage(format!("not a shape: {m}"));
        let vit = matches!(spec.kind, Kind::Vit | Kind::VitEncode);
        let (params, net): (_, Box<dyn Backbone>) = if vit {
            let config = json!({"model_type": "vit", "hidden_size": spec.dim, "num_hidden_layers": spec.layers,
                "num_attention_heads": spec.heads, "intermediate_size": 4 * spec.dim, "image_size": SIDE, "patch_size": spec.len});
            let c = VitConfig::parse(&config).map_err(bad)?;
            let (p, n) = Params::fresh(1, &Device::Cpu, |s| Vit::new(s, &c, SIDE))?;
            (p, Box::new(n))
        } else {
            let c = ResNetConfig::parse(&json!({"model_type": "resnet"})).map_err(bad)?;
            let (p, n) = Params::fresh(1, &Device::Cpu, |s| ResNet::new(s, &c, (SIDE, SIDE), BatchNormMode::Frozen))?;
            (p, Box::new(n))
        };
        let n = spec.batch;
        let mut stream = Stream::new(1, "bench/vision");
        let trains = matches!(spec.kind, Kind::Vit | Kind::Resnet);
        Ok(Self {
            params,
            net,
            pooling: if vit { Pooling::Cls } else { Pooling::Mean },
            pixels: (0..n * 3 * SIDE * SIDE).map(|_| stream.normal() as f32).collect(),
            optimizer: trains.then(AdamW::default),
            target: Arc::new(InBatchTargets {
                target: (0..n as u32).map(|i| (i + 1) % n as u32).collect(),
                owner: (0..n as u32).collect(),
                own: vec![vec![]; n],
                negative_bias: vec![0.0; n],
                label_bias: vec![0.0; n],
            }),
            step: 0,
        })
    }
    fn pooled(&self, pass: &Pass) -> Result<crate::nn::Act> {
        let images = Images::scaled(&self.pixels, SIDE, SIDE);
        let (n, cls) = (images.count(), self.pooling == Pooling::Cls);
        let mut x = self.net.embed(&images, pass)?;
        for i in 0..self.net.blocks() {
            x = self.net.block(i, &x, n, pass, cls && i + 1 == self.net.blocks())?;
        }
        self.net.head(&x, n, self.pooling, pass)
    }
}

impl Case for Network {
    fn step(&mut self) -> Result<Option<f64>> {
        if self.optimizer.is_none() {
            self.pooled(&Pass::eval())?;
            return Ok(None);
        }
        self.params.clear_grads();
        let tape = Tape::new();
        let train = TrainContext::new(&tape, 1, self.step);
        let pass = Pass::train(&train);
        let pooled = self.pooled(&pass)?;
        let loss = ops::in_batch_softmax(&pass, &pooled, &pooled, &self.target)?;
        if let Some(o) = &mut self.optimizer {
            stepping(&tape, &loss, o, 1e-5)?;
        }
        self.step += 1;
        Ok(None)
    }
}

/// Decoding of the first `batch` covers of a folder and resizing to 224 × 224.
pub struct Decoding {
    files: Vec<PathBuf>,
}

impl Decoding {
    /// Lists the cover files.
    pub fn new(spec: &Spec) -> Result<Self> {
        let entries = std::fs::read_dir(&spec.data).map_err(Error::io(&spec.data))?;
        let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
        files.sort();
        if files.len() < spec.batch {
            return Err(Error::Usage(format!("{}: fewer than {} files", spec.data.display(), spec.batch)));
        }
        files.truncate(spec.batch);
        Ok(Self { files })
    }
}

impl Case for Decoding {
    fn step(&mut self) -> Result<Option<f64>> {
        let one = |path: &PathBuf| -> Result<Vec<u8>> {
            let bytes = std::fs::read(path).map_err(Error::io(path))?;
            let picture = decode(&bytes).map_err(|e| Error::Usage(format!("{} {e}", path.display())))?;
            Ok(resize(&picture, SIDE, SIDE, Filter::Bicubic).data)
        };
        let all = self.files.par_iter().map(one).collect::<Result<Vec<_>>>()?;
        std::hint::black_box(all);
        Ok(None)
    }
}
