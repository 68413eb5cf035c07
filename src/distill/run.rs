//! A distillation from the teacher's vectors to the student's folder, for any modality.

use super::learner::Learner;
use super::progress::Progress;
use super::subspace::Reduction;
use super::task::{Distillation, HeldOut, Student, TaskInfo};
use super::{DistillConfig, DistillReport, card, neighbours};
use crate::error::{Error, Result};
use crate::fsio::{self, Staged};
use crate::nn::weights::{self, Weights, save_each_as};
use crate::nn::{Params, Pass, Tape, TrainContext, Weight, host};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// Number of neighbours of the reported recall.
const NEIGHBOURS: usize = 10;

/// Trains the student of `task` and writes it to `out`. The folder `work` stores the teacher's vectors and checkpoints, from
/// which a stopped distillation is resumed.
pub fn distill(
    task: &dyn Distillation,
    work: &Path,
    out: &Path,
    on_progress: &dyn Fn(Progress),
) -> Result<DistillReport> {
    let info = task.info();
    let config = &info.config;
    let started = Instant::now();
    std::fs::create_dir_all(work).map_err(Error::io(work))?;
    fsio::clear_unfinished(work)?;
    let teacher_progress = |done, all| on_progress(Progress::Teacher(done, all));
    let mut vectors =
        teacher_vectors(info, &work.join("teacher.safetensors"), &|| task.teacher_vectors(&teacher_progress))?;
    let reduction = Reduction::fit(&mut vectors, info.width, config.hidden, config.seed, info.centered);
    let mut targets = reduction.project(&vectors);
    drop(vectors);
    neighbours::normalise(&mut targets, config.hidden);

    let student = task.student(&reduction)?;
    let parameters = student.params.iter().map(|p| p.numel()).sum();
    on_progress(Progress::Note(&format!("student: {parameters} parameters{}", student.note)));
    let identity = identity(info);
    let learner = Learner { config, params: &student.params, identity: &identity, count: info.samples, work };
    let cursor = learner.learn(&|samples, step| backward(&student, config, &targets, samples, step), on_progress)?;

    let staged = Staged::new(out)?;
    let bytes = export(&student, config, staged.path())?;
    let mut report = DistillReport {
        dir: out.display().to_string(),
        parameters,
        bytes,
        teacher_parameters: info.teacher_parameters,
        vocab: student.vocab,
        coverage: student.coverage,
        texts: info.samples,
        held_out: info.held_out,
        steps: cursor.step,
        loss: cursor.last_loss,
        ..Default::default()
    };
    let quality = evaluate(task, &reduction, staged.path(), &mut report)?;
    report.seconds = started.elapsed().as_secs_f64();
    report.peak_memory = crate::experiment::usage::peak_memory();
    card::write(staged.path(), info, &student, &report, quality)?;
    staged.commit()?;
    Ok(report)
}

/// The teacher's vectors of the training samples, from `file` if it holds those that `info` names, else from `compute`.
fn teacher_vectors(info: &TaskInfo, file: &Path, compute: &dyn Fn() -> Result<Vec<f32>>) -> Result<Vec<f32>> {
    let name = format!("vectors/{}", info.vectors_key);
    let shape = vec![info.samples, info.width];
    if let Some(known) = Weights::open(file).ok().filter(|w| w.shape(&name) == Some(&shape)) {
        return known.read(&name);
    }
    let all = compute()?;
    weights::save(file, &[(name, shape, all.clone())], BTreeMap::new())?;
    Ok(all)
}

/// Digest of everything that a checkpoint depends on.
fn identity(info: &TaskInfo) -> String {
    let config =
        DistillConfig { checkpoint_steps: 0, name: String::new(), full_precision: false, ..info.config.clone() };
    let mut all = serde_json::json!({ "config": config });
    info.identity.iter().for_each(|(k, v)| all[k] = v.clone());
    fsio::sha256_bytes(all.to_string().as_bytes())
}

/// Adds the gradient of a batch to the student's parameters; returns the loss.
fn backward(student: &Student, config: &DistillConfig, targets: &[f32], samples: &[u32], step: u64) -> Result<f64> {
    let d = config.hidden;
    let tape = Tape::new();
    let train = TrainContext::new(&tape, config.seed, step);
    let target = samples.iter().flat_map(|&i| &targets[i as usize * d..][..d]).copied().collect();
    let loss = (student.loss)(samples, step, target, &Pass::train(&train))?;
    let value = f64::from(loss.value().to_scalar::<f32>()?);
    if !value.is_finite() {
        return Err(Error::Numeric(format!("step {}: the loss is {value}; lower --lr", step + 1)));
    }
    tape.backward(&loss, 1.0)?;
    Ok(value)
}

/// Writes the student's weights and other files to `dir`; returns the size of the weights in bytes.
fn export(student: &Student, config: &DistillConfig, dir: &Path) -> Result<u64> {
    let file = dir.join("model.safetensors");
    write_weights(&file, &student.params, config)?;
    for (name, text) in &student.files {
        fsio::write_bytes(&dir.join(name), text.as_bytes())?;
    }
    Ok(std::fs::metadata(&file).map_err(Error::io(&file))?.len())
}

fn write_weights(file: &Path, params: &Params, config: &DistillConfig) -> Result<()> {
    let all: Vec<&Weight> = params.iter().collect();
    let entries: Vec<_> = all.iter().map(|p| (p.name().to_string(), p.shape().to_vec())).collect();
    let meta = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    save_each_as(file, &entries, meta, config.precision(), |i| Ok(host::to_vec(&all[i].value())?.into()))
}

/// Compares the exported student in `dir` with the teacher on the held-out samples. Fills in the report's cosine and
/// recalls; returns the modality's own quality figures.
fn evaluate(
    task: &dyn Distillation,
    reduction: &Reduction,
    dir: &Path,
    report: &mut DistillReport,
) -> Result<BTreeMap<String, String>> {
    let (hidden, n) = (task.info().config.hidden, task.info().held_out);
    let student = task.held_out_by_student(dir)?;
    let mut teacher = task.held_out_by_teacher()?;
    reduction.center(&mut teacher);
    let reference = neighbours::nearest(&teacher, task.info().width, NEIGHBOURS);
    let recall = |x: &[f32], d: usize| neighbours::recall(&reference, &neighbours::nearest(x, d, NEIGHBOURS));
    let mut reduced = reduction.project(&teacher);
    report.recall_at_10 = recall(&student, hidden);
    report.recall_at_10_limit = recall(&reduced, hidden);
    report.others = task.compare(&recall)?;
    let mut unit = student.clone();
    neighbours::normalise(&mut unit, hidden);
    neighbours::normalise(&mut reduced, hidden);
    let dot: f64 = unit.iter().zip(&reduced).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    report.cosine = dot / n.max(1) as f64;
    if n < 2 { Ok(BTreeMap::new()) } else { task.quality(dir, &HeldOut { teacher, student }, reduction) }
}
