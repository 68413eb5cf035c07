//! Gradient of a parameter: dense, or only the rows of a table that received one.

use candle_core::Tensor;
use std::borrow::Cow;

const ABSENT: u32 = u32::MAX;

/// Sparse gradient of a table: the rows that received a gradient, each once.
#[derive(Default)]
pub struct Rows {
    /// For each row of the table its index in `data`, or `u32::MAX` if its gradient is zero.
    place: Vec<u32>,
    ids: Vec<u32>,
    data: Vec<f32>,
    width: usize,
}

impl Rows {
    /// Gradient of row `i`, or `None` if it is zero.
    pub fn row(&self, i: usize) -> Option<&[f32]> {
        let at = self.place[i];
        (at != ABSENT).then(|| &self.data[at as usize * self.width..][..self.width])
    }
    /// Elements of all stored rows, one row after the other.
    pub fn data(&self) -> &[f32] {
        &self.data
    }
    /// Number of elements per row.
    pub fn width(&self) -> usize {
        self.width
    }
    fn add(&mut self, rows: usize, ids: &[u32], width: usize, grad: &[f32]) {
        self.place.resize(rows, ABSENT);
        self.width = width;
        for (&id, row) in ids.iter().zip(grad.chunks_exact(width)) {
            let at = self.place[id as usize];
            if at == ABSENT {
                self.place[id as usize] = self.ids.len() as u32;
                self.ids.push(id);
                self.data.extend_from_slice(row);
            } else {
                crate::nn::kernels::add_assign(&mut self.data[at as usize * width..][..width], row);
            }
        }
    }
    fn clear(&mut self) {
        self.ids.iter().for_each(|&i| self.place[i as usize] = ABSENT);
        self.ids.clear();
        self.data.clear();
    }
}

/// The form in which a gradient is stored.
pub enum GradContent<'a> {
    /// No gradient was written.
    Nothing,
    /// All elements of the parameter.
    Dense(&'a [f32]),
    /// Only some rows of a table.
    Rows(&'a Rows),
    /// A tensor on an accelerator.
    Device(&'a Tensor),
}

/// Buffer in which a parameter's gradient accumulates between two optimiser steps.
pub struct GradBuf {
    numel: usize,
    dense: Vec<f32>,
    filled: bool,
    rows: Rows,
    device: Option<Tensor>,
    reached: bool,
}

impl GradBuf {
    pub(super) fn new(numel: usize) -> Self {
        Self { numel, dense: vec![], filled: false, rows: Rows::default(), device: None, reached: false }
    }
    /// Whether a gradient was written since the last `clear`, even if it has been released since.
    pub fn has_gradient(&self) -> bool {
        self.reached
    }
    /// The gradient that is stored now.
    pub fn content(&self) -> GradContent<'_> {
        match &self.device {
            Some(t) => GradContent::Device(t),
            None if self.filled => GradContent::Dense(&self.dense),
            None if !self.rows.ids.is_empty() => GradContent::Rows(&self.rows),
            None => GradContent::Nothing,
        }
    }
    /// All elements of a gradient on the CPU; empty if none was written.
    pub fn dense(&self) -> Cow<'_, [f32]> {
        match self.content() {
            GradContent::Dense(d) => d.into(),
            GradContent::Rows(r) => to_dense(r, self.numel).into(),
            _ => (&[]).into(),
        }
    }
    pub(super) fn write(&mut self, write: impl FnOnce(&mut [f32], f32)) {
        self.reached = true;
        if !self.rows.ids.is_empty() {
            // Rows were written before; from now on the gradient is dense.
            self.dense = to_dense(&self.rows, self.numel);
            self.filled = true;
            self.rows.clear();
        }
        if self.dense.len() != self.numel {
            self.dense = crate::nn::host::scratch(self.numel);
        }
        write(&mut self.dense, if self.filled { 1.0 } else { 0.0 });
        self.filled = true;
    }
    pub(super) fn add_rows(&mut self, ids: &[u32], width: usize, grad: &[f32]) {
        self.reached = true;
        if self.filled {
            for (&id, row) in ids.iter().zip(grad.chunks_exact(width)) {
                crate::nn::kernels::add_assign(&mut self.dense[id as usize * width..][..width], row);
            }
        } else {
            self.rows.add(self.numel / width.max(1), ids, width, grad);
        }
    }
    pub(super) fn add_on_device(&mut self, grad: &Tensor) -> candle_core::Result<()> {
        self.reached = true;
        self.device = Some(match self.device.take() {
            None => grad.clone(),
            Some(have) => have.add(grad)?,
        });
        Ok(())
    }
    /// Frees the memory of a gradient that has been used; [`has_gradient`](Self::has_gradient) stays true.
    pub(super) fn release(&mut self) {
        self.dense = vec![];
        self.filled = false;
        self.rows.clear();
        self.device = None;
    }
    pub(super) fn clear(&mut self) {
        self.filled = false;
        self.rows.clear();
        self.device = None;
        self.reached = false;
    }
}

fn to_dense(rows: &Rows, numel: usize) -> Vec<f32> {
    let mut all = vec![0f32; numel];
    for (k, &id) in rows.ids.iter().enumerate() {
        all[id as usize * rows.width..][..rows.width].copy_from_slice(&rows.data[k * rows.width..][..rows.width]);
    }
    all
}
