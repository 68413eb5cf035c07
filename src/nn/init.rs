//! Initial values, drawn from the seed and the parameter's name, so that they do not depend on build order.

use crate::rng::Stream;

/// How a parameter starts when nothing is loaded into it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All 0.
    Zeros,
    /// All 1.
    Ones,
    /// All this.
    Constant(f32),
    /// N(0, σ²).
    Normal(f64),
    /// Xavier (Glorot & Bengio 2010), normal: σ = √(2 / (fan in + fan out)); for matrices.
    XavierNormal,
}

impl Init {
    /// Draws a parameter.
    pub fn draw(self, seed: u64, name: &str, shape: &[usize]) -> Vec<f32> {
        let n = shape.iter().product();
        let sigma = match self {
            Self::Zeros => return vec![0.0; n],
            Self::Ones => return vec![1.0; n],
            Self::Constant(v) => return vec![v; n],
            Self::Normal(s) => s,
            Self::XavierNormal => {
                let fan: usize = shape.iter().take(2).sum();
                (2.0 / fan.max(1) as f64).sqrt()
            }
        };
        let mut s = Stream::new(seed, &format!("init/{name}"));
        (0..n).map(|_| (sigma * s.normal()) as f32).collect()
    }
}
