//! The loop of a distillation, resumable at any step.

use super::corpus::Corpus;
use super::learner::Learner;
use super::student::{self, cosine_distance, plus};
use super::teacher::Teacher;
use super::{DistillConfig, DistillReport, export, neighbours, subspace, vocab};
use crate::error::{Error, Result};
use crate::fsio::{self, Staged};
use crate::item::Tokens;
use crate::item::text::{Bert, SentenceEncoder, TextFolder};
use crate::nn::{Pass, Tape, TrainContext, host, ops};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

pub(super) const NEIGHBOURS: usize = 10;

/// What is told on the way.
pub enum Progress<'a> {
    /// A line worth reading.
    Note(&'a str),
    /// Texts the teacher has encoded, of how many.
    Teacher(usize, usize),
    /// Steps taken, of how many, and the recent loss.
    Step(u64, u64, f64),
}

struct Lesson<'a> {
    config: &'a DistillConfig,
    teacher: &'a Teacher,
    /// Student's tokens, teacher's tokens, reduced and normalised teacher vectors of the training texts.
    own: Tokens,
    theirs: Tokens,
    targets: Vec<f32>,
    basis: Vec<f32>,
}

/// Teaches a student on `corpus` and writes it to `out`. `work` keeps the teacher's vectors and checkpoints; a
/// distillation stopped there goes on where it was. `others` are judged by the same held-out texts.
pub fn distill(
    config: &DistillConfig,
    teacher_dir: &Path,
    others: &[(String, TextFolder)],
    corpus: &Corpus,
    work: &Path,
    out: &Path,
    tell: &dyn Fn(Progress),
) -> Result<DistillReport> {
    config.check()?;
    let started = Instant::now();
    let teacher = Teacher::open(teacher_dir, config)?;
    let usable = teacher.folder.config.usable_positions();
    if config.max_tokens > usable {
        return Err(Error::Usage(format!("--max-tokens: the teacher has only {usable} positions")));
    }
    std::fs::create_dir_all(work).map_err(Error::io(work))?;
    fsio::clear_unfinished(work)?;
    let theirs = teacher.tokens(&corpus.train)?;
    let pruned =
        vocab::prune(&teacher_dir.join("tokenizer.json"), &teacher.folder.tokenizer_json, &theirs, config.vocab)?;
    let on_progress = |done, all| tell(Progress::Teacher(done, all));
    let vectors = teacher.vectors(&theirs, &work.join("teacher.safetensors"), &on_progress)?;
    let d = teacher.encoder.width();
    let basis = subspace::leading(&vectors, d, config.hidden, config.seed);
    let mut targets = subspace::project(&vectors, d, &basis);
    drop(vectors);
    neighbours::normalise(&mut targets, config.hidden);

    let folder = student::folder(&teacher.folder, &pruned, config)?;
    let (params, bert) = student::build(&folder, &teacher, &pruned, &basis, config.seed)?;
    let count = params.iter().map(|p| p.numel()).sum();
    tell(Progress::Note(&format!(
        "student: {count} parameters, {} tokens covering {:.2} % of the corpus; {} texts to learn from, {} held out",
        pruned.old_ids.len(),
        100.0 * pruned.coverage,
        corpus.train.len(),
        corpus.held_out.len()
    )));
    let own = Tokens::new(&folder.tokenizer, &corpus.train, config.max_tokens, config.lower_case)?;
    let lesson = Lesson { config, teacher: &teacher, own, theirs, targets, basis };
    let learner =
        Learner { config, params: &params, identity: &identity(&lesson, corpus), count: lesson.own.len(), work };
    let cursor = learner.learn(&|which, step| backward(&lesson, &bert, which, step), tell)?;

    let staged = Staged::new(out)?;
    export::write(staged.path(), &folder, &params, config)?;
    let mut report = judge(&lesson, staged.path(), others, &corpus.held_out)?;
    report.dir = out.display().to_string();
    report.parameters = count;
    report.vocab = pruned.old_ids.len();
    report.coverage = pruned.coverage;
    report.texts = corpus.train.len();
    report.steps = cursor.step;
    report.loss = cursor.last_loss;
    report.seconds = started.elapsed().as_secs_f64();
    report.peak_memory = crate::experiment::usage::peak_memory();
    export::card(staged.path(), config, corpus, &teacher, &report)?;
    staged.commit()?;
    Ok(report)
}

/// Digest of everything that a checkpoint depends on.
fn identity(lesson: &Lesson, corpus: &Corpus) -> String {
    let free =
        DistillConfig { checkpoint_steps: 0, name: String::new(), full_precision: false, ..lesson.config.clone() };
    let text = serde_json::json!({
        "config": free,
        "teacher": lesson.teacher.digest,
        "texts": fsio::sha256_bytes(corpus.train.join("\n").as_bytes()),
    });
    fsio::sha256_bytes(text.to_string().as_bytes())
}

fn rows(all: &[f32], d: usize, which: &[u32]) -> Vec<f32> {
    which.iter().flat_map(|&i| &all[i as usize * d..(i as usize + 1) * d]).copied().collect()
}

fn backward(lesson: &Lesson, bert: &Bert, which: &[u32], step: u64) -> Result<f64> {
    let c = lesson.config;
    let tape = Tape::new();
    let train = TrainContext::new(&tape, c.seed, step);
    let pass = Pass::train(&train);
    let (ids, segments) = lesson.own.pack(which);
    let hidden = bert.forward(ids, &segments, &pass)?;
    let pooled = ops::pool(&pass, &hidden, &segments, c.pooling)?;
    let mut loss = cosine_distance(&pass, &pooled, rows(&lesson.targets, c.hidden, which))?;
    if c.hidden_weight > 0.0 {
        // Only texts that both cut alike: their tokens correspond one to one.
        let (ids, wide) = lesson.theirs.pack(which);
        let states = host::to_vec(lesson.teacher.encoder.hidden(ids, &wide)?.value())?;
        let (mut mine, mut target) = (vec![], vec![]);
        let d = lesson.teacher.encoder.width();
        for ((a, n), (b, m)) in segments.iter().zip(wide.iter()).filter(|((_, n), (_, m))| n == m) {
            mine.extend((a..a + n).map(|r| r as u32));
            target.extend_from_slice(&states[b * d..(b + m) * d]);
        }
        if !mine.is_empty() {
            let mut target = subspace::project(&target, d, &lesson.basis);
            neighbours::normalise(&mut target, c.hidden);
            let mine = ops::gather(&pass, &hidden, Arc::new(mine))?;
            let more = cosine_distance(&pass, &mine, target)?;
            loss = plus(&pass, &loss, &more, c.hidden_weight)?;
        }
    }
    let value = f64::from(loss.value().to_scalar::<f32>()?);
    if !value.is_finite() {
        return Err(Error::Numeric(format!("step {}: the loss is {value}; lower --lr", step + 1)));
    }
    tape.backward(&loss, 1.0)?;
    Ok(value)
}

/// Compares the exported student with the teacher on held-out texts.
fn judge(lesson: &Lesson, student: &Path, others: &[(String, TextFolder)], texts: &[String]) -> Result<DistillReport> {
    let c = lesson.config;
    let read = |folder: &TextFolder| {
        let encoder = SentenceEncoder::new(folder, c.pooling)?;
        let most = c.max_tokens.min(folder.config.usable_positions());
        encoder.encode(&Tokens::new(&folder.tokenizer, texts, most, c.lower_case)?, &|_, _| {})
    };
    let mine = read(&TextFolder::open(student, true)?)?;
    let d = lesson.teacher.encoder.width();
    let theirs = lesson.teacher.encoder.encode(&lesson.teacher.tokens(texts)?, &|_, _| {})?;
    let mut reduced = subspace::project(&theirs, d, &lesson.basis);
    let reference = neighbours::nearest(&theirs, d, NEIGHBOURS);
    let near = |x: &[f32], d: usize| neighbours::recall(&reference, &neighbours::nearest(x, d, NEIGHBOURS));
    let (recall_at_10, recall_at_10_limit) = (near(&mine, c.hidden), near(&reduced, c.hidden));
    let others = others
        .iter()
        .map(|(name, folder)| Ok((name.clone(), near(&read(folder)?, folder.config.hidden_size))))
        .collect::<Result<_>>()?;
    let mut unit = mine;
    neighbours::normalise(&mut unit, c.hidden);
    neighbours::normalise(&mut reduced, c.hidden);
    let dot: f64 = unit.iter().zip(&reduced).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    let teacher_parameters = lesson
        .teacher
        .folder
        .weights
        .as_ref()
        .map_or(0, |w| w.names().map(|n| w.shape(n).map_or(0, |s| s.iter().product::<usize>())).sum());
    let weights = student.join("model.safetensors");
    Ok(DistillReport {
        dir: String::new(),
        parameters: 0,
        bytes: std::fs::metadata(&weights).map_err(Error::io(&weights))?.len(),
        teacher_parameters,
        vocab: 0,
        coverage: 0.0,
        texts: 0,
        held_out: texts.len(),
        cosine: dot / texts.len().max(1) as f64,
        recall_at_10,
        recall_at_10_limit,
        others,
        steps: 0,
        loss: 0.0,
        seconds: 0.0,
        peak_memory: None,
    })
}
