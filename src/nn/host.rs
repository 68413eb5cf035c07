//! Views of CPU tensors as slices, and back.

use crate::error::{Error, Result};
use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Shape, Storage, StorageRef, Tensor};
use std::ops::{Deref, Range};
use std::sync::Mutex;

/// A contiguous f32 CPU tensor's elements.
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

/// Borrows a tensor's elements; it has to be f32, contiguous and on the CPU.
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

/// A copy of a tensor's elements, from whatever device.
pub fn to_vec(t: &Tensor) -> Result<Vec<f32>> {
    Ok(t.flatten_all()?.to_vec1()?)
}

/// A CPU tensor from its elements, without a copy.
pub fn tensor(data: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Ok(Tensor::from_vec(data, shape.into(), &Device::Cpu)?)
}

/// Memory that is written in full before it is read.
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

/// Changes a CPU tensor's elements in place (optimiser steps, loading).
pub fn update(t: &Tensor, f: impl FnOnce(&mut [f32])) -> Result<()> {
    Ok(t.inplace_op1(&Update(Mutex::new(Some(f))))?)
}

/// A raw pointer that worker threads may share; every use writes disjoint elements.
#[derive(Clone, Copy)]
pub struct SharedMut(*mut f32);
// SAFETY: users of `SharedMut` write disjoint ranges from different threads.
unsafe impl Send for SharedMut {}
unsafe impl Sync for SharedMut {}

impl SharedMut {
    /// Of a slice that outlives all uses.
    pub fn new(s: &mut [f32]) -> Self {
        Self(s.as_mut_ptr())
    }
    /// Element `i` as a pointer.
    ///
    /// # Safety
    /// `i` is within the slice, and no other thread touches what the caller writes through it.
    pub unsafe fn at(self, i: usize) -> *mut f32 {
        unsafe { self.0.add(i) }
    }
}
