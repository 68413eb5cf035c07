//! Initial values of parameters. They are drawn from the seed and the parameter's name, so they do not depend on the
//! order in which layers are built.

use crate::rng::Stream;

/// Initial distribution of a parameter that is not loaded from a file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All elements 0.
    Zeros,
    /// All elements 1.
    Ones,
    /// All elements equal to this value.
    Constant(f32),
    /// Normal distribution N(0, σ²).
    Normal(f64),
    /// Xavier normal (Glorot & Bengio 2010), for matrices: σ = √(2 / (fan in + fan out)).
    XavierNormal,
}

impl Init {
    /// Draws the values of the parameter `name` with shape `shape`.
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
