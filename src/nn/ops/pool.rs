//! Pooling of each sequence to one vector: its first row, or the mean of its rows.

use super::composed::composed;
use super::embed::gather;
use crate::error::Result;
use crate::nn::Segments;
use crate::nn::host::{host, tensor};
use crate::nn::kernels::axpy;
use crate::nn::tape::{Act, Grads, Pass};
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How the token vectors of an item are pooled to one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// Vector of the first token (`[CLS]` or `<s>`).
    Cls,
    /// Mean over all tokens.
    Mean,
}

/// Pools x (t, d), packed as `segments`, to (n, d); no sequence may be empty.
pub fn pool(pass: &Pass, x: &Act, segments: &Segments, how: Pooling) -> Result<Act> {
    let n = segments.len();
    let (t, d) = x.dims2()?;
    match how {
        Pooling::Cls => gather(pass, x, Arc::new(segments.iter().map(|(at, _)| at as u32).collect())),
        Pooling::Mean if !pass.fused(x.value().device()) => {
            let mut m = vec![0f32; n * t];
            for (i, (at, len)) in segments.iter().enumerate() {
                m[i * t + at..i * t + at + len].fill(1.0 / len as f32);
            }
            let m = Tensor::from_vec(m, (n, t), &Device::Cpu)?.to_device(x.value().device())?;
            composed(pass, &[x], &[], |a, _| Ok(m.matmul(&a[0])?))
        }
        Pooling::Mean => {
            let mut y = vec![0f32; n * d];
            {
                let xh = host(x.value())?;
                let xs: &[f32] = &xh;
                y.par_chunks_exact_mut(d).enumerate().for_each(|(i, y)| {
                    let (at, len) = segments.get(i);
                    for row in xs[at * d..(at + len) * d].chunks_exact(d) {
                        axpy(y, 1.0 / len as f32, row);
                    }
                });
            }
            let back = pass.records(x.tracked()).then(|| {
                let (node, segments) = (x.node(), segments.clone());
                move |g: Tensor, grads: &mut Grads| {
                    let mut dx = vec![0f32; t * d];
                    {
                        let gh = host(&g)?;
                        for (i, (at, len)) in segments.iter().enumerate() {
                            for row in dx[at * d..(at + len) * d].chunks_exact_mut(d) {
                                axpy(row, 1.0 / len as f32, &gh[i * d..(i + 1) * d]);
                            }
                        }
                    }
                    grads.add(node, tensor(dx, (t, d))?)
                }
            });
            Ok(pass.result(tensor(y, (n, d))?, back))
        }
    }
}
