//! Soft prompt: learned rows inserted before each sequence (for images, after the class token), at the input of one
//! block. No row of the sequence is replaced, and the rows are removed from the last block's output.

use crate::error::Result;
use crate::nn::adapter::Method;
use crate::nn::init::Init;
use crate::nn::ops;
use crate::nn::{Act, Pass, Scope, Segments, Weight};
use std::sync::Arc;

/// Learned rows of a soft prompt and the position at which they are inserted.
pub(super) struct Prompt {
    rows: Weight,
    /// Index of the block before which the rows are inserted.
    pub(super) first: usize,
    /// Number of rows of each sequence before the prompt.
    after: usize,
}

impl Prompt {
    /// Declares `prompt` (rows, d), if the scope's settings ask for a soft prompt.
    pub(super) fn new(scope: &Scope, blocks: usize, d: usize, after: usize) -> Result<Option<Self>> {
        let Some(a) = scope.adapter().filter(|a| a.method == Method::Prompt) else { return Ok(None) };
        let rows = scope.mark_adapter().weight("prompt", &[a.width, d], Init::Normal(0.02))?;
        Ok(Some(Self { rows, first: a.first(blocks), after }))
    }
    pub(super) fn trains(&self) -> bool {
        self.rows.trains()
    }
    /// Number of rows of the prompt.
    pub(super) fn len(&self) -> usize {
        self.rows.shape()[0]
    }
    /// Inserts the prompt into every sequence of x (t, d); returns the new rows and segments.
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
    /// Removes the prompt from every sequence of x; `segments` are the lengths without the prompt.
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
