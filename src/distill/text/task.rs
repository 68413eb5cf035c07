//! Distillation of text encoders.

use super::corpus::TextCorpus;
use super::teacher::Teacher;
use super::vocab::{self, Pruned};
use super::{export, student};
use crate::distill::DistillConfig;
use crate::distill::loss::{cosine_distance, weighted_sum};
use crate::distill::neighbours;
use crate::distill::subspace::Reduction;
use crate::distill::task::{Distillation, Student, TaskInfo, parameters};
use crate::error::{Error, Result};
use crate::fsio;
use crate::hub::Preprocessing;
use crate::item::Tokens;
use crate::item::text::{SentenceEncoder, TextFolder};
use crate::nn::{Act, Pass, Segments, host, ops};
use serde_json::{Map, json};
use std::path::Path;
use std::sync::Arc;

/// A text encoder as teacher, with the texts that its student learns from.
pub struct TextDistillation<'a> {
    info: TaskInfo,
    teacher: Teacher,
    corpus: &'a TextCorpus,
    others: &'a [(String, TextFolder)],
    /// The training texts in the teacher's tokens.
    tokens: Tokens,
    /// The student's vocabulary.
    pruned: Pruned,
}

impl<'a> TextDistillation<'a> {
    /// Opens the teacher, a folder with weights, and tokenises the training texts. `others` are encoders that are
    /// evaluated on the same held-out texts.
    pub fn open(
        config: &DistillConfig,
        teacher_dir: &Path,
        corpus: &'a TextCorpus,
        others: &'a [(String, TextFolder)],
    ) -> Result<Self> {
        config.check()?;
        let teacher = Teacher::open(teacher_dir, config)?;
        let usable = teacher.folder.config.usable_positions();
        if config.max_tokens > usable {
            return Err(Error::Usage(format!("--max-tokens: the teacher has only {usable} positions")));
        }
        let tokens = teacher.tokens(&corpus.train)?;
        let file = teacher_dir.join("tokenizer.json");
        let pruned = vocab::prune(&file, &teacher.folder.tokenizer_json, &tokens, config.vocab)?;
        let texts = fsio::sha256_bytes(corpus.train.join("\n").as_bytes());
        let info = TaskInfo {
            config: config.clone(),
            width: teacher.encoder.width(),
            teacher_parameters: teacher.folder.weights.as_ref().map_or(0, |w| parameters(w)),
            teacher_sha256: teacher.digest.clone(),
            samples: tokens.len(),
            held_out: corpus.held_out.len(),
            sources: corpus.sources.clone(),
            vectors_key: teacher.key(&tokens),
            identity: Map::from_iter([("teacher".into(), json!(teacher.digest)), ("texts".into(), json!(texts))]),
            centered: false,
            modality: "text",
            samples_name: "titles",
        };
        Ok(Self { info, teacher, corpus, others, tokens, pruned })
    }

    /// Vectors of the held-out texts by the encoder in `folder`.
    fn encode_held_out(&self, folder: &TextFolder) -> Result<Vec<f32>> {
        let c = &self.info.config;
        let encoder = SentenceEncoder::new(folder, c.pooling)?;
        let most = c.max_tokens.min(folder.config.usable_positions());
        let tokens = Tokens::new(&folder.tokenizer, &self.corpus.held_out, most, c.lower_case)?;
        encoder.encode(&tokens, &|_, _| {})
    }

    /// Cosine distance between the hidden states of student (t, hidden) and teacher, over the texts that both tokenise to
    /// the same length: there their tokens correspond one to one. Nothing if no text does.
    fn hidden_distance(
        &self,
        reduction: &Reduction,
        samples: &[u32],
        states: &Act,
        segments: &Segments,
        pass: &Pass,
    ) -> Result<Option<Act>> {
        let (c, d) = (&self.info.config, self.info.width);
        let (ids, wide) = self.tokens.pack(samples);
        let theirs = host::to_vec(self.teacher.encoder.hidden(ids, &wide)?.value())?;
        let (mut rows, mut target) = (vec![], vec![]);
        for ((a, n), (b, m)) in segments.iter().zip(wide.iter()).filter(|((_, n), (_, m))| n == m) {
            rows.extend((a..a + n).map(|r| r as u32));
            target.extend_from_slice(&theirs[b * d..(b + m) * d]);
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let mut target = reduction.project(&target);
        neighbours::normalise(&mut target, c.hidden);
        let states = ops::gather(pass, states, Arc::new(rows))?;
        cosine_distance(pass, &states, target).map(Some)
    }
}

impl Distillation for TextDistillation<'_> {
    fn info(&self) -> &TaskInfo {
        &self.info
    }

    fn teacher_vectors(&self, on_progress: &dyn Fn(usize, usize)) -> Result<Vec<f32>> {
        self.teacher.encoder.encode(&self.tokens, on_progress)
    }

    fn student<'a>(&'a self, reduction: &'a Reduction) -> Result<Student<'a>> {
        let (c, pruned) = (&self.info.config, &self.pruned);
        let folder = student::folder(&self.teacher.folder, pruned, c)?;
        let (params, bert) = student::build(&folder, &self.teacher, pruned, reduction, c)?;
        let tokens = Tokens::new(&folder.tokenizer, &self.corpus.train, c.max_tokens, c.lower_case)?;
        let loss = move |samples: &[u32], _: u64, target: Vec<f32>, pass: &Pass| {
            let (ids, segments) = tokens.pack(samples);
            let hidden = bert.forward(ids, &segments, pass)?;
            let pooled = ops::pool(pass, &hidden, &segments, c.pooling)?;
            let loss = cosine_distance(pass, &pooled, target)?;
            if c.hidden_weight == 0.0 {
                return Ok(loss);
            }
            match self.hidden_distance(reduction, samples, &hidden, &segments, pass)? {
                Some(more) => weighted_sum(pass, &loss, &more, c.hidden_weight),
                None => Ok(loss),
            }
        };
        let (vocab, coverage) = (pruned.old_ids.len(), pruned.coverage);
        let pooling = serde_json::to_value(c.pooling).ok().and_then(|v| v.as_str().map(String::from));
        Ok(Student {
            params,
            loss: Box::new(loss),
            files: export::files(&folder, c)?,
            card_files: &["config.json", "tokenizer.json"],
            architecture: self.teacher.folder.config.model_type.clone(),
            preprocessing: Preprocessing { pooling, max_tokens: u32::try_from(c.max_tokens).ok(), image_size: None },
            summary: format!("Title encoder, {} layers of width {}, {vocab} tokens", c.layers, c.hidden),
            note: format!(
                ", {vocab} tokens covering {:.2} % of the corpus; {} texts to learn from, {} held out",
                100.0 * coverage,
                self.info.samples,
                self.info.held_out
            ),
            vocab,
            coverage,
        })
    }

    fn held_out_by_teacher(&self) -> Result<Vec<f32>> {
        self.teacher.encoder.encode(&self.teacher.tokens(&self.corpus.held_out)?, &|_, _| {})
    }

    fn held_out_by_student(&self, dir: &Path) -> Result<Vec<f32>> {
        self.encode_held_out(&TextFolder::open(dir, true)?)
    }

    fn compare(&self, recall: &dyn Fn(&[f32], usize) -> f64) -> Result<Vec<(String, f64)>> {
        self.others
            .iter()
            .map(|(name, folder)| Ok((name.clone(), recall(&self.encode_held_out(folder)?, folder.config.hidden_size))))
            .collect()
    }
}
