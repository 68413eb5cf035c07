//! Preprocessing of images as specified by Hugging Face's `preprocessor_config.json`.

use super::{Filter, Rgb, resize};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Preprocessing of an image: resize, centre crop, rescale, normalise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preprocess {
    /// Target width and height of the resize; `None`: the shorter side is resized to `shortest`.
    pub size: Option<(usize, usize)>,
    /// Target length of the shorter side, where `size` is absent; 0: no resize.
    pub shortest: usize,
    /// Width and height of the centre crop after the resize; missing pixels are black.
    pub crop: Option<(usize, usize)>,
    /// Resampling filter.
    pub filter: Filter,
    /// Rescale factor: the value of a channel = (v · `factor` − `mean`) / `std`.
    pub factor: f32,
    /// Mean of each channel.
    pub mean: [f32; 3],
    /// Standard deviation of each channel.
    pub std: [f32; 3],
}

impl Default for Preprocess {
    /// Preprocessing of ViT and MoRec: 224 × 224, mean and standard deviation 0.5.
    fn default() -> Self {
        Self {
            size: Some((224, 224)),
            shortest: 0,
            crop: None,
            filter: Filter::Bilinear,
            factor: 1.0 / 255.0,
            mean: [0.5; 3],
            std: [0.5; 3],
        }
    }
}

fn length(v: &Value) -> Option<usize> {
    v.as_u64().map(|v| v as usize).filter(|v| (1..=4096).contains(v))
}

/// (width, height) from `{"height", "width"}` or from one number.
fn sides(v: &Value) -> Option<(usize, usize)> {
    match length(v) {
        Some(n) => Some((n, n)),
        None => Some((length(&v["width"])?, length(&v["height"])?)),
    }
}

impl Preprocess {
    /// Parses `preprocessor_config.json`; the error message names what is not supported.
    pub fn parse(text: &str) -> Result<Self, String> {
        let v: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let on = |key: &str| v[key].as_bool().unwrap_or(true);
        let kind = v["image_processor_type"].as_str().or(v["feature_extractor_type"].as_str()).unwrap_or_default();
        let mut p = Self { size: None, ..Self::default() };
        let size = &v["size"];
        let shortest = length(&size["shortest_edge"]);
        if on("do_resize") && !size.is_null() {
            // In CLIP's and ConvNeXt's extractors a single number is the length of the shorter side.
            let by_side = kind.starts_with("CLIP") || kind.starts_with("ConvNext");
            match (shortest, by_side.then(|| length(size)).flatten()) {
                (Some(n), _) | (None, Some(n)) => p.shortest = n,
                _ => p.size = Some(sides(size).ok_or_else(|| format!("size {size} is not understood"))?),
            }
        }
        if v["do_center_crop"].as_bool().unwrap_or(false) {
            p.crop =
                Some(sides(&v["crop_size"]).ok_or_else(|| format!("crop_size {} is not understood", v["crop_size"]))?);
        }
        if kind.starts_with("ConvNext") && p.shortest > 0 {
            // ConvNeXt below 384: resize the shorter side, then crop; from 384 on: resize without keeping the aspect
            // ratio.
            let n = p.shortest;
            if n < 384 {
                let share = v["crop_pct"].as_f64().unwrap_or(224.0 / 256.0);
                if !(0.1..=1.0).contains(&share) {
                    return Err(format!("crop_pct {share} is not between 0.1 and 1"));
                }
                (p.shortest, p.crop) = ((n as f64 / share) as usize, Some((n, n)));
            } else {
                (p.shortest, p.size) = (0, Some((n, n)));
            }
        }
        if p.size.is_none() && p.crop.is_none() {
            // A batch needs images of one size.
            match p.shortest {
                0 => return Err("it neither resizes nor cuts to a fixed size".into()),
                n => p.crop = Some((n, n)),
            }
        }
        p.filter = match v["resample"].as_u64() {
            None | Some(2) => Filter::Bilinear,
            Some(3) => Filter::Bicubic,
            Some(other) => return Err(format!("resample {other}: only 2 (bilinear) and 3 (bicubic) are known")),
        };
        p.factor = if on("do_rescale") { v["rescale_factor"].as_f64().unwrap_or(1.0 / 255.0) as f32 } else { 1.0 };
        if on("do_normalize") {
            let three = |key: &str, default: [f32; 3]| -> Result<[f32; 3], String> {
                if v[key].is_null() {
                    return Ok(default);
                }
                let all: Vec<f64> = v[key].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
                match all[..] {
                    [a, b, c] => Ok([a as f32, b as f32, c as f32]),
                    _ => Err(format!("{key} {} is not three numbers", v[key])),
                }
            };
            (p.mean, p.std) = (three("image_mean", [0.5; 3])?, three("image_std", [0.5; 3])?);
            if p.std.iter().any(|s| !s.is_finite() || *s <= 0.0) {
                return Err(format!("image_std {:?} is not positive", p.std));
            }
        } else {
            (p.mean, p.std) = ([0.0; 3], [1.0; 3]);
        }
        if !p.factor.is_normal() || !p.table().iter().flatten().all(|v| v.is_finite()) {
            return Err("rescale_factor, image_mean and image_std make numbers that are not finite".into());
        }
        Ok(p)
    }
    /// Returns this preprocessing with output size `side` × `side`.
    pub fn with_side(mut self, side: usize) -> Self {
        let before = self.crop;
        if let Some((w, _)) = self.crop {
            self.shortest = (self.shortest * side).div_ceil(w.max(1));
            self.crop = Some((side, side));
        }
        if let Some((sw, sh)) = self.size {
            self.size = Some(match before {
                Some((cw, ch)) => ((sw * side).div_ceil(cw.max(1)), (sh * side).div_ceil(ch.max(1))),
                None => (side, side),
            });
        }
        self
    }
    /// Width and height of the output.
    pub fn output(&self) -> (usize, usize) {
        self.crop.or(self.size).unwrap_or((self.shortest, self.shortest))
    }
    /// Resizes and crops an image; scaling is separate, see `table`.
    pub fn apply(&self, picture: &Rgb) -> Rgb {
        let sized = match (self.size, self.shortest) {
            (Some((w, h)), _) => resize(picture, w, h, self.filter),
            (None, 0) => picture.clone(),
            (None, n) => {
                // As in transformers: the longer side is n · long / short, rounded down.
                let (w, h) = (picture.width, picture.height);
                let long = |a: usize, b: usize| (n * a / b).max(1);
                let (w, h) = if w <= h { (n, long(h, w)) } else { (long(w, h), n) };
                resize(picture, w, h, self.filter)
            }
        };
        match self.crop {
            None => sized,
            Some((w, h)) => centre(&sized, w, h),
        }
    }
    /// Normalised value of each byte value, per channel.
    pub fn table(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|c| std::array::from_fn(|v| (v as f32 * self.factor - self.mean[c]) / self.std[c]))
    }
}

/// Centre crop, with black pixels outside the image (transformers' `center_crop`).
fn centre(p: &Rgb, w: usize, h: usize) -> Rgb {
    if w <= p.width && h <= p.height {
        return p.crop((p.width - w) / 2, (p.height - h) / 2, w, h);
    }
    let mut out = Rgb::filled(w, h, [0; 3]);
    let (cw, ch) = (w.min(p.width), h.min(p.height));
    let part = p.crop((p.width - cw) / 2, (p.height - ch) / 2, cw, ch);
    let (x, y) = ((w - cw).div_ceil(2), (h - ch).div_ceil(2));
    for (row, from) in part.data.chunks_exact(3 * cw).enumerate() {
        let at = 3 * ((y + row) * w + x);
        out.data[at..at + 3 * cw].copy_from_slice(from);
    }
    out
}
