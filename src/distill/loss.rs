//! Losses of a student.

use crate::error::Result;
use crate::nn::ops::composed::composed;
use crate::nn::{Act, Pass, host};
use candle_core::{D, Tensor};

/// Mean of 1 − cos between the rows of x (n, d) and those of `target` (n, d), which have length 1.
pub fn cosine_distance(pass: &Pass, x: &Act, target: Vec<f32>) -> Result<Act> {
    let target = host::tensor(target, x.dims2()?)?;
    composed(pass, &[x], &[], |a, _| {
        let dot = (&a[0] * &target)?.sum(D::Minus1)?;
        let length = (a[0].sqr()?.sum(D::Minus1)? + 1e-12)?.sqrt()?;
        Ok((1.0 - (dot / length)?.mean_all()?)?)
    })
}

/// a + `weight` · b for two scalars.
pub fn weighted_sum(pass: &Pass, a: &Act, b: &Act, weight: f64) -> Result<Act> {
    composed(pass, &[a, b], &[], |x: &[Tensor], _| Ok((&x[0] + (&x[1] * weight)?)?))
}
