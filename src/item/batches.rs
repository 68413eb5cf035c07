//! Items of a catalogue in batches of bounded cost.

use crate::error::Result;
use crate::nn::parallel;
use candle_core::Device;

/// Tokens a batch holds at most (one text may hold more); each thread works on a batch of its own.
pub const BATCH_TOKENS: usize = 2 * 1024;
/// Items a batch holds at most.
const BATCH_ITEMS: usize = 4096;

/// Splits items into batches of bounded size, longest texts first so that memory use is known early.
pub fn batches(count: usize, len: impl Fn(usize) -> usize) -> Vec<Vec<u32>> {
    let mut order: Vec<u32> = (0..count as u32).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(len(i as usize)));
    let (mut batches, mut batch, mut tokens) = (vec![], vec![], 0);
    for i in order {
        let l = len(i as usize);
        if !batch.is_empty() && (tokens + l > BATCH_TOKENS || batch.len() == BATCH_ITEMS) {
            batches.push(std::mem::take(&mut batch));
            tokens = 0;
        }
        tokens += l;
        batch.push(i);
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

/// (count, width) rows of all items, computed in batches: on a CPU a batch a thread. `len` of an item: its tokens;
/// `on_progress(done, all)` is told after each batch.
pub fn compute_rows(
    count: usize,
    width: usize,
    len: impl Fn(usize) -> usize,
    device: &Device,
    compute: impl Fn(&[u32]) -> Result<Vec<f32>> + Sync,
    on_progress: &dyn Fn(usize, usize),
) -> Result<Vec<f32>> {
    let (mut out, mut done) = (vec![0f32; count * width], 0);
    let batches = batches(count, len);
    let one = |batch: &Vec<u32>| compute(batch);
    parallel::map_in_order(&batches, device, one, |k, rows| {
        for (row, &i) in rows.chunks_exact(width).zip(&batches[k]) {
            out[i as usize * width..][..width].copy_from_slice(row);
        }
        done += batches[k].len();
        on_progress(done, count);
        Ok(())
    })?;
    Ok(out)
}
