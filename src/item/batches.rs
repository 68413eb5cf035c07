//! Splits the items of a catalogue into batches of bounded cost, and encodes them in parallel.

use crate::error::Result;
use crate::nn::parallel;
use candle_core::Device;

/// Maximum number of tokens per batch; a single longer text forms a batch of its own. Each thread works on one batch.
pub const BATCH_TOKENS: usize = 2 * 1024;
/// Maximum number of items per batch.
const BATCH_ITEMS: usize = 4096;

/// Splits items into batches of bounded size, with the longest texts first, so that the peak memory use is reached
/// early.
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

/// Computes one row of `width` values per item, in batches, → (count, width). On a CPU there is one batch per thread.
/// `len` returns the number of tokens of an item; `on_progress(done, all)` is called after each batch with numbers of
/// items.
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
