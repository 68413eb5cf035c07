//! Distillation of image encoders.

use super::corpus::ImageCorpus;
use super::student::{self, StudentFolder};
use crate::config::ImageConfig;
use crate::distill::DistillConfig;
use crate::distill::card::percent;
use crate::distill::loss::cosine_distance;
use crate::distill::subspace::Reduction;
use crate::distill::task::{Distillation, HeldOut, Student, TaskInfo, parameters};
use crate::error::Result;
use crate::fsio;
use crate::hub::Preprocessing;
use crate::item::compute_rows;
use crate::item::image::{Backbone, COST, FrozenImageEncoder, ImageFolder, Images, PixelStore, Pixels, Vit};
use crate::nn::ops::Pooling;
use crate::nn::{Act, Params, Pass};
use crate::picture::{Augment, Preprocess, Rgb, resize};
use crate::rng::Stream;
use candle_core::Device;
use rayon::prelude::*;
use serde_json::{Map, json};
use std::collections::BTreeMap;
use std::path::Path;

/// A vision encoder as teacher, with the images that its student is trained on. A sample is a view of an image: the whole
/// image or a random crop.
pub struct ImageDistillation<'a> {
    info: TaskInfo,
    folder: ImageFolder,
    encoder: FrozenImageEncoder,
    corpus: &'a ImageCorpus,
    /// Number of views per image.
    views: usize,
}

impl<'a> ImageDistillation<'a> {
    /// Opens the teacher's folder, which has to contain weights.
    pub fn open(config: &DistillConfig, teacher_dir: &Path, corpus: &'a ImageCorpus) -> Result<Self> {
        config.check()?;
        let folder = ImageFolder::open(teacher_dir, true)?;
        let digest = folder.weights.as_ref().map(|w| w.digest()).unwrap_or_default();
        let encoder = FrozenImageEncoder::new(&folder, &ImageConfig::default())?;
        let views = 1 + config.crops;
        let pictures: String = corpus.train.iter().map(|p| fsio::sha256_bytes(p)).collect();
        let shape = fsio::sha256_bytes(format!("{} {:?}", folder.config_json, folder.preprocess).as_bytes());
        let key = format!("{digest} {shape} {views} {} {}", config.seed, fsio::sha256_bytes(pictures.as_bytes()));
        let info = TaskInfo {
            config: config.clone(),
            width: encoder.width(),
            teacher_parameters: folder.weights.as_ref().map_or(0, |w| parameters(w)),
            teacher_sha256: digest,
            samples: corpus.train.len() * views,
            held_out: corpus.held_out.len(),
            sources: corpus.sources.clone(),
            vectors_key: fsio::sha256_bytes(key.as_bytes()),
            identity: Map::from_iter([("lesson".into(), json!(key)), ("centred".into(), json!(true))]),
            centered: true,
            modality: "image",
            samples_name: "pictures",
        };
        Ok(Self { info, folder, encoder, corpus, views })
    }

    /// Training sample `s`, preprocessed for the teacher.
    fn view(&self, s: usize) -> Rgb {
        self.corpus.view(s / self.views, s % self.views, self.info.config.seed)
    }

    fn held_out(&self, i: usize) -> Rgb {
        let side = self.corpus.side;
        Rgb { width: side, height: side, data: self.corpus.held_out[i].clone() }
    }

    /// Held-out image `i`, mirrored and with its margin cut off.
    fn held_out_part(&self, i: usize) -> Rgb {
        let side = self.corpus.side;
        let cut = side / 25;
        let mut p = self.held_out(i).crop(cut, cut, side - 2 * cut, side - 2 * cut);
        p.flip();
        p
    }

    /// Vectors of one image per held-out image, produced by `make`.
    fn encode_held_out(
        &self,
        encoder: &FrozenImageEncoder,
        pre: &Preprocess,
        make: &(dyn Fn(usize) -> Rgb + Sync),
    ) -> Result<Vec<f32>> {
        let side = pre.output().0;
        vectors(encoder, pre, self.info.held_out, &|i| resize(&make(i), side, side, pre.filter), &|_, _| {})
    }
}

impl Distillation for ImageDistillation<'_> {
    fn info(&self) -> &TaskInfo {
        &self.info
    }

    fn teacher_vectors(&self, on_progress: &dyn Fn(usize, usize)) -> Result<Vec<f32>> {
        vectors(&self.encoder, &self.folder.preprocess, self.info.samples, &|s| self.view(s), on_progress)
    }

    fn student<'a>(&'a self, _reduction: &'a Reduction) -> Result<Student<'a>> {
        let c = &self.info.config;
        let StudentFolder { config, config_json, preprocess, preprocess_json } = student::folder(&self.folder, c)?;
        let (params, vit) = Params::fresh(c.seed, &Device::Cpu, |s| Vit::new(s, &config, c.side))?;
        // Each view at the student's size, resized once.
        let seen: Vec<Vec<u8>> = (0..self.info.samples)
            .into_par_iter()
            .map(|s| resize(&self.view(s), c.side, c.side, preprocess.filter).data)
            .collect();
        let table = preprocess.table();
        let loss = move |samples: &[u32], step: u64, target: Vec<f32>, pass: &Pass| {
            let pictures = samples.par_iter().map(|&s| augmented(&seen[s as usize], s, step, c).into()).collect();
            let images = Images::bytes(pictures, c.side, &table);
            cosine_distance(pass, &class_token(&vit, &images, pass)?, target)
        };
        let pictures = self.corpus.train.len();
        Ok(Student {
            params,
            loss: Box::new(loss),
            files: vec![("config.json", config_json), ("preprocessor_config.json", preprocess_json)],
            card_files: &["config.json", "preprocessor_config.json"],
            architecture: "vit".into(),
            preprocessing: Preprocessing {
                pooling: Some("cls".into()),
                max_tokens: None,
                image_size: u32::try_from(c.side).ok(),
            },
            summary: format!(
                "Cover encoder, ViT of {} layers of width {}, {} pixels in patches of {}",
                c.layers, c.hidden, c.side, c.patch
            ),
            note: format!(
                "; {pictures} pictures to learn from, {} views each, {} held out",
                self.views, self.info.held_out
            ),
            vocab: 0,
            coverage: 0.0,
        })
    }

    fn held_out_by_teacher(&self) -> Result<Vec<f32>> {
        self.encode_held_out(&self.encoder, &self.folder.preprocess, &|i| self.held_out(i))
    }

    fn held_out_by_student(&self, dir: &Path) -> Result<Vec<f32>> {
        let folder = ImageFolder::open(dir, true)?;
        let encoder = FrozenImageEncoder::new(&folder, &ImageConfig::default())?;
        self.encode_held_out(&encoder, &folder.preprocess, &|i| self.held_out(i))
    }

    /// For student and teacher: share of held-out images that are the nearest neighbour of their own mirrored crop.
    fn quality(&self, student: &Path, vectors: &HeldOut, reduction: &Reduction) -> Result<BTreeMap<String, String>> {
        let folder = ImageFolder::open(student, true)?;
        let encoder = FrozenImageEncoder::new(&folder, &ImageConfig::default())?;
        let part = |i: usize| self.held_out_part(i);
        let ours = self.encode_held_out(&encoder, &folder.preprocess, &part)?;
        let mut theirs = self.encode_held_out(&self.encoder, &self.folder.preprocess, &part)?;
        reduction.center(&mut theirs);
        let ours = self_retrieval(&vectors.student, &ours, self.info.config.hidden);
        let theirs = self_retrieval(&vectors.teacher, &theirs, self.info.width);
        Ok(BTreeMap::from([(
            "a mirrored and cropped picture's own is the nearest of all held out".to_string(),
            format!("{} (teacher {})", percent(ours), percent(theirs)),
        )]))
    }
}

/// Vectors of `count` images, produced by `make` at the input size of `pre`.
fn vectors(
    encoder: &FrozenImageEncoder,
    pre: &Preprocess,
    count: usize,
    make: &(dyn Fn(usize) -> Rgb + Sync),
    on_progress: &dyn Fn(usize, usize),
) -> Result<Vec<f32>> {
    let side = pre.output().0;
    let compute = |which: &[u32]| {
        let bytes = which.iter().flat_map(|&i| make(i as usize).data).collect();
        let ids: Vec<u32> = (0..which.len() as u32).collect();
        let store = PixelStore::in_memory(bytes, side, pre);
        let pixels = Pixels::new(store, ids.iter().copied().map(Some).collect());
        encoder.encode_batch(&Images::of(&pixels, &ids, Augment::None, &Pass::eval())?)
    };
    compute_rows(count, encoder.width(), |_| COST, &Device::Cpu, compute, on_progress)
}

/// Random augmentation of a view for one step: with probability 1/2 a random crop, otherwise a random horizontal flip.
fn augmented(view: &[u8], sample: u32, step: u64, c: &DistillConfig) -> Vec<u8> {
    let mut stream = Stream::new(c.seed, &format!("distill/change/{step}/{sample}"));
    let change = if stream.uniform() < 0.5 { Augment::Crop } else { Augment::Flip };
    change.apply(&Rgb { width: c.side, height: c.side, data: view.to_vec() }, &mut stream).data
}

/// The class token's last hidden state, (n, hidden).
fn class_token(vit: &Vit, images: &Images, pass: &Pass) -> Result<Act> {
    let n = images.count();
    let mut x = vit.embed(images, pass)?;
    for i in 0..vit.blocks() {
        x = vit.block(i, &x, n, pass, i + 1 == vit.blocks())?;
    }
    vit.head(&x, n, Pooling::Cls, pass)
}

/// Share of the rows of `part` (n, d) whose most similar row of `whole` (n, d), by cosine, is that of the same number.
fn self_retrieval(whole: &[f32], part: &[f32], d: usize) -> f64 {
    let n = part.len() / d;
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    let norm = |a: &[f32]| dot(a, a).sqrt().max(1e-12);
    let hits = part.par_chunks_exact(d).enumerate().filter(|(i, p)| {
        let score = |j: usize| dot(p, &whole[j * d..][..d]) / norm(&whole[j * d..][..d]);
        (0..n).all(|j| j == *i || score(j) < score(*i))
    });
    hits.count() as f64 / n.max(1) as f64
}
