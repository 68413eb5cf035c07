//! A parameter's value: in memory, or in its file until somebody asks for it. What nobody needs any more, because its output is
//! kept, goes back to the file: a frozen encoder whose rows are cached takes no memory.

use crate::error::Result;
use crate::fsio::sha256_bytes;
use crate::nn::host::to_vec;
use crate::nn::weights::StoredTensor;
use candle_core::{Device, Tensor, Var};
use std::sync::{PoisonError, RwLock};

pub(super) struct LazyValue {
    var: RwLock<Option<Var>>,
    /// Where it can be read again.
    file: Option<StoredTensor>,
}

impl LazyValue {
    pub(super) fn in_memory(var: Var) -> Self {
        Self { var: RwLock::new(Some(var)), file: None }
    }
    /// On the CPU.
    pub(super) fn in_file(file: StoredTensor) -> Self {
        Self { var: RwLock::new(None), file: Some(file) }
    }
    /// The value, without gradient tracking by candle.
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
    /// A copy of the values, which does not load them.
    pub(super) fn read(&self) -> Result<Vec<f32>> {
        let loaded = self.var.read().unwrap_or_else(PoisonError::into_inner).is_some();
        match &self.file {
            Some(file) if !loaded => Ok(file.read()),
            _ => to_vec(&self.value()),
        }
    }
    /// Overwrites the value.
    pub(super) fn set(&self, value: &Tensor) -> Result<()> {
        self.value();
        if let Some(var) = &*self.var.read().unwrap_or_else(PoisonError::into_inner) {
            var.set(value)?;
        }
        Ok(())
    }
    /// Gives the memory back, where the file still has the value.
    pub(super) fn unload(&self) {
        let mut slot = self.var.write().unwrap_or_else(PoisonError::into_inner);
        if let (Some(file), Some(var)) = (&self.file, &*slot)
            && to_vec(&var.as_detached_tensor()).is_ok_and(|v| v == file.read())
        {
            *slot = None;
        }
    }
    /// SHA-256 of the values as little-endian F32, without loading them.
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
