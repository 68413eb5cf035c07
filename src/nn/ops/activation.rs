//! Element-wise activation functions.

use super::composed::composed;
use crate::error::Result;
use crate::nn::host::{host, scratch, tensor};
use crate::nn::kernels::{Activation, CHUNK, activate, activate_back};
use crate::nn::tape::{Act, Grads, Pass};
use candle_core::Tensor;
use rayon::prelude::*;

/// Applies the activation function f to each element.
pub fn activation(pass: &Pass, x: &Act, f: Activation) -> Result<Act> {
    if !pass.fused(x.value().device()) {
        return composed(pass, &[x], &[], |a, _| {
            Ok(match f {
                Activation::Gelu => a[0].gelu_erf()?,
                Activation::GeluTanh => a[0].gelu()?,
                // candle's relu has derivative 1 at 0; this one has 0, like PyTorch's.
                Activation::Relu => (&a[0] * a[0].gt(0f64)?.to_dtype(a[0].dtype())?)?,
                Activation::Tanh => a[0].tanh()?,
                Activation::QuickGelu => (&a[0] * (&a[0] * -1.702)?.exp()?.affine(1.0, 1.0)?.recip()?)?,
                Activation::Silu => a[0].silu()?,
            })
        });
    }
    let mut y = scratch(x.value().elem_count());
    {
        let xh = host(x.value())?;
        y.par_chunks_mut(CHUNK).zip(xh.par_chunks(CHUNK)).for_each(|(y, x)| activate(f, x, y));
    }
    let back = pass.records(x.tracked()).then(|| {
        let (x, node) = (x.value().clone(), x.node());
        move |g: Tensor, grads: &mut Grads| {
            let mut d = scratch(x.elem_count());
            {
                let (xh, gh) = (host(&x)?, host(&g)?);
                d.par_chunks_mut(CHUNK)
                    .zip(xh.par_chunks(CHUNK))
                    .zip(gh.par_chunks(CHUNK))
                    .for_each(|((d, x), g)| activate_back(f, x, g, d));
            }
            grads.add(node, tensor(d, x.shape())?)
        }
    });
    Ok(pass.result(tensor(y, x.value().shape())?, back))
}
