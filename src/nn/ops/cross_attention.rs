//! Cross-attention between two packed sets of sequences: sequence i of the queries attends to sequence i of the keys.

use super::composed::composed;
use crate::error::{Error, Result};
use crate::nn::Segments;
use crate::nn::gemm::{Mat, sgemm, sgemm_at};
use crate::nn::host::{SharedMut, host, scratch, tensor};
use crate::nn::kernels::{softmax, softmax_back};
use crate::nn::tape::{Act, Grads, Pass};
use candle_core::{D, Tensor};
use rayon::prelude::*;

/// Cross-attention → (t, d): queries q (t, d) packed as `query_segments`; kv (s, 2d), the columns key | value, packed
/// as `key_segments`.
pub fn cross_attention(
    pass: &Pass,
    q: &Act,
    kv: &Act,
    query_segments: &Segments,
    key_segments: &Segments,
    heads: usize,
) -> Result<Act> {
    let ((t, d), (_, wide)) = (q.dims2()?, kv.dims2()?);
    let hd = d / heads;
    if wide != 2 * d || query_segments.len() != key_segments.len() {
        return Err(Error::Numeric(format!(
            "cross attention: {d} and {wide}, {} and {}",
            query_segments.len(),
            key_segments.len()
        )));
    }
    let scale = 1.0 / (hd as f32).sqrt();
    if !pass.fused(q.value().device()) {
        return composed(pass, &[q, kv], &[], |a, _| {
            let mut out = vec![];
            for ((qa, ql), (ka, kl)) in query_segments.iter().zip(key_segments.iter()) {
                let split = |x: Tensor, l: usize| -> Result<Tensor> {
                    Ok(x.reshape((l, heads, hd))?.transpose(0, 1)?.contiguous()?)
                };
                let q = split(a[0].narrow(0, qa, ql)?.contiguous()?, ql)?;
                let rows = a[1].narrow(0, ka, kl)?;
                let k = split(rows.narrow(1, 0, d)?.contiguous()?, kl)?;
                let v = split(rows.narrow(1, d, d)?.contiguous()?, kl)?;
                let s = (q.matmul(&k.transpose(1, 2)?.contiguous()?)? * f64::from(scale))?;
                let y = candle_nn::ops::softmax(&s, D::Minus1)?.matmul(&v)?;
                out.push(y.transpose(0, 1)?.contiguous()?.reshape((ql, d))?);
            }
            Ok(Tensor::cat(&out, 0)?)
        });
    }
    // Offset of each sequence's attention weights (heads · ql · kl).
    let mut starts = vec![0];
    for ((_, ql), (_, kl)) in query_segments.iter().zip(key_segments.iter()) {
        starts.push(starts[starts.len() - 1] + heads * ql * kl);
    }
    let mut p = scratch(starts[query_segments.len()]);
    let mut out = scratch(t * d);
    {
        let (qh, kh) = (host(q.value())?, host(kv.value())?);
        let (qs, ks, o): (&[f32], &[f32], SharedMut) = (&qh, &kh, SharedMut::new(&mut out));
        parts(&mut p, &starts).for_each(|(i, p)| {
            let ((qa, ql), (ka, kl)) = (query_segments.get(i), key_segments.get(i));
            for (head, p) in p.chunks_exact_mut(ql * kl).enumerate() {
                let (q, k) = (&qs[qa * d + head * hd..], &ks[ka * wide + head * hd..]);
                sgemm(ql, kl, hd, scale, Mat::new(q, d), Mat::t(k, wide), 0.0, p, kl, false);
                p.chunks_exact_mut(kl).for_each(|row| {
                    softmax(row);
                });
                let to = qa * d + head * hd;
                // SAFETY: this sequence's rows and this head's columns lie inside `out`, and only this job writes them.
                unsafe { sgemm_at(ql, hd, kl, 1.0, Mat::new(p, kl), Mat::new(&k[d..], wide), 0.0, o.at(to), d, false) };
            }
        });
    }
    let back = pass.records(q.tracked() || kv.tracked()).then(|| {
        let (qn, kn, qv, kvv) = (q.node(), kv.node(), q.value().clone(), kv.value().clone());
        let (query_segments, key_segments) = (query_segments.clone(), key_segments.clone());
        move |g: Tensor, grads: &mut Grads| {
            let (mut dq, mut dkv, mut p) = (scratch(t * d), scratch(key_segments.total() * wide), p);
            {
                let (qh, kh, gh) = (host(&qv)?, host(&kvv)?, host(&g)?);
                let (qs, ks, gs): (&[f32], &[f32], &[f32]) = (&qh, &kh, &gh);
                let (oq, ok) = (SharedMut::new(&mut dq), SharedMut::new(&mut dkv));
                parts(&mut p, &starts).for_each(|(i, p)| {
                    let ((qa, ql), (ka, kl)) = (query_segments.get(i), key_segments.get(i));
                    let mut ds = vec![0f32; ql * kl];
                    for (head, p) in p.chunks_exact_mut(ql * kl).enumerate() {
                        let (at, from) = (qa * d + head * hd, ka * wide + head * hd);
                        let (q, k, g) = (&qs[at..], &ks[from..], &gs[at..]);
                        // SAFETY (all three): this sequence's rows and this head's columns are written only by this
                        // job.
                        unsafe {
                            sgemm_at(kl, hd, ql, 1.0, Mat::t(p, kl), Mat::new(g, d), 0.0, ok.at(from + d), wide, false);
                        }
                        sgemm(ql, kl, hd, 1.0, Mat::new(g, d), Mat::t(&k[d..], wide), 0.0, &mut ds, kl, false);
                        for (p, ds) in p.chunks_exact(kl).zip(ds.chunks_exact_mut(kl)) {
                            softmax_back(p, ds, scale);
                        }
                        unsafe {
                            sgemm_at(ql, hd, kl, 1.0, Mat::new(&ds, kl), Mat::new(k, wide), 0.0, oq.at(at), d, false);
                            sgemm_at(kl, hd, ql, 1.0, Mat::t(&ds, kl), Mat::new(q, d), 0.0, ok.at(from), wide, false);
                        }
                    }
                });
            }
            if qn.is_some() {
                grads.add(qn, tensor(dq, (t, d))?)?;
            }
            if kn.is_some() {
                grads.add(kn, tensor(dkv, (key_segments.total(), wide))?)?;
            }
            Ok(())
        }
    });
    Ok(pass.result(tensor(out, (t, d))?, back))
}

/// Splits the buffer of attention weights by sequence, as parallel jobs.
fn parts<'a>(p: &'a mut [f32], starts: &[usize]) -> impl IndexedParallelIterator<Item = (usize, &'a mut [f32])> {
    let mut rest = p;
    let mut all = Vec::with_capacity(starts.len());
    for w in starts.windows(2) {
        let (a, b) = rest.split_at_mut(w[1] - w[0]);
        all.push(a);
        rest = b;
    }
    all.into_par_iter().enumerate()
}
