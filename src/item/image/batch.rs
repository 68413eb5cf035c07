//! Images of a batch as input of an encoder; pixel bytes are converted to numbers while they are copied, and only bytes
//! are stored.

use super::Pixels;
use crate::error::{Error, Result};
use crate::nn::Pass;
use crate::nn::host::{scratch, tensor};
use crate::picture::{Augment, Rgb};
use crate::rng::Stream;
use candle_core::Tensor;
use rayon::prelude::*;
use std::borrow::Cow;

/// Several images of the same size.
pub struct Images<'a> {
    source: Source<'a>,
    count: usize,
    /// Height and width in pixels.
    size: (usize, usize),
}

enum Source<'a> {
    /// Interleaved red, green and blue bytes, and for each channel the number that each byte value maps to.
    Bytes(Vec<Cow<'a, [u8]>>, &'a [[f32; 256]; 3]),
    /// Values already scaled, shape (n, 3, height, width).
    Scaled(&'a [f32]),
}

impl<'a> Images<'a> {
    /// Images of items that all have one. In a training pass they are augmented as `augment` specifies, with random
    /// numbers of the pass.
    pub fn of(pixels: &'a Pixels, items: &[u32], augment: Augment, pass: &Pass) -> Result<Self> {
        let key = if augment == Augment::None { None } else { pass.dropout_key(0.5) };
        let side = pixels.side();
        let one = |&i: &u32| -> Result<Cow<'a, [u8]>> {
            let bytes = pixels.get(i as usize).ok_or_else(|| Error::Numeric(format!("item {i} has no picture")))?;
            Ok(match key {
                None => Cow::Borrowed(bytes),
                Some(key) => {
                    let picture = Rgb { width: side, height: side, data: bytes.to_vec() };
                    Cow::Owned(augment.apply(&picture, &mut Stream::new(key, &format!("augment/{i}"))).data)
                }
            })
        };
        let pictures = items.par_iter().map(one).collect::<Result<_>>()?;
        Ok(Self { source: Source::Bytes(pictures, pixels.table()), count: items.len(), size: (side, side) })
    }
    /// Images of `side · side · 3` bytes each; `table` maps the byte values of each channel to numbers.
    pub fn bytes(pictures: Vec<Cow<'a, [u8]>>, side: usize, table: &'a [[f32; 256]; 3]) -> Self {
        Self { count: pictures.len(), source: Source::Bytes(pictures, table), size: (side, side) }
    }
    /// Images from scaled values in PyTorch's layout (n, 3, height, width).
    pub fn scaled(values: &'a [f32], height: usize, width: usize) -> Self {
        Self { source: Source::Scaled(values), count: values.len() / (3 * height * width), size: (height, width) }
    }
    /// Number of images.
    pub fn count(&self) -> usize {
        self.count
    }
    /// Height and width of each image, in pixels.
    pub fn size(&self) -> (usize, usize) {
        self.size
    }
    /// Writes channel `c` of `out.len()` consecutive pixels of image `i`, starting at (y, x).
    fn line(&self, i: usize, c: usize, y: usize, x: usize, out: &mut [f32]) {
        let (h, w) = self.size;
        match &self.source {
            Source::Bytes(pictures, table) => {
                let from = 3 * (y * w + x) + c;
                for (o, v) in out.iter_mut().zip(pictures[i][from..].iter().step_by(3)) {
                    *o = table[c][*v as usize];
                }
            }
            Source::Scaled(all) => out.copy_from_slice(&all[((i * 3 + c) * h + y) * w + x..][..out.len()]),
        }
    }
    /// Pixels as rows: (n · height · width, 3).
    pub fn pixels(&self) -> Result<Tensor> {
        let (h, w) = self.size;
        let mut out = scratch(self.count * 3 * h * w);
        out.par_chunks_exact_mut(3 * h * w).enumerate().for_each(|(i, out)| {
            let mut line = vec![0f32; w];
            for (y, out) in out.chunks_exact_mut(3 * w).enumerate() {
                for c in 0..3 {
                    self.line(i, c, y, 0, &mut line);
                    out[c..].iter_mut().step_by(3).zip(&line).for_each(|(o, v)| *o = *v);
                }
            }
        });
        tensor(out, (self.count * h * w, 3))
    }
    /// Patches as rows: (n · patches, 3 · p²), channel by channel, in the order of a convolution's weights. Pixels at
    /// the right and lower edge that do not fill a patch are ignored.
    pub fn patches(&self, p: usize) -> Result<Tensor> {
        let (rows, cols) = (self.size.0 / p, self.size.1 / p);
        let wide = 3 * p * p;
        let mut out = scratch(self.count * rows * cols * wide);
        out.par_chunks_exact_mut(rows * cols * wide).enumerate().for_each(|(i, out)| {
            for (at, out) in out.chunks_exact_mut(wide).enumerate() {
                let (y, x) = (at / cols * p, at % cols * p);
                for (c, out) in out.chunks_exact_mut(p * p).enumerate() {
                    out.chunks_exact_mut(p).enumerate().for_each(|(ky, out)| self.line(i, c, y + ky, x, out));
                }
            }
        });
        tensor(out, (self.count * rows * cols, wide))
    }
}
