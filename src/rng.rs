//! Named random streams from a seed, independent of machine, thread count and build order.
//!
//! A stream is keyed by the seed and a name (`init/user_encoder.…`, `shuffle/3`), so that it does not depend on earlier
//! draws from other streams. Dropout uses a counter-based hash instead: element `i` of call `key` is kept or dropped by
//! [`keep_bits`], so that the backward pass can recompute the mask instead of storing it.

/// Finaliser of SplitMix64 (Steele, Lea & Flood 2014), which mixes 64 bits.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A 64-bit key for `name` under `seed` (FNV-1a of the name, then mixed).
pub fn key(seed: u64, name: &str) -> u64 {
    let fnv = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    mix(mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15)) ^ fnv)
}

/// A SplitMix64 generator.
#[derive(Debug, Clone)]
pub struct Stream {
    state: u64,
}

impl Stream {
    /// Creates the stream `name` of `seed`.
    pub fn new(seed: u64, name: &str) -> Self {
        Self { state: key(seed, name) }
    }
    /// Draws 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }
    /// Draws a uniform number in [0, 1) with 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
    /// Draws an integer uniformly from 0..n without bias (Lemire 2019). `n` must not be 0.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "below(0)");
        loop {
            let wide = u128::from(self.next_u64()) * u128::from(n);
            if wide as u64 >= n.wrapping_neg() % n {
                return (wide >> 64) as u64;
            }
        }
    }
    /// Draws from the standard normal distribution (Box–Muller with portable `libm`, so that platforms agree bit for
    /// bit).
    pub fn normal(&mut self) -> f64 {
        let u = 1.0 - self.uniform();
        let v = self.uniform();
        libm::sqrt(-2.0 * libm::log(u)) * libm::cos(std::f64::consts::TAU * v)
    }
    /// Shuffles a slice (Fisher–Yates).
    pub fn shuffle<T>(&mut self, xs: &mut [T]) {
        for i in (1..xs.len()).rev() {
            xs.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

/// Key of dropout call number `call` of training step `step`.
pub fn dropout_key(seed: u64, step: u64, call: u64) -> u64 {
    mix(key(seed, "dropout")
        ^ mix(step.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        ^ mix(call.wrapping_add(0x5851_f42d_4c95_7f2d)).rotate_left(32))
}

/// 32 hash bits for element `i` of a dropout call: two rounds of a 32-bit mixer that compilers can vectorise.
#[inline(always)]
pub fn keep_bits(key: u64, i: u32) -> u32 {
    let mut x = i ^ key as u32;
    x = (x ^ (x >> 16)).wrapping_mul(0x21f0_aaad);
    x = (x ^ (x >> 15)).wrapping_add((key >> 32) as u32).wrapping_mul(0x735a_2d97);
    x ^ (x >> 15)
}

/// Threshold for [`keep_bits`]: an element with bits at or above it is kept, with probability `1 - p`.
pub fn drop_threshold(p: f32) -> u32 {
    (f64::from(p) * 4_294_967_296.0).min(4_294_967_295.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_pinned_and_independent() {
        let mut a = Stream::new(7, "init/x");
        let first = [a.next_u64(), a.next_u64()];
        assert_eq!(
            first,
            [Stream::new(7, "init/x").next_u64(), {
                let mut s = Stream::new(7, "init/x");
                s.next_u64();
                s.next_u64()
            }]
        );
        assert_ne!(first[0], Stream::new(7, "init/y").next_u64());
        assert_ne!(first[0], Stream::new(8, "init/x").next_u64());
    }

    #[test]
    fn normal_and_dropout_have_their_moments() {
        let mut s = Stream::new(1, "n");
        let xs: Vec<f64> = (0..200_000).map(|_| s.normal()).collect();
        let mean = xs.iter().sum::<f64>() / xs.len() as f64;
        let var = xs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / xs.len() as f64;
        assert!(mean.abs() < 0.01 && (var - 1.0).abs() < 0.02, "{mean} {var}");
        for k in 0..8u64 {
            let k = key(k, "drop");
            let t = drop_threshold(0.1);
            let dropped = (0..100_000u32).filter(|&i| keep_bits(k, i) < t).count();
            assert!((9_600..10_400).contains(&dropped), "{dropped}");
            // Neighbouring elements are dropped independently.
            let pairs = (0..100_000u32).filter(|&i| keep_bits(k, i) < t && keep_bits(k, i + 1) < t).count();
            assert!((800..1_200).contains(&pairs), "{pairs}");
        }
    }
}
