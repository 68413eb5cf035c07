//! Image augmentation while training: horizontal flips and random crops.

use super::{Filter, Rgb, resize};
use crate::rng::Stream;
use serde::{Deserialize, Serialize};

/// Augmentation of images while training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Augment {
    /// No augmentation (MoRec).
    #[default]
    None,
    /// Horizontal flip with probability 0.5.
    Flip,
    /// Random crop of at least half the area with similar aspect ratio, resized to full size; flipped with probability
    /// 0.5.
    Crop,
}

/// Minimum share of the image's area in a crop.
const AREA: f64 = 0.5;

impl Augment {
    /// Returns a randomly augmented copy of the image.
    pub fn apply(self, picture: &Rgb, stream: &mut Stream) -> Rgb {
        let mut out = match self {
            Self::None => return picture.clone(),
            Self::Flip => picture.clone(),
            Self::Crop => {
                // As torchvision's RandomResizedCrop: area and aspect are drawn up to ten times, else the whole image
                // is used.
                let (w, h) = (picture.width as f64, picture.height as f64);
                let mut part = None;
                for _ in 0..10 {
                    let area = w * h * (AREA + (1.0 - AREA) * stream.uniform());
                    let aspect = ((4.0f64 / 3.0).ln() * (2.0 * stream.uniform() - 1.0)).exp();
                    let (cw, ch) = ((area * aspect).sqrt().round(), (area / aspect).sqrt().round());
                    if cw >= 1.0 && ch >= 1.0 && cw <= w && ch <= h {
                        let x = stream.below((w - cw) as u64 + 1) as usize;
                        let y = stream.below((h - ch) as u64 + 1) as usize;
                        part = Some(picture.crop(x, y, cw as usize, ch as usize));
                        break;
                    }
                }
                match part {
                    Some(p) => resize(&p, picture.width, picture.height, Filter::Bilinear),
                    None => picture.clone(),
                }
            }
        };
        if stream.uniform() < 0.5 {
            out.flip();
        }
        out
    }
}
