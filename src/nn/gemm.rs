//! The one seam to matrix multiplication: pure-Rust `gemm` (AVX-512 where the machine has it).

use gemm::Parallelism;

/// A row-major matrix operand: elements, row length in memory, and whether it is used transposed.
#[derive(Clone, Copy)]
pub struct Mat<'a> {
    data: &'a [f32],
    ld: usize,
    transposed: bool,
}

impl<'a> Mat<'a> {
    /// As stored.
    pub fn new(data: &'a [f32], ld: usize) -> Self {
        Self { data, ld, transposed: false }
    }
    /// Transposed: stored (k, m), used (m, k).
    pub fn t(data: &'a [f32], ld: usize) -> Self {
        Self { data, ld, transposed: true }
    }
    fn strides(&self) -> (isize, isize) {
        if self.transposed { (1, self.ld as isize) } else { (self.ld as isize, 1) }
    }
    fn covers(&self, rows: usize, cols: usize) -> bool {
        let (r, c) = if self.transposed { (cols, rows) } else { (rows, cols) };
        r == 0 || c == 0 || (c <= self.ld && (r - 1) * self.ld + c <= self.data.len())
    }
}

/// c(m,n) = alpha · a(m,k) · b(k,n) + beta · c, with `ldc` elements between the rows of c.
/// `threads` = false keeps it on the calling thread (inside a parallel loop).
pub fn sgemm(
    m: usize,
    n: usize,
    k: usize,
    alpha: f32,
    a: Mat,
    b: Mat,
    beta: f32,
    c: &mut [f32],
    ldc: usize,
    threads: bool,
) {
    assert!(n <= ldc && (m == 0 || n == 0 || (m - 1) * ldc + n <= c.len()), "gemm: c is too small");
    // SAFETY: c was checked to hold (m, n) at `ldc`.
    unsafe { sgemm_at(m, n, k, alpha, a, b, beta, c.as_mut_ptr(), ldc, threads) }
}

/// [`sgemm`] into a raw destination, for results interleaved with those of other threads.
///
/// # Safety
/// `c` points to m rows of n elements, `ldc` apart, that nothing else touches meanwhile.
pub unsafe fn sgemm_at(
    m: usize,
    n: usize,
    k: usize,
    alpha: f32,
    a: Mat,
    b: Mat,
    beta: f32,
    c: *mut f32,
    ldc: usize,
    threads: bool,
) {
    assert!(a.covers(m, k) && b.covers(k, n), "gemm: an operand is too small for ({m},{k})·({k},{n})");
    let (ars, acs) = a.strides();
    let (brs, bcs) = b.strides();
    let many = threads && m * n * k >= 48 * 48 * 48;
    let par = if many { Parallelism::Rayon(rayon::current_num_threads()) } else { Parallelism::None };
    // SAFETY: operands cover their shapes (checked above); c by contract.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c,
            1,
            ldc as isize,
            beta != 0.0,
            a.data.as_ptr(),
            acs,
            ars,
            b.data.as_ptr(),
            bcs,
            brs,
            beta,
            alpha,
            false,
            false,
            false,
            par,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_orientation_matches_a_plain_loop() {
        let mut s = crate::rng::Stream::new(3, "gemm");
        for (m, n, k) in [(1, 1, 1), (3, 5, 7), (17, 33, 9), (64, 50, 70), (1, 40, 300)] {
            let mut r = |len: usize| (0..len).map(|_| s.normal() as f32).collect::<Vec<_>>();
            let (a, b, c0) = (r(m * k), r(k * n), r(m * n));
            let at: Vec<f32> = (0..k * m).map(|i| a[(i % m) * k + i / m]).collect();
            let bt: Vec<f32> = (0..n * k).map(|i| b[(i % k) * n + i / k]).collect();
            for (ma, mb) in [
                (Mat::new(&a, k), Mat::new(&b, n)),
                (Mat::t(&at, m), Mat::new(&b, n)),
                (Mat::new(&a, k), Mat::t(&bt, k)),
                (Mat::t(&at, m), Mat::t(&bt, k)),
            ] {
                let mut c = c0.clone();
                sgemm(m, n, k, 0.5, ma, mb, 2.0, &mut c, n, true);
                for i in 0..m {
                    for j in 0..n {
                        let dot: f32 = (0..k).map(|p| a[i * k + p] * b[p * n + j]).sum();
                        let want = 0.5 * dot + 2.0 * c0[i * n + j];
                        assert!((c[i * n + j] - want).abs() < 1e-4 * (1.0 + want.abs()), "{m} {n} {k}");
                    }
                }
            }
        }
    }
}
