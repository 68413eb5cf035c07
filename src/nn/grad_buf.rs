//! A parameter's gradient: dense, or the touched rows of a table only.

use candle_core::Tensor;
use std::borrow::Cow;

const ABSENT: u32 = u32::MAX;

/// Some rows of a table's gradient, each once.
#[derive(Default)]
pub struct Rows {
    /// Where a row of the table stands in `data`; `u32::MAX`: nowhere, it is zero.
    place: Vec<u32>,
    ids: Vec<u32>,
    data: Vec<f32>,
    width: usize,
}

impl Rows {
    /// Row `i`, if it was touched.
    pub fn row(&self, i: usize) -> Option<&[f32]> {
        let at = self.place[i];
        (at != ABSENT).then(|| &self.data[at as usize * self.width..][..self.width])
    }
    /// Elements of all touched rows, one after the other.
    pub fn data(&self) -> &[f32] {
        &self.data
    }
    /// Elements in a row.
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

/// What a gradient consists of.
pub enum GradContent<'a> {
    /// Nothing was written.
    Nothing,
    /// Every element.
    Dense(&'a [f32]),
    /// Some rows.
    Rows(&'a Rows),
    /// On another device.
    Device(&'a Tensor),
}

/// A parameter's gradient between two steps.
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
    /// Whether anything was written since the last [`clear`](Self::clear), even if it has been used up since.
    pub fn has_gradient(&self) -> bool {
        self.reached
    }
    /// What it holds now.
    pub fn content(&self) -> GradContent<'_> {
        match &self.device {
            Some(t) => GradContent::Device(t),
            None if self.filled => GradContent::Dense(&self.dense),
            None if !self.rows.ids.is_empty() => GradContent::Rows(&self.rows),
            None => GradContent::Nothing,
        }
    }
    /// Every element of a gradient on the CPU; empty where none was written.
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
            // Rows came first: from now on it is dense.
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
    /// Gives the memory back once the gradient has been used; what reached it stays known.
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
