//! Interpolation of position tables to another grid than they were trained on.

/// Keys' cubic kernel with a = −0.75 (PyTorch's `bicubic`).
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.75;
    let x = x.abs();
    if x <= 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
    } else {
        0.0
    }
}

/// Interpolation weights (to, from) along one axis, as in `interpolate(mode="bicubic", align_corners=False)`: no
/// antialiasing, edges repeated.
fn line(from: usize, to: usize) -> Vec<f64> {
    let scale = from as f64 / to as f64;
    let mut m = vec![0f64; to * from];
    for i in 0..to {
        let at = (i as f64 + 0.5) * scale - 0.5;
        let base = at.floor();
        for k in -1..=2i64 {
            let place = (base as i64 + k).clamp(0, from as i64 - 1) as usize;
            m[i * from + place] += cubic(at - (base + k as f64));
        }
    }
    m
}

/// Interpolation matrix (to² + 1, from² + 1): the class token's position is copied, the others are interpolated.
pub(super) fn with_class(from: usize, to: usize) -> Vec<f32> {
    let m = line(from, to);
    let (rows, cols) = (to * to + 1, from * from + 1);
    let mut out = vec![0f32; rows * cols];
    out[0] = 1.0;
    for y in 0..to {
        for x in 0..to {
            let row = &mut out[(y * to + x + 1) * cols + 1..][..from * from];
            for (i, v) in row.iter_mut().enumerate() {
                *v = (m[y * from + i / from] * m[x * from + i % from]) as f32;
            }
        }
    }
    out
}
