//! Gated recurrent units (Cho et al. 2014, in PyTorch's form) over packed sequences.
//!
//! Sequences of similar length are processed together, step by step. Each group is one job on one thread, so that no
//! step waits for another thread and no step is computed for a sequence that has ended.

use super::composed::composed;
use crate::error::{Error, Result};
use crate::nn::gemm::{Mat, sgemm};
use crate::nn::host::{SharedMut, host, scratch, tensor};
use crate::nn::kernels::{gru_row, gru_row_back};
use crate::nn::tape::{Act, Grads, Pass};
use crate::nn::{Segments, Weight};
use candle_core::{Device, Tensor};
use rayon::prelude::*;

/// Sequences per group; fixed, so that sums depend only on the input.
const GROUP: usize = 32;

/// (first row, length) of each non-empty sequence, longest first, in groups.
fn groups(segments: &Segments) -> Vec<Vec<(usize, usize)>> {
    let mut all: Vec<(usize, usize)> = segments.iter().filter(|s| s.1 > 0).collect();
    all.sort_by_key(|s| std::cmp::Reverse(s.1));
    all.chunks(GROUP).map(<[_]>::to_vec).collect()
}

/// Number of sequences in a group that are longer than `step`.
fn active(group: &[(usize, usize)], step: usize) -> usize {
    group.partition_point(|s| s.1 > step)
}

/// Runs a GRU over each packed sequence → hidden states (t, h). `gates` (t, 3h) is the input's contribution to the
/// gates r, z, n; `recurrent` (3h, h) maps the hidden state to its contribution. Hidden states start at 0.
pub fn gru(pass: &Pass, gates: &Act, segments: &Segments, recurrent: &Weight) -> Result<Act> {
    let (t, h3) = gates.dims2()?;
    let h = h3 / 3;
    if recurrent.shape() != [h3, h] || segments.total() != t {
        return Err(Error::Numeric(format!("GRU: gates of {h3} columns for {:?}", recurrent.shape())));
    }
    if !pass.fused(gates.value().device()) {
        return stepwise(pass, gates, segments, recurrent, h);
    }
    let records = pass.records_with(gates.tracked(), [recurrent]);
    let groups = groups(segments);
    let (y, kept) = forward(&*host(gates.value())?, &*host(&recurrent.value())?, &groups, h, records);
    let y = tensor(y, (t, h))?;
    let back = records.then(|| {
        let (node, recurrent, states) = (gates.node(), recurrent.clone(), y.clone());
        move |g: Tensor, grads: &mut Grads| {
            let before = previous_states(&*host(&states)?, &groups, h);
            let (di, dg) = backward(&*host(&g)?, &*host(&recurrent.value())?, &before, &kept, &groups, h);
            recurrent.add_grad(|dw, beta| {
                sgemm(h3, h, t, 1.0, Mat::t(&dg, h3), Mat::new(&before, h), beta, dw, h, true);
            });
            grads.done([&recurrent])?;
            if node.is_some() {
                grads.add(node, tensor(di, (t, h3))?)?;
            }
            Ok(())
        }
    });
    Ok(pass.result(y, back))
}

/// Hidden states (t, h) and, if `records`, the values of each row that [`gru_row_back`] needs (t, 4h). `gi` is the
/// input's contribution to the gates (t, 3h), `w` the recurrent weight (3h, h).
fn forward(gi: &[f32], w: &[f32], groups: &[Vec<(usize, usize)>], h: usize, records: bool) -> (Vec<f32>, Vec<f32>) {
    let h3 = 3 * h;
    let t = gi.len() / h3;
    let (mut y, mut kept) = (scratch(t * h), scratch(if records { t * 4 * h } else { 0 }));
    let (out, keep) = (SharedMut::new(&mut y), SharedMut::new(&mut kept));
    groups.par_iter().for_each(|group| {
        let (mut state, mut gh) = (vec![0f32; group.len() * h], vec![0f32; group.len() * h3]);
        let mut spare = vec![0f32; 4 * h];
        for step in 0..group[0].1 {
            let n = active(group, step);
            if step > 0 {
                sgemm(n, h3, h, 1.0, Mat::new(&state, h), Mat::t(w, h), 0.0, &mut gh, h3, false);
            }
            for (i, &(at, _)) in group[..n].iter().enumerate() {
                let row = at + step;
                let s = &mut state[i * h..(i + 1) * h];
                // SAFETY: the rows of a sequence lie inside `y` and `kept`, and only the job of its group writes them.
                let (o, k) = unsafe {
                    let k =
                        if records { Some(std::slice::from_raw_parts_mut(keep.at(row * 4 * h), 4 * h)) } else { None };
                    (std::slice::from_raw_parts_mut(out.at(row * h), h), k)
                };
                gru_row(&gi[row * h3..(row + 1) * h3], &gh[i * h3..(i + 1) * h3], s, k.unwrap_or(&mut spare));
                o.copy_from_slice(s);
            }
        }
    });
    (y, kept)
}

/// Hidden state before each row (t, h), from the hidden states `ys` after each row; 0 before a sequence's first row.
fn previous_states(ys: &[f32], groups: &[Vec<(usize, usize)>], h: usize) -> Vec<f32> {
    let mut before = vec![0f32; ys.len()];
    for &(at, len) in groups.iter().flatten() {
        before[(at + 1) * h..(at + len) * h].copy_from_slice(&ys[at * h..(at + len - 1) * h]);
    }
    before
}

/// Gradients of the input's and of the hidden state's contributions to the gates, each (t, 3h), from the gradient `gs`
/// (t, h) of the hidden states.
fn backward(
    gs: &[f32],
    w: &[f32],
    before: &[f32],
    kept: &[f32],
    groups: &[Vec<(usize, usize)>],
    h: usize,
) -> (Vec<f32>, Vec<f32>) {
    let h3 = 3 * h;
    let (mut di, mut dg) = (scratch(3 * gs.len()), scratch(3 * gs.len()));
    let (dio, dgo) = (SharedMut::new(&mut di), SharedMut::new(&mut dg));
    groups.par_iter().for_each(|group| {
        let (mut dh, mut through) = (vec![0f32; group.len() * h], vec![0f32; group.len() * h]);
        let mut rows = vec![0f32; group.len() * h3];
        for step in (0..group[0].1).rev() {
            let n = active(group, step);
            for (i, &(at, _)) in group[..n].iter().enumerate() {
                let row = at + step;
                let d = &mut dh[i * h..(i + 1) * h];
                d.iter_mut().zip(&gs[row * h..(row + 1) * h]).for_each(|(d, g)| *d += g);
                // SAFETY: the rows of a sequence lie inside `di` and `dg`, and only the job of its group writes them.
                let (a, b) = unsafe {
                    (
                        std::slice::from_raw_parts_mut(dio.at(row * h3), h3),
                        std::slice::from_raw_parts_mut(dgo.at(row * h3), h3),
                    )
                };
                gru_row_back(&kept[row * 4 * h..(row + 1) * 4 * h], &before[row * h..(row + 1) * h], d, a, b);
                rows[i * h3..(i + 1) * h3].copy_from_slice(b);
            }
            if step > 0 {
                sgemm(n, h, h3, 1.0, Mat::new(&rows, h3), Mat::new(w, h), 0.0, &mut through, h, false);
                dh[..n * h].iter_mut().zip(&through[..n * h]).for_each(|(d, t)| *d += t);
            }
        }
    });
    (di, dg)
}

/// Composed path: for each step, one operation over all sequences.
fn stepwise(pass: &Pass, gates: &Act, segments: &Segments, recurrent: &Weight, h: usize) -> Result<Act> {
    let device = gates.value().device().clone();
    let mut all: Vec<(usize, usize)> = segments.iter().filter(|s| s.1 > 0).collect();
    all.sort_by_key(|s| std::cmp::Reverse(s.1));
    let longest = segments.longest();
    let at_step =
        |step: usize| all.iter().take_while(|s| s.1 > step).map(|s| (s.0 + step) as u32).collect::<Vec<u32>>();
    // Position of each row in the concatenation of all steps' rows.
    let mut place = vec![0u32; segments.total()];
    (0..longest).flat_map(&at_step).enumerate().for_each(|(i, row)| place[row as usize] = i as u32);
    let place = Tensor::new(place, &device)?;
    composed(pass, &[gates], &[recurrent], |a, w| {
        let sigmoid = |x: &Tensor| -> Result<Tensor> { Ok(((x * 0.5)?.tanh()? * 0.5)?.affine(1.0, 0.5)?) };
        let mut outs = vec![];
        let mut state = Tensor::zeros((all.len(), h), gates.value().dtype(), &device)?;
        for step in 0..longest {
            let rows = at_step(step);
            let n = rows.len();
            let gi = a[0].index_select(&Tensor::from_vec(rows, n, &Device::Cpu)?.to_device(&device)?, 0)?;
            let before = state.narrow(0, 0, n)?;
            let gh = before.matmul(&w[0].t()?)?;
            let part = |t: &Tensor, i: usize| t.narrow(1, i * h, h);
            let r = sigmoid(&(part(&gi, 0)? + part(&gh, 0)?)?)?;
            let z = sigmoid(&(part(&gi, 1)? + part(&gh, 1)?)?)?;
            let new = (part(&gi, 2)? + (r * part(&gh, 2)?)?)?.tanh()?;
            state = ((&before - &new)? * z)?.add(&new)?;
            outs.push(state.clone());
        }
        Ok(Tensor::cat(&outs, 0)?.index_select(&place, 0)?)
    })
}
