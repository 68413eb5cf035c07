//! The only entry point to matrix multiplication: the pure-Rust crate `gemm` (AVX-512 where the machine has it), or the
//! library that [`blas`] has opened.

use super::blas;
use super::host::SharedMut;
use gemm::Parallelism;

/// A row-major matrix operand: its elements, the row length in memory, and whether it is used transposed.
#[derive(Clone, Copy)]
pub struct Mat<'a> {
    data: &'a [f32],
    ld: usize,
    transposed: bool,
}

impl<'a> Mat<'a> {
    /// An operand used as stored, with `ld` elements from one row to the next.
    pub fn new(data: &'a [f32], ld: usize) -> Self {
        Self { data, ld, transposed: false }
    }
    /// A transposed operand: stored as (k, m), used as (m, k).
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

/// Computes c(m,n) = alpha · a(m,k) · b(k,n) + beta · c, with `ldc` elements from one row of c to the next. With
/// `threads` = false it stays on the calling thread (for use inside a parallel loop).
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

/// As [`sgemm`], with a raw destination, for results interleaved with those of other threads.
///
/// # Safety
/// `c` points to m rows of n elements, `ldc` apart, that no other thread accesses during the call.
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
    if let Some(lib) = blas::library().filter(|_| m > 0 && n > 0 && k > 0) {
        // SAFETY: operands cover their shapes (checked above); c by contract.
        unsafe { through(lib, m, n, k, alpha, a, b, beta, c, ldc, threads) };
        return;
    }
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

/// Multiplies with a single-threaded library, dividing the rows or the columns of c among rayon's threads.
unsafe fn through(
    lib: &blas::Library,
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
    // Row-major c = a·b is column-major cᵀ = bᵀ·aᵀ: the operands are swapped, and an operand used as stored needs no
    // `T`.
    let call = |m: usize, n: usize, a: &[f32], b: &[f32], lda: usize, ldb: usize, ta: bool, tb: bool, c: *mut f32| {
        let letter = |t: bool| if t { b'T' } else { b'N' };
        let sizes = [m, n, k, lda.max(1), ldb.max(1), ldc].map(|v| v as i64);
        // SAFETY: operands and c hold their shapes, by this function's contract.
        unsafe {
            (lib.sgemm)(
                &letter(tb),
                &letter(ta),
                &sizes[1],
                &sizes[0],
                &sizes[2],
                &alpha,
                b.as_ptr(),
                &sizes[4],
                a.as_ptr(),
                &sizes[3],
                &beta,
                c,
                &sizes[5],
            )
        }
    };
    let pieces = if threads && m * n * k >= 64 * 64 * 64 { rayon::current_num_threads() } else { 1 };
    let by_rows = m >= n;
    let step = (if by_rows { m } else { n }).div_ceil(pieces).next_multiple_of(16);
    let whole = if by_rows { m } else { n };
    // SAFETY: the parts of c are disjoint.
    let out = unsafe { SharedMut::new(std::slice::from_raw_parts_mut(c, (m - 1) * ldc + n)) };
    rayon::scope(|scope| {
        for from in (0..whole).step_by(step) {
            let size = step.min(whole - from);
            let work = move || {
                let (rows, cols) = if by_rows { (size, n) } else { (m, size) };
                let of = |x: &Mat<'_>, along: bool, transposed: bool| match (along, transposed) {
                    (false, _) => 0,
                    (true, true) => from,
                    (true, false) => from * x.ld,
                };
                let at = &a.data[of(&a, by_rows, a.transposed)..];
                let bt = &b.data[of(&b, !by_rows, !b.transposed)..];
                // SAFETY: the offset lies within c.
                let c = unsafe { out.at(if by_rows { from * ldc } else { from }) };
                call(rows, cols, at, bt, a.ld, b.ld, a.transposed, b.transposed, c);
            };
            if pieces == 1 { work() } else { scope.spawn(move |_| work()) }
        }
    });
}

/// Describes the implementation that computes matrix products, for display.
pub fn describe() -> String {
    match blas::name() {
        Some(name) => name.to_string(),
        None => format!("gemm (pure Rust), {}", kernels()),
    }
}

fn kernels() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! has {
            ($($name:tt)*) => { [$(std::arch::is_x86_feature_detected!($name)),*].iter().all(|x| *x) };
        }
        if has!("avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl") {
            return "AVX-512 kernels (x86-v4)";
        }
        if has!("avx2" "fma") {
            return "AVX2 + FMA kernels (x86-v4 is compiled in, this processor lacks AVX-512)";
        }
    }
    if cfg!(target_arch = "aarch64") { "NEON kernels" } else { "portable kernels" }
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
