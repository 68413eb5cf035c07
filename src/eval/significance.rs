//! Whether two methods differ beyond chance, judged by the same users under both.
//!
//! Source: paired t-test and Wilcoxon's signed-rank test as in scipy.stats (`ttest_rel`; `wilcoxon` with
//! `method="approx"`), the paired bootstrap of Efron & Tibshirani (1993), Holm's correction (1979).

use crate::rng::Stream;
use rayon::prelude::*;
use serde::Serialize;
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// Resamples of the bootstrap.
pub const RESAMPLES: usize = 10_000;

/// A comparison of two methods over the same users.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Paired {
    /// Users.
    pub users: usize,
    /// Mean of (this − reference).
    pub difference: f64,
    /// 95 % of the bootstrap's means.
    pub interval: (f64, f64),
    /// Two-sided p of the paired t-test.
    pub p_t: f64,
    /// Two-sided p of Wilcoxon's signed-rank test.
    pub p_wilcoxon: f64,
    /// Two-sided p of the bootstrap: at best 2/(resamples + 1).
    pub p_bootstrap: f64,
}

/// Compares two methods by one number a user each; `seed` fixes the bootstrap.
pub fn paired(this: &[f64], reference: &[f64], seed: u64) -> Paired {
    let d: Vec<f64> = this.iter().zip(reference).map(|(a, b)| a - b).collect();
    let (interval, p_bootstrap) = bootstrap(&d, seed);
    Paired { users: d.len(), difference: mean(&d), interval, p_t: t_test(&d), p_wilcoxon: wilcoxon(&d), p_bootstrap }
}

fn mean(x: &[f64]) -> f64 {
    (0.0 + x.iter().sum::<f64>()) / x.len().max(1) as f64
}

/// Two-sided p that the mean of `d` is 0. Without any spread: 1 if all are 0, else 0.
pub fn t_test(d: &[f64]) -> f64 {
    let (n, m) = (d.len() as f64, mean(d));
    let variance = d.iter().map(|v| (v - m).powi(2)).sum::<f64>() / (n - 1.0);
    if d.len() < 2 || variance <= 0.0 {
        return if d.iter().all(|v| *v == 0.0) || d.len() < 2 { 1.0 } else { 0.0 };
    }
    let t = m / (variance / n).sqrt();
    StudentsT::new(0.0, 1.0, n - 1.0).map_or(f64::NAN, |s| 2.0 * s.cdf(-t.abs()))
}

/// Two-sided p by the normal approximation, corrected for ties; users without a difference are left out.
pub fn wilcoxon(d: &[f64]) -> f64 {
    let mut d: Vec<f64> = d.iter().copied().filter(|v| *v != 0.0).collect();
    if d.is_empty() {
        return 1.0;
    }
    d.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let n = d.len() as f64;
    let (mut plus, mut ties, mut i) = (0f64, 0f64, 0);
    while i < d.len() {
        let j = i + d[i..].iter().take_while(|v| v.abs() == d[i].abs()).count();
        let (size, rank) = ((j - i) as f64, (i + j + 1) as f64 / 2.0);
        plus += rank * d[i..j].iter().filter(|v| **v > 0.0).count() as f64;
        ties += size.powi(3) - size;
        i = j;
    }
    let expected = n * (n + 1.0) / 4.0;
    let variance = n * (n + 1.0) * (2.0 * n + 1.0) / 24.0 - ties / 48.0;
    let z = (plus - expected) / variance.sqrt();
    Normal::new(0.0, 1.0).map_or(f64::NAN, |s| 2.0 * s.cdf(-z.abs()))
}

/// 95 % interval of the mean, and the two-sided p that it is 0, from resampled users.
fn bootstrap(d: &[f64], seed: u64) -> ((f64, f64), f64) {
    if d.is_empty() {
        return ((f64::NAN, f64::NAN), 1.0);
    }
    let one = |i: usize| {
        let mut s = Stream::new(seed, &format!("bootstrap/{i}"));
        (0..d.len()).map(|_| d[s.below(d.len() as u64) as usize]).sum::<f64>() / d.len() as f64
    };
    let mut means: Vec<f64> = (0..RESAMPLES).into_par_iter().map(one).collect();
    means.sort_by(f64::total_cmp);
    let tail = |f: &dyn Fn(&f64) -> bool| means.iter().filter(|m| f(m)).count() as f64 + 1.0;
    let p = 2.0 * tail(&|m| *m <= 0.0).min(tail(&|m| *m >= 0.0)) / (RESAMPLES as f64 + 1.0);
    let at = |q: f64| means[((RESAMPLES as f64 * q) as usize).min(RESAMPLES - 1)];
    ((at(0.025), at(0.975)), p.min(1.0))
}

/// Holm's step-down correction of a family of p-values, in their order.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let (mut out, mut last) = (vec![0f64; p.len()], 0f64);
    for (k, &i) in order.iter().enumerate() {
        last = last.max(((p.len() - k) as f64 * p[i]).min(1.0));
        out[i] = last;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_and_everything() {
        let same = paired(&[0.5; 30], &[0.5; 30], 1);
        assert_eq!((same.difference, same.p_t, same.p_wilcoxon, same.p_bootstrap), (0.0, 1.0, 1.0, 1.0));
        let better: Vec<f64> = (0..200).map(|i| 0.5 + f64::from(i % 7) * 0.01).collect();
        let far = paired(&better, &[0.0; 200], 1);
        assert!(far.p_t < 1e-9 && far.p_wilcoxon < 1e-9 && far.p_bootstrap < 1e-3 && far.interval.0 > 0.4);
        assert_eq!(far, paired(&better, &[0.0; 200], 1), "the seed fixes it");
    }

    #[test]
    fn holms_own_order() {
        // R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
        let got = holm(&[0.01, 0.04, 0.03, 0.005]);
        assert!(got.iter().zip([0.03, 0.06, 0.06, 0.02]).all(|(a, b)| (a - b).abs() < 1e-12), "{got:?}");
    }
}
