//! A soft prompt: learned rows before (in pictures: behind the class token of) each sequence, in front of one block; nothing of the
//! sequence is overwritten. What comes out of the last block has them no more.

use crate::error::Result;
use crate::nn::adapter::Method;
use crate::nn::init::Init;
use crate::nn::ops;
use crate::nn::{Act, Pass, Scope, Segments, Weight};
use std::sync::Arc;

pub(super) struct Prompt {
    rows: Weight,
    /// The block in front of which they stand.
    pub(super) first: usize,
    /// Behind how many rows of each sequence.
    after: usize,
}

impl Prompt {
    /// Parameter `prompt` (rows, d), where the scope's settings want one.
    pub(super) fn new(scope: &Scope, blocks: usize, d: usize, after: usize) -> Result<Option<Self>> {
        let Some(a) = scope.adapter().filter(|a| a.method == Method::Prompt) else { return Ok(None) };
        let rows = scope.mark_adapter().weight("prompt", &[a.width, d], Init::Normal(0.02))?;
        Ok(Some(Self { rows, first: a.first(blocks), after }))
    }
    pub(super) fn trains(&self) -> bool {
        self.rows.trains()
    }
    /// Rows of a prompt.
    pub(super) fn len(&self) -> usize {
        self.rows.shape()[0]
    }
    /// x (t, d) with the prompt in every sequence.
    pub(super) fn insert(&self, pass: &Pass, x: &Act, segments: &Segments) -> Result<(Act, Segments)> {
        let (t, p) = (x.dims2()?.0 as u32, self.len());
        let own: Arc<Vec<u32>> = Arc::new((0..p as u32).collect());
        let prompt = ops::embed(pass, None, &[(&self.rows, own)])?;
        let mut ids = Vec::with_capacity(x.dims2()?.0 + segments.len() * p);
        for (at, l) in segments.iter() {
            let row = |i: usize| (at + i) as u32;
            ids.extend((0..self.after.min(l)).map(row));
            ids.extend((0..p as u32).map(|i| t + i));
            ids.extend((self.after.min(l)..l).map(row));
        }
        let x = ops::gather(pass, &ops::concat_rows(pass, x, &prompt)?, Arc::new(ids))?;
        Ok((x, Segments::from_lengths(segments.iter().map(|(_, l)| l + p))))
    }
    /// x without it; `segments` are those of the sequences alone.
    pub(super) fn remove(&self, pass: &Pass, x: &Act, segments: &Segments) -> Result<Act> {
        let p = self.len();
        let mut ids = vec![];
        for (i, (at, l)) in segments.iter().enumerate() {
            let row = |j: usize| (at + i * p + j + if j < self.after { 0 } else { p }) as u32;
            ids.extend((0..l).map(row));
        }
        ops::gather(pass, x, Arc::new(ids))
    }
}
