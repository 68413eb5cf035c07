//! Benchmark of training steps of SASRec over an item table.

use super::case::{Case, stepping};
use super::cases::Spec;
use crate::batch::Batch;
use crate::config::Multiplicity;
use crate::error::Result;
use crate::item::{Features, IdEncoder, ItemEncoder, ItemTable};
use crate::nn::{Params, Pass, Tape, TrainContext, ops};
use crate::rng::Stream;
use crate::train::optimizer::AdamW;
use crate::user::{SasRec, UserEncoder};
use candle_core::Device;
use std::sync::Arc;

/// Model, optimiser, and a random stream of users with uniformly drawn items.
pub struct Training {
    params: Params,
    item: IdEncoder,
    user: SasRec,
    features: Features,
    optimizer: AdamW,
    stream: Stream,
    spec: Spec,
    step: u64,
}

impl Training {
    /// Creates a randomly initialised model.
    pub fn new(spec: &Spec) -> Result<Self> {
        let config = spec.user();
        let (params, (item, user)) = Params::fresh(1, &Device::Cpu, |s| {
            Ok((IdEncoder::new(&s.pp("item"), spec.rows, spec.dim)?, SasRec::new(&s.pp("user"), &config)?))
        })?;
        let features = Features { count: spec.rows, ..Default::default() };
        let stream = Stream::new(1, "bench/sasrec");
        Ok(Self { params, item, user, features, optimizer: AdamW::default(), stream, spec: spec.clone(), step: 0 })
    }
    fn batch(&mut self) -> Batch {
        let mut window =
            || -> Vec<u32> { (0..=self.spec.len).map(|_| self.stream.below(self.spec.rows as u64) as u32).collect() };
        let windows: Vec<Vec<u32>> = (0..self.spec.batch).map(|_| window()).collect();
        Batch::new(windows.iter().map(Vec::as_slice), self.spec.len)
    }
}

impl Case for Training {
    fn step(&mut self) -> Result<Option<f64>> {
        let batch = self.batch();
        self.params.clear_grads();
        let tape = Tape::new();
        let train = TrainContext::new(&tape, 1, self.step);
        let pass = Pass::train(&train);
        let items = self.item.encode(&ItemTable { ids: &batch.items, features: &self.features }, &pass)?;
        let inputs = ops::gather(&pass, &items, batch.inputs.clone())?;
        let users = self.user.encode(&inputs, &batch.histories, &pass)?;
        let share = vec![-(self.spec.rows as f32).ln(); self.spec.rows];
        let loss = ops::in_batch_softmax(
            &pass,
            &users,
            &items,
            &Arc::new(batch.in_batch_targets(Some(&share), Multiplicity::Slots)),
        )?;
        stepping(&tape, &loss, &mut self.optimizer, 1e-3)?;
        self.step += 1;
        Ok(None)
    }
}
