//! Progress events of a distillation.

/// An event of a distillation, of any modality.
pub enum Progress<'a> {
    /// A message for the user.
    Note(&'a str),
    /// Samples encoded by the teacher, and their total number.
    Teacher(usize, usize),
    /// Optimiser steps taken, their total number, and a running mean of the loss.
    Step(u64, u64, f64),
}
