//! Storage of a parameter's value: in memory, or in its weight file until it is first used. A frozen value that is no
//! longer needed, because the layer's output is cached, can be unloaded again: a frozen encoder with cached rows takes
//! no memory.

use crate::error::Result;
use crate::fsio::sha256_bytes;
use crate::nn::host::to_vec;
use crate::nn::weights::StoredTensor;
use candle_core::{Device, Tensor, Var};
use std::sync::{PoisonError, RwLock};

pub(super) struct LazyValue {
    var: RwLock<Option<Var>>,
    /// The file from which the value can be loaded again.
    file: Option<StoredTensor>,
}

impl LazyValue {
    /// A value that is already in memory.
    pub(super) fn in_memory(var: Var) -> Self {
        Self { var: RwLock::new(Some(var)), file: None }
    }
    /// A value that is loaded from its file, to the CPU, when it is first used.
    pub(super) fn in_file(file: StoredTensor) -> Self {
        Self { var: RwLock::new(None), file: Some(file) }
    }
    /// Returns the value as a tensor without candle's gradient tracking; loads it if needed.
    pub(super) fn value(&self) -> Tensor {
        if let Some(var) = &*self.var.read().unwrap_or_else(PoisonError::into_inner) {
            return var.as_detached_tensor();
        }
        let mut slot = self.var.write().unwrap_or_else(PoisonError::into_inner);
        let var = slot.get_or_insert_with(|| {
            let (values, shape) = self.file.as_ref().map_or((vec![], vec![0]), |f| (f.read(), f.shape().to_vec()));
            Var::from_vec(values, shape, &Device::Cpu).expect("as many values as the file's shape says")
        });
        var.as_detached_tensor()
    }
    /// Copies the values into a vector without keeping them loaded.
    pub(super) fn read(&self) -> Result<Vec<f32>> {
        let loaded = self.var.read().unwrap_or_else(PoisonError::into_inner).is_some();
        match &self.file {
            Some(file) if !loaded => Ok(file.read()),
            _ => to_vec(&self.value()),
        }
    }
    /// Overwrites the value in memory.
    pub(super) fn set(&self, value: &Tensor) -> Result<()> {
        self.value();
        if let Some(var) = &*self.var.read().unwrap_or_else(PoisonError::into_inner) {
            var.set(value)?;
        }
        Ok(())
    }
    /// Frees the memory if the file still contains the same values.
    pub(super) fn unload(&self) {
        let mut slot = self.var.write().unwrap_or_else(PoisonError::into_inner);
        if let (Some(file), Some(var)) = (&self.file, &*slot)
            && to_vec(&var.as_detached_tensor()).is_ok_and(|v| v == file.read())
        {
            *slot = None;
        }
    }
    /// SHA-256 of the values as little-endian F32, computed without keeping them loaded.
    pub(super) fn digest(&self) -> Result<String> {
        let loaded = self.var.read().unwrap_or_else(PoisonError::into_inner).is_some();
        match &self.file {
            Some(file) if !loaded => Ok(file.digest()),
            _ => {
                let bytes: Vec<u8> = to_vec(&self.value())?.iter().flat_map(|v| v.to_le_bytes()).collect();
                Ok(sha256_bytes(&bytes))
            }
        }
    }
}
