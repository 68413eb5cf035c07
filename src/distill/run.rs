//! The loop of a distillation, resumable at any step.

use super::corpus::Corpus;
use super::student::{self, cosine_distance, plus};
use super::teacher::Teacher;
use super::{DistillConfig, DistillReport, export, neighbours, subspace, vocab};
use crate::config::{Schedule, TrainConfig};
use crate::error::{Error, Result};
use crate::fsio::{self, Manifest, Staged};
use crate::item::Tokens;
use crate::item::text::{Bert, SentenceEncoder, TextFolder};
use crate::nn::weights::Weights;
use crate::nn::{Params, Pass, Tape, Train, host, ops};
use crate::rng::Stream;
use crate::train::optimizer::AdamW;
use crate::train::schedule;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

const FORMAT: u32 = 1;
const NEIGHBOURS: usize = 10;

/// What is told on the way.
pub enum Progress<'a> {
    /// A line worth reading.
    Note(&'a str),
    /// Texts the teacher has encoded, of how many.
    Teacher(usize, usize),
    /// Steps taken, of how many, and the recent loss.
    Step(u64, u64, f64),
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Cursor {
    epoch: usize,
    batch: usize,
    step: u64,
    loss_sum: f64,
    last_loss: f64,
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
    let watch = |done, all| tell(Progress::Teacher(done, all));
    let vectors = teacher.vectors(&theirs, &work.join("teacher.safetensors"), &watch)?;
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
    let cursor = learn(&lesson, &params, &bert, corpus, work, tell)?;

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

fn learn(
    lesson: &Lesson,
    params: &Params,
    bert: &Bert,
    corpus: &Corpus,
    work: &Path,
    tell: &dyn Fn(Progress),
) -> Result<Cursor> {
    let c = lesson.config;
    let last = work.join("last");
    let identity = identity(lesson, corpus);
    let mut optimizer = AdamW::default();
    let mut at = Cursor::default();
    if last.exists()
        && let Some(found) = restore(&last, &identity, params, &mut optimizer)?
    {
        at = found;
        tell(Progress::Note(&format!("going on at step {}", at.step)));
    }
    let n = lesson.own.len();
    let batches = n.div_ceil(c.batch_size);
    let total = (batches * c.epochs) as u64;
    let rhythm = TrainConfig { schedule: Schedule::Cosine, warmup_steps: (total / 20) as usize, ..Default::default() };
    let mut recent = f64::NAN;
    while at.epoch < c.epochs {
        let mut order: Vec<u32> = (0..n as u32).collect();
        Stream::new(c.seed, &format!("distill/shuffle/{}", at.epoch)).shuffle(&mut order);
        while at.batch < batches {
            let from = at.batch * c.batch_size;
            let which = &order[from..(from + c.batch_size).min(n)];
            params.clear_grads();
            let loss = backward(lesson, bert, which, at.step)?;
            if at.step == 0 {
                let missing = params.without_grad();
                if !missing.is_empty() {
                    return Err(Error::Numeric(format!("no gradient reaches {}", missing.join(", "))));
                }
            }
            AdamW::norm(params)?;
            let lr = c.lr * schedule::factor(&rhythm, at.step, total);
            optimizer.step(params, |_| lr, c.weight_decay, 1.0)?;
            at.step += 1;
            at.batch += 1;
            at.loss_sum += loss;
            recent = if recent.is_nan() { loss } else { 0.98 * recent + 0.02 * loss };
            tell(Progress::Step(at.step, total, recent));
            if c.checkpoint_steps > 0 && at.step.is_multiple_of(c.checkpoint_steps as u64) {
                save(&last, &identity, params, &optimizer, &at)?;
            }
        }
        let mean = at.loss_sum / batches as f64;
        tell(Progress::Note(&format!("epoch {} of {}: loss {mean:.4}", at.epoch + 1, c.epochs)));
        at = Cursor { epoch: at.epoch + 1, batch: 0, step: at.step, loss_sum: 0.0, last_loss: mean };
        save(&last, &identity, params, &optimizer, &at)?;
    }
    Ok(at)
}

fn rows(all: &[f32], d: usize, which: &[u32]) -> Vec<f32> {
    which.iter().flat_map(|&i| &all[i as usize * d..(i as usize + 1) * d]).copied().collect()
}

fn backward(lesson: &Lesson, bert: &Bert, which: &[u32], step: u64) -> Result<f64> {
    let c = lesson.config;
    let tape = Tape::new();
    let train = Train::new(&tape, c.seed, step);
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

fn save(dir: &Path, identity: &str, params: &Params, optimizer: &AdamW, at: &Cursor) -> Result<()> {
    let staged = Staged::new(dir)?;
    params.save(&staged.path().join("model.safetensors"))?;
    optimizer.save(&staged.path().join("optimizer.safetensors"), params)?;
    fsio::write_json(&staged.path().join("cursor.json"), at)?;
    let mut manifest = Manifest::new("distillation", FORMAT);
    manifest.inputs.insert("lesson".into(), identity.into());
    manifest.seal(staged.path(), &["model.safetensors", "optimizer.safetensors", "cursor.json"])?;
    staged.commit()
}

/// The checkpoint in `dir`, or nothing if it belongs to another lesson.
fn restore(dir: &Path, identity: &str, params: &Params, optimizer: &mut AdamW) -> Result<Option<Cursor>> {
    let remake = "remove this folder to start again";
    let manifest = Manifest::read(dir, "distillation", FORMAT, remake)?;
    if manifest.inputs.get("lesson").map(String::as_str) != Some(identity) {
        let m = "holds a distillation with other settings or texts; --work names another folder, --force starts again";
        return Err(Error::Usage(format!("{}: {m}", dir.display())));
    }
    manifest.verify(dir, true)?;
    let path = dir.join("cursor.json");
    let at: Cursor = serde_json::from_str(&fsio::read_text(&path)?)
        .map_err(|e| Error::model(&path, format!("damaged: {e}; {remake}")))?;
    let values = Weights::open(&dir.join("model.safetensors"))?;
    for p in params.iter() {
        let data = values.read(p.name())?;
        host::update(&p.value(), |v| v.copy_from_slice(&data))?;
    }
    optimizer.restore(at.step, &Weights::open(&dir.join("optimizer.safetensors"))?, params)?;
    Ok(Some(at))
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
