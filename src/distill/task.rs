//! What one modality provides to the distillation loop.

use super::DistillConfig;
use super::subspace::Reduction;
use crate::error::Result;
use crate::hub::Preprocessing;
use crate::nn::weights::Weights;
use crate::nn::{Act, Params, Pass};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// A teacher of one modality and the samples that its student learns from. [`super::distill`] runs any of them; another
/// modality is another implementation.
pub trait Distillation {
    /// Settings, teacher and sizes of the distillation.
    fn info(&self) -> &TaskInfo;
    /// The teacher's vectors of all training samples, (samples, width); `on_progress(done, all)` is called after each batch.
    fn teacher_vectors(&self, on_progress: &dyn Fn(usize, usize)) -> Result<Vec<f32>>;
    /// Builds the student and what its training needs. `reduction` maps the teacher's vectors to the student's width.
    fn student<'a>(&'a self, reduction: &'a Reduction) -> Result<Student<'a>>;
    /// The teacher's vectors of the held-out samples, (held out, width).
    fn held_out_by_teacher(&self) -> Result<Vec<f32>>;
    /// Vectors of the held-out samples, (held out, `config.hidden`), by the student that was written to `dir`.
    fn held_out_by_student(&self, dir: &Path) -> Result<Vec<f32>>;
    /// Name and recall of other encoders. `recall` takes their vectors of the held-out samples and their width.
    fn compare(&self, _recall: &dyn Fn(&[f32], usize) -> f64) -> Result<Vec<(String, f64)>> {
        Ok(vec![])
    }
    /// Quality figures of this modality for the model card, by description, beside the common ones. `student` is the
    /// exported student's folder.
    fn quality(&self, _student: &Path, _vectors: &HeldOut, _reduction: &Reduction) -> Result<BTreeMap<String, String>> {
        Ok(BTreeMap::new())
    }
}

/// Settings, teacher and sizes of a distillation.
#[derive(Debug, Clone)]
pub struct TaskInfo {
    /// Settings of the distillation.
    pub config: DistillConfig,
    /// Width of the teacher's vectors.
    pub width: usize,
    /// Number of parameters of the teacher.
    pub teacher_parameters: usize,
    /// SHA-256 of the teacher's weights.
    pub teacher_sha256: String,
    /// Number of training samples.
    pub samples: usize,
    /// Number of held-out samples.
    pub held_out: usize,
    /// Name and digest of each source of samples.
    pub sources: Vec<(String, String)>,
    /// Digest of everything that the teacher's vectors depend on.
    pub vectors_key: String,
    /// Inputs that a checkpoint depends on, beside the settings.
    pub identity: Map<String, Value>,
    /// Whether the mean of the teacher's vectors is subtracted from them.
    pub centered: bool,
    /// `text` or `image`, for the model card.
    pub modality: &'static str,
    /// Plural name of the samples, for the model card.
    pub samples_name: &'static str,
}

/// Gives the loss, a scalar, of training samples by number. Arguments: samples, step, their targets (samples,
/// `config.hidden`) of length 1, and the recording pass.
pub type BatchLoss<'a> = Box<dyn Fn(&[u32], u64, Vec<f32>, &Pass) -> Result<Act> + 'a>;

/// A student before its training.
pub struct Student<'a> {
    /// Parameters of the student.
    pub params: Params,
    /// Loss of the student on training samples.
    pub loss: BatchLoss<'a>,
    /// Files of the student's folder beside `model.safetensors`: name and content.
    pub files: Vec<(&'static str, String)>,
    /// Files whose SHA-256 the model card lists, beside `model.safetensors`.
    pub card_files: &'static [&'static str],
    /// `model_type` of the student's `config.json`.
    pub architecture: String,
    /// Preprocessing section of the model card.
    pub preprocessing: Preprocessing,
    /// Summary line of the model card, before the numbers of parameters and bytes.
    pub summary: String,
    /// Vocabulary (where it has one) and samples in words, for a line that begins with its number of parameters.
    pub note: String,
    /// Size of the student's vocabulary; 0 without one.
    pub vocab: usize,
    /// Share of the corpus's tokens that are in the student's vocabulary; 0 without one.
    pub coverage: f64,
}

/// Vectors of the held-out samples.
pub struct HeldOut {
    /// Vectors by the teacher, centered if the task is, (held out, width).
    pub teacher: Vec<f32>,
    /// Vectors by the exported student, (held out, `config.hidden`).
    pub student: Vec<f32>,
}

/// Number of values in a weight file.
pub fn parameters(weights: &Weights) -> usize {
    weights.names().map(|n| weights.shape(n).map_or(0, |s| s.iter().product::<usize>())).sum()
}
