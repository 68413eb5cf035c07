//! A small ViT learns from a large vision encoder on pictures: whole, and random parts of them.

use super::learner::Learner;
use super::run::NEIGHBOURS;
use super::student::cosine_distance;
use super::{DistillConfig, DistillReport, Progress, neighbours, subspace};
use crate::config::ImageConfig;
use crate::data::Dataset;
use crate::error::{DataError, Error, Result};
use crate::fsio::{self, Staged};
use crate::item::compute_rows;
use crate::item::image::{Backbone, COST, FrozenImageEncoder, ImageFolder, Images, Pixels, Store, Vit, VitConfig};
use crate::nn::ops::Pooling;
use crate::nn::weights::{self, Weights, save_each_as};
use crate::nn::{Params, Pass, Tape, TrainContext, Weight, host};
use crate::picture::{Augment, Filter, Preprocess, Rgb, decode, resize};
use crate::rng::{self, Stream};
use candle_core::Device;
use rayon::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Pictures to learn from and to be judged by, as squares of one size, in memory (150 kB each at 224 pixels).
pub struct Gallery {
    side: usize,
    train: Vec<Vec<u8>>,
    held_out: Vec<Vec<u8>>,
    /// Digest of each source, by name.
    sources: Vec<(String, String)>,
}

impl Gallery {
    /// Reads the pictures of data set folders at the size of `pre`. About `share` of them is held out, chosen by
    /// content, so that adding a source moves none from one side to the other.
    pub fn read(data: &[PathBuf], pre: &Preprocess, share: f64, seed: u64, tell: &dyn Fn(Progress)) -> Result<Self> {
        let side = pre.output().0;
        let mut out = Self { side, train: vec![], held_out: vec![], sources: vec![] };
        let mut seen = std::collections::HashSet::new();
        for dir in data {
            let d = Dataset::open(dir)?;
            let Some(file) = &d.images else {
                let e = DataError::new(dir, "has no pictures");
                return Err(e.remedy("import it with --images, or leave it out").into());
            };
            file.each(0, 256, |_, batch| {
                let ready: Vec<_> = batch.par_iter().map(|b| decode(b).map(|p| pre.apply(&p).data)).collect();
                for p in ready {
                    let p = p.map_err(|e| DataError::new(file.path(), format!("a picture {e}")))?;
                    let digest = fsio::sha256_bytes(&p);
                    let u = (rng::key(seed, &format!("held out/{digest}")) >> 11) as f64 / (1u64 << 53) as f64;
                    if !seen.insert(digest) {
                        continue;
                    }
                    if u < share { out.held_out.push(p) } else { out.train.push(p) }
                }
                Ok(())
            })?;
            tell(Progress::Note(&format!("{}: {} pictures so far", d.name, out.train.len() + out.held_out.len())));
            out.sources.push((d.name.clone(), d.digest.clone()));
        }
        if out.train.len() < 2 {
            let at = data.first().cloned().unwrap_or_default();
            let e = DataError::new(&at, "fewer than two distinct pictures to learn from");
            return Err(e.remedy("add data sets with --data").into());
        }
        Ok(out)
    }
    /// View `v` of picture `i`: the whole, or a random part of it.
    fn view(&self, i: usize, v: usize, seed: u64) -> Rgb {
        let whole = Rgb { width: self.side, height: self.side, data: self.train[i].clone() };
        match v {
            0 => whole,
            v => Augment::Crop.apply(&whole, &mut Stream::new(seed, &format!("distill/view/{i}/{v}"))),
        }
    }
}

fn one_after_the_other(pictures: &[Rgb]) -> Vec<u8> {
    pictures.iter().flat_map(|p| p.data.iter().copied()).collect()
}

/// Vectors of pictures made on the way by `make`, `count` of them.
fn vectors(
    encoder: &FrozenImageEncoder,
    pre: &Preprocess,
    count: usize,
    make: &(dyn Fn(usize) -> Rgb + Sync),
    on_progress: &dyn Fn(usize, usize),
) -> Result<Vec<f32>> {
    let side = pre.output().0;
    let compute = |which: &[u32]| {
        let made: Vec<Rgb> = which.iter().map(|&i| make(i as usize)).collect();
        let ids: Vec<u32> = (0..made.len() as u32).collect();
        let store = Store::in_memory(one_after_the_other(&made), side, pre);
        let pixels = Pixels::new(store, ids.iter().copied().map(Some).collect());
        encoder.encode_batch(&Images::of(&pixels, &ids, Augment::None, &Pass::eval())?)
    };
    compute_rows(count, encoder.width(), |_| COST, &Device::Cpu, compute, on_progress)
}

/// The student's folder without weights.
fn student(teacher: &ImageFolder, c: &DistillConfig) -> Result<(VitConfig, String, Preprocess, String)> {
    let config = json!({
        "architectures": ["ViTModel"], "model_type": "vit", "hidden_size": c.hidden, "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads, "intermediate_size": c.intermediate, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.02,
        "layer_norm_eps": 1e-6, "image_size": c.side, "patch_size": c.patch, "num_channels": 3, "qkv_bias": true,
        "torch_dtype": if c.full_precision { "float32" } else { "float16" },
    });
    let t = &teacher.preprocess;
    let pre = json!({
        "image_processor_type": "ViTImageProcessor", "do_resize": true, "size": {"height": c.side, "width": c.side},
        "resample": if t.filter == Filter::Bicubic { 3 } else { 2 }, "do_rescale": true, "rescale_factor": t.factor,
        "do_normalize": true, "image_mean": t.mean, "image_std": t.std,
    });
    let pretty = |v: &serde_json::Value| serde_json::to_string_pretty(v).unwrap_or_default() + "\n";
    let (config, pre) = (pretty(&config), pretty(&pre));
    let bad = |m: String| Error::Usage(format!("the student's shape: {m}"));
    let parsed = VitConfig::parse(&serde_json::from_str(&config).unwrap_or_default()).map_err(bad)?;
    let ready = Preprocess::parse(&pre).map_err(bad)?;
    Ok((parsed, config, ready, pre))
}

/// Teaches a small ViT on the pictures of `gallery`; as [`super::distill`].
pub fn distill(
    config: &DistillConfig,
    teacher_dir: &Path,
    gallery: &Gallery,
    work: &Path,
    out: &Path,
    tell: &dyn Fn(Progress),
) -> Result<DistillReport> {
    config.check()?;
    let started = Instant::now();
    let teacher = ImageFolder::open(teacher_dir, true)?;
    let digest = teacher.weights.as_ref().map(|w| w.digest()).unwrap_or_default();
    let encoder = FrozenImageEncoder::new(&teacher, &ImageConfig::default())?;
    std::fs::create_dir_all(work).map_err(Error::io(work))?;
    fsio::clear_unfinished(work)?;
    let (views, d) = (1 + config.crops, encoder.width());
    let count = gallery.train.len() * views;
    let sources: String = gallery.train.iter().map(|p| fsio::sha256_bytes(p)).collect();
    let shape = fsio::sha256_bytes(format!("{} {:?}", teacher.config_json, teacher.preprocess).as_bytes());
    let key = format!("{digest} {shape} {views} {} {}", config.seed, fsio::sha256_bytes(sources.as_bytes()));
    let name = format!("vectors/{}", fsio::sha256_bytes(key.as_bytes()));
    let file = work.join("teacher.safetensors");
    let known = Weights::open(&file).ok().filter(|w| w.shape(&name) == Some(&[count, d]));
    let mut theirs = match known {
        Some(w) => w.read(&name)?,
        None => {
            let make = |s: usize| gallery.view(s / views, s % views, config.seed);
            let on_progress = |done, all| tell(Progress::Teacher(done, all));
            let all = vectors(&encoder, &teacher.preprocess, count, &make, &on_progress)?;
            weights::save(&file, &[(name, vec![count, d], all.clone())], BTreeMap::new())?;
            all
        }
    };
    // What all pictures share says nothing, and in a vision encoder it is most of the vector.
    let centre = mean(&theirs, d);
    shift(&mut theirs, &centre);
    let basis = subspace::leading(&theirs, d, config.hidden, config.seed);
    let mut targets = subspace::project(&theirs, d, &basis);
    drop(theirs);
    neighbours::normalise(&mut targets, config.hidden);

    let (shape, config_json, pre, pre_json) = student(&teacher, config)?;
    let (params, vit) = Params::fresh(config.seed, &Device::Cpu, |s| Vit::new(s, &shape, config.side))?;
    let parameters = params.iter().map(|p| p.numel()).sum();
    tell(Progress::Note(&format!(
        "student: {parameters} parameters; {} pictures to learn from, {views} views each, {} held out",
        gallery.train.len(),
        gallery.held_out.len()
    )));
    // What the student sees of each view, resized once.
    let seen: Vec<Vec<u8>> = (0..count)
        .into_par_iter()
        .map(|s| resize(&gallery.view(s / views, s % views, config.seed), config.side, config.side, pre.filter).data)
        .collect();
    let table = pre.table();
    let backward = |which: &[u32], step: u64| -> Result<f64> {
        let tape = Tape::new();
        let train = TrainContext::new(&tape, config.seed, step);
        let pass = Pass::train(&train);
        // Half of them a random part: where it is cut says little of what it shows.
        let pictures = which
            .par_iter()
            .map(|&s| {
                let mut stream = Stream::new(config.seed, &format!("distill/change/{step}/{s}"));
                let change = if stream.uniform() < 0.5 { Augment::Crop } else { Augment::Flip };
                let p = Rgb { width: config.side, height: config.side, data: seen[s as usize].clone() };
                change.apply(&p, &mut stream).data.into()
            })
            .collect();
        let images = Images::bytes(pictures, config.side, &table);
        let n = images.count();
        let mut x = vit.embed(&images, &pass)?;
        for i in 0..vit.blocks() {
            x = vit.block(i, &x, n, &pass, i + 1 == vit.blocks())?;
        }
        let pooled = vit.head(&x, n, Pooling::Cls, &pass)?;
        let target =
            which.iter().flat_map(|&s| &targets[s as usize * config.hidden..][..config.hidden]).copied().collect();
        let loss = cosine_distance(&pass, &pooled, target)?;
        let value = f64::from(loss.value().to_scalar::<f32>()?);
        if !value.is_finite() {
            return Err(Error::Numeric(format!("step {}: the loss is {value}; lower --lr", step + 1)));
        }
        tape.backward(&loss, 1.0)?;
        Ok(value)
    };
    let free = DistillConfig { checkpoint_steps: 0, name: String::new(), full_precision: false, ..config.clone() };
    let identity = fsio::sha256_bytes(json!({ "config": free, "lesson": key, "centred": true }).to_string().as_bytes());
    let cursor = Learner { config, params: &params, identity: &identity, count, work }.learn(&backward, tell)?;

    let staged = Staged::new(out)?;
    write(staged.path(), &params, config, &config_json, &pre_json)?;
    let file = staged.path().join("model.safetensors");
    let mut report = DistillReport {
        dir: out.display().to_string(),
        parameters,
        bytes: std::fs::metadata(&file).map_err(Error::io(&file))?.len(),
        teacher_parameters: teacher
            .weights
            .as_ref()
            .map_or(0, |w| w.names().map(|n| w.shape(n).map_or(0, |s| s.iter().product::<usize>())).sum()),
        vocab: 0,
        coverage: 0.0,
        texts: count,
        held_out: gallery.held_out.len(),
        cosine: 0.0,
        recall_at_10: 0.0,
        recall_at_10_limit: 0.0,
        others: vec![],
        steps: cursor.step,
        loss: cursor.last_loss,
        seconds: 0.0,
        peak_memory: None,
    };
    let lesson = Lesson { encoder: &encoder, folder: &teacher, basis: &basis, centre: &centre };
    let again = judge(staged.path(), &lesson, gallery, config, &mut report)?;
    report.seconds = started.elapsed().as_secs_f64();
    report.peak_memory = crate::experiment::usage::peak_memory();
    card(staged.path(), config, gallery, &digest, &report, again)?;
    staged.commit()?;
    Ok(report)
}

fn write(dir: &Path, params: &Params, c: &DistillConfig, config_json: &str, pre_json: &str) -> Result<()> {
    let all: Vec<&Weight> = params.iter().collect();
    let entries: Vec<_> = all.iter().map(|p| (p.name().to_string(), p.shape().to_vec())).collect();
    let meta = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    save_each_as(&dir.join("model.safetensors"), &entries, meta, c.precision(), |i| {
        Ok(host::to_vec(&all[i].value())?.into())
    })?;
    fsio::write_bytes(&dir.join("config.json"), config_json.as_bytes())?;
    fsio::write_bytes(&dir.join("preprocessor_config.json"), pre_json.as_bytes())
}

/// Mean of rows of width `d`.
fn mean(x: &[f32], d: usize) -> Vec<f32> {
    let mut sum = vec![0f64; d];
    x.chunks_exact(d).for_each(|r| sum.iter_mut().zip(r).for_each(|(s, v)| *s += f64::from(*v)));
    let n = (x.len() / d.max(1)).max(1) as f64;
    sum.iter().map(|s| (s / n) as f32).collect()
}

/// Subtracts `centre` from each row.
fn shift(x: &mut [f32], centre: &[f32]) {
    x.chunks_exact_mut(centre.len()).for_each(|r| r.iter_mut().zip(centre).for_each(|(v, c)| *v -= c));
}

/// The teacher, and what of its vectors is learned: about their mean, in a subspace.
struct Lesson<'a> {
    encoder: &'a FrozenImageEncoder,
    folder: &'a ImageFolder,
    basis: &'a [f32],
    centre: &'a [f32],
}

/// Compares the exported student with the teacher on held-out pictures. Returns, for student and teacher, the share of
/// held-out pictures that are the nearest to their own mirrored, smaller part.
fn judge(
    student: &Path,
    lesson: &Lesson,
    gallery: &Gallery,
    c: &DistillConfig,
    report: &mut DistillReport,
) -> Result<(f64, f64)> {
    let n = gallery.held_out.len();
    if n < 2 {
        return Ok((0.0, 0.0));
    }
    let mine = ImageFolder::open(student, true)?;
    let own = FrozenImageEncoder::new(&mine, &ImageConfig::default())?;
    let side = gallery.side;
    let whole = |i: usize| Rgb { width: side, height: side, data: gallery.held_out[i].clone() };
    let part = |i: usize| {
        let cut = side / 25;
        let mut p = whole(i).crop(cut, cut, side - 2 * cut, side - 2 * cut);
        p.flip();
        p
    };
    // The gallery's pictures are as the teacher takes them already.
    let read = |encoder: &FrozenImageEncoder, pre: &Preprocess, make: &(dyn Fn(usize) -> Rgb + Sync)| {
        let size = pre.output().0;
        vectors(encoder, pre, n, &|i| resize(&make(i), size, size, pre.filter), &|_, _| {})
    };
    let (d, basis) = (lesson.encoder.width(), lesson.basis);
    let teacher = |make: &(dyn Fn(usize) -> Rgb + Sync)| {
        let mut x = read(lesson.encoder, &lesson.folder.preprocess, make)?;
        shift(&mut x, lesson.centre);
        Ok::<_, Error>(x)
    };
    let theirs = teacher(&whole)?;
    let ours = read(&own, &mine.preprocess, &whole)?;
    let reference = neighbours::nearest(&theirs, d, NEIGHBOURS);
    let near = |x: &[f32], d: usize| neighbours::recall(&reference, &neighbours::nearest(x, d, NEIGHBOURS));
    let mut reduced = subspace::project(&theirs, d, basis);
    (report.recall_at_10, report.recall_at_10_limit) = (near(&ours, c.hidden), near(&reduced, c.hidden));
    let mut unit = ours.clone();
    neighbours::normalise(&mut unit, c.hidden);
    neighbours::normalise(&mut reduced, c.hidden);
    report.cosine =
        unit.iter().zip(&reduced).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() / n.max(1) as f64;
    let found = |whole: &[f32], part: &[f32], d: usize| {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
        let norm = |a: &[f32]| dot(a, a).sqrt().max(1e-12);
        let hits = part.par_chunks_exact(d).enumerate().filter(|(i, p)| {
            let score = |j: usize| dot(p, &whole[j * d..][..d]) / norm(&whole[j * d..][..d]);
            (0..n).all(|j| j == *i || score(j) < score(*i))
        });
        hits.count() as f64 / n.max(1) as f64
    };
    Ok((found(&ours, &read(&own, &mine.preprocess, &part)?, c.hidden), found(&theirs, &teacher(&part)?, d)))
}

fn card(
    dir: &Path,
    c: &DistillConfig,
    gallery: &Gallery,
    teacher_digest: &str,
    report: &DistillReport,
    (own, theirs): (f64, f64),
) -> Result<()> {
    let name = Path::new(&c.teacher).file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let from: Vec<&str> = gallery.sources.iter().map(|(n, _)| n.as_str()).collect();
    let mut sha256 = BTreeMap::new();
    for file in ["config.json", "model.safetensors", "preprocessor_config.json"] {
        sha256.insert(file.to_string(), fsio::sha256_file(&dir.join(file))?);
    }
    let percent = |x: f64| format!("{:.1} %", 100.0 * x);
    let n = report.held_out;
    let mut quality = BTreeMap::new();
    if n >= 2 {
        quality.insert(
            "recall@10 of the teacher's neighbours".to_string(),
            format!(
                "{} on {n} held-out pictures; the teacher cut to this width: {}",
                percent(report.recall_at_10),
                percent(report.recall_at_10_limit)
            ),
        );
        quality.insert("mean cosine to the teacher cut to this width".to_string(), format!("{:.4}", report.cosine));
        quality.insert(
            "a mirrored and cropped picture's own is the nearest of all held out".to_string(),
            format!("{} (teacher {})", percent(own), percent(theirs)),
        );
    }
    let card = crate::hub::Card {
        name: c.name.clone(),
        summary: format!(
            "Cover encoder, ViT of {} layers of width {}, {} pixels in patches of {}; {:.1} million parameters, {:.1} MB",
            c.layers,
            c.hidden,
            c.side,
            c.patch,
            report.parameters as f64 / 1e6,
            report.bytes as f64 / 1e6
        ),
        modality: "image".into(),
        architecture: "vit".into(),
        licence: "Apache-2.0".into(),
        origin: format!("distilled with `morec distill` from {name} on the pictures of {}", from.join(", ")),
        hub: None,
        preprocessing: crate::hub::Preprocessing {
            pooling: Some("cls".into()),
            max_tokens: None,
            image_size: u32::try_from(c.side).ok(),
        },
        quality,
        sha256,
    };
    let text = toml::to_string(&card).map_err(|e| Error::model(dir, e.to_string()))?;
    fsio::write_bytes(&dir.join("model.toml"), text.as_bytes())?;
    // Where it was made says nothing about it.
    let (report, config) =
        (DistillReport { dir: c.name.clone(), ..report.clone() }, DistillConfig { teacher: name, ..c.clone() });
    fsio::write_json(
        &dir.join("distillation.json"),
        &json!({ "config": config, "teacher_sha256": teacher_digest, "corpus": gallery.sources, "report": report }),
    )
}
