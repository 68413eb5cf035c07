//! What a distillation reports on its way.

/// An event of a distillation, of any modality.
pub enum Progress<'a> {
    /// A line for the user.
    Note(&'a str),
    /// Samples the teacher has encoded, of how many.
    Teacher(usize, usize),
    /// Steps taken, of how many, and a running mean of the loss.
    Step(u64, u64, f64),
}
