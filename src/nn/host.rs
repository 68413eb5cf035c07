//! Conversion between CPU tensors and slices or vectors of f32.

use crate::error::{Error, Result};
use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Shape, Storage, StorageRef, Tensor};
use std::ops::{Deref, Range};
use std::sync::Mutex;

/// Borrowed elements of a contiguous f32 tensor on the CPU.
pub struct Host<'a> {
    guard: StorageRef<'a>,
    range: Range<usize>,
}

impl Deref for Host<'_> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match &*self.guard {
            Storage::Cpu(CpuStorage::F32(v)) => &v[self.range.clone()],
            // `host` checked the variant, and the guard keeps it from changing.
            _ => &[],
        }
    }
}

/// Borrows a tensor's elements; an error unless it is f32, contiguous and on the CPU.
pub fn host(t: &Tensor) -> Result<Host<'_>> {
    let (guard, layout) = t.storage_and_layout();
    let Some((start, end)) = layout.contiguous_offsets() else {
        return Err(Error::Tensor(candle_core::Error::Msg("a fused operation needs a contiguous tensor".into())));
    };
    if !matches!(&*guard, Storage::Cpu(CpuStorage::F32(_))) {
        return Err(Error::Tensor(candle_core::Error::Msg("a fused operation needs an f32 tensor on the CPU".into())));
    }
    Ok(Host { guard, range: start..end })
}

/// Copies a tensor's elements, in row-major order, from any device.
pub fn to_vec(t: &Tensor) -> Result<Vec<f32>> {
    Ok(t.flatten_all()?.to_vec1()?)
}

/// Builds a CPU tensor from a vector without copying it.
pub fn tensor(data: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Ok(Tensor::from_vec(data, shape.into(), &Device::Cpu)?)
}

/// Allocates `n` uninitialised elements; the caller must write all of them before reading any.
#[allow(clippy::uninit_vec)]
pub fn scratch(n: usize) -> Vec<f32> {
    let mut v = Vec::with_capacity(n);
    // SAFETY: f32 has no invalid bit pattern and no drop; every caller fills the whole of it before reading.
    unsafe { v.set_len(n) };
    v
}

struct Update<F>(Mutex<Option<F>>);

impl<F: FnOnce(&mut [f32])> InplaceOp1 for Update<F> {
    fn name(&self) -> &'static str {
        "update"
    }
    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (Some((a, b)), CpuStorage::F32(v)) = (layout.contiguous_offsets(), storage) else {
            candle_core::bail!("update needs a contiguous f32 tensor")
        };
        if let Some(f) = self.0.lock().ok().and_then(|mut f| f.take()) {
            f(&mut v[a..b]);
        }
        Ok(())
    }
}

/// Changes a CPU tensor's elements in place (optimiser steps, loading of weights).
pub fn update(t: &Tensor, f: impl FnOnce(&mut [f32])) -> Result<()> {
    Ok(t.inplace_op1(&Update(Mutex::new(Some(f))))?)
}

/// A raw pointer that worker threads share; each use must write elements that no other use touches.
#[derive(Clone, Copy)]
pub struct SharedMut(*mut f32);
// SAFETY: users of `SharedMut` write disjoint ranges from different threads.
unsafe impl Send for SharedMut {}
unsafe impl Sync for SharedMut {}

impl SharedMut {
    /// Pointer to the start of a slice, which must outlive all uses.
    pub fn new(s: &mut [f32]) -> Self {
        Self(s.as_mut_ptr())
    }
    /// Pointer to element `i`.
    ///
    /// # Safety
    /// `i` is within the slice, and no other thread accesses the elements that the caller writes.
    pub unsafe fn at(self, i: usize) -> *mut f32 {
        unsafe { self.0.add(i) }
    }
}
