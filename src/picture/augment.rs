//! The same picture, a little different each time: mirrored, or a random part of it brought to full size.

use super::{Filter, Rgb, resize};
use crate::rng::Stream;
use serde::{Deserialize, Serialize};

/// What happens to pictures while training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Augment {
    /// Nothing (MoRec).
    #[default]
    None,
    /// Mirrored left to right, every second time.
    Flip,
    /// A random part of at least half its area and of nearly its shape, brought to full size; mirrored every second time.
    Crop,
}

/// Share of the area that stays, at least.
const AREA: f64 = 0.5;

impl Augment {
    /// One draw.
    pub fn apply(self, picture: &Rgb, stream: &mut Stream) -> Rgb {
        let mut out = match self {
            Self::None => return picture.clone(),
            Self::Flip => picture.clone(),
            Self::Crop => {
                // torchvision's RandomResizedCrop: area and aspect drawn, ten attempts, else the whole.
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
