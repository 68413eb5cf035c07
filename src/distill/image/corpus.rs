//! Corpus of an image distillation: the images of data sets, each distinct image once, a share held out.

use crate::data::Dataset;
use crate::distill::holdout::is_held_out;
use crate::distill::progress::Progress;
use crate::error::{DataError, Result};
use crate::fsio;
use crate::picture::{Augment, Preprocess, Rgb, decode};
use crate::rng::Stream;
use rayon::prelude::*;
use std::path::PathBuf;

/// Training and held-out images as squares of one size, in memory (150 kB each at 224 pixels).
pub struct ImageCorpus {
    /// Side of the images in pixels.
    pub(super) side: usize,
    /// RGB bytes of the training images.
    pub(super) train: Vec<Vec<u8>>,
    /// RGB bytes of the held-out images.
    pub(super) held_out: Vec<Vec<u8>>,
    /// Digest of each data source, by name.
    pub(super) sources: Vec<(String, String)>,
}

impl ImageCorpus {
    /// Reads the pictures of data set folders at the size of `pre`. About `share` of them is held out, chosen by
    /// content, so that adding a source moves none from one side to the other.
    pub fn read(
        data: &[PathBuf],
        pre: &Preprocess,
        share: f64,
        seed: u64,
        on_progress: &dyn Fn(Progress),
    ) -> Result<Self> {
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
                    let held_out = is_held_out(&digest, share, seed);
                    if !seen.insert(digest) {
                        continue;
                    }
                    if held_out { out.held_out.push(p) } else { out.train.push(p) }
                }
                Ok(())
            })?;
            on_progress(Progress::Note(&format!(
                "{}: {} pictures so far",
                d.name,
                out.train.len() + out.held_out.len()
            )));
            out.sources.push((d.name.clone(), d.digest.clone()));
        }
        if out.train.len() < 2 {
            let at = data.first().cloned().unwrap_or_default();
            let e = DataError::new(&at, "fewer than two distinct pictures to learn from");
            return Err(e.remedy("add data sets with --data").into());
        }
        Ok(out)
    }
    /// View `v` of image `i`: the whole image, or a random crop.
    pub(super) fn view(&self, i: usize, v: usize, seed: u64) -> Rgb {
        let whole = Rgb { width: self.side, height: self.side, data: self.train[i].clone() };
        match v {
            0 => whole,
            v => Augment::Crop.apply(&whole, &mut Stream::new(seed, &format!("distill/view/{i}/{v}"))),
        }
    }
}
