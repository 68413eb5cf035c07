//! The benchmark cases.

use crate::config::UserConfig;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Kinds of benchmark work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One training step of a text encoder with an in-batch loss.
    Text,
    /// One training step of an ID-based SASRec.
    Sasrec,
    /// One training step of text encoder and SASRec on real users; the peer encodes every position, with padding.
    Morec,
    /// One training step of frozen text encoder and SASRec on real users; this crate reads the encoder's output from a
    /// cache, the peer computes it in each step.
    MorecFrozen,
    /// Encoding of real texts; the peer is sentence-transformers.
    Encode,
    /// Encoding of real texts; the peer is ONNX Runtime.
    EncodeOnnx,
    /// Ranks of targets over a whole catalogue; the peer computes the scores and takes the top 10.
    Rank,
    /// One training step of a vision transformer with an in-batch loss.
    Vit,
    /// Encoding of images with a vision transformer.
    VitEncode,
    /// One training step of ResNet-50 with frozen batch norm.
    Resnet,
    /// Encoding of images with ResNet-50.
    ResnetEncode,
    /// Decoding and resizing of cover images; the peer is Pillow.
    Decode,
}

/// Shapes of a case; values that a kind does not use are 0.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// Kind of work.
    pub kind: Kind,
    /// Width of hidden states or vectors.
    pub dim: usize,
    /// Number of transformer blocks.
    pub layers: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// Number of texts, images or users per step.
    pub batch: usize,
    /// Number of tokens per text or events per history; patch size of vision transformers.
    pub len: usize,
    /// Number of rows of the token or item table, or of items ranked.
    pub rows: usize,
    /// Number of steps per turn.
    pub steps: usize,
    /// Dropout probability.
    #[serde(default)]
    pub dropout: f64,
    /// Data set, for kinds that need one.
    #[serde(default)]
    pub data: PathBuf,
    /// Encoder folder, for kinds that need one.
    #[serde(default)]
    pub model: PathBuf,
    /// Folder for the data that this program writes for the peer.
    #[serde(default)]
    pub exchange: PathBuf,
}

impl Spec {
    /// User encoder settings of this shape.
    pub(super) fn user(&self) -> UserConfig {
        UserConfig {
            dim: self.dim,
            layers: self.layers,
            heads: self.heads,
            dropout: self.dropout,
            max_len: self.len,
            ..Default::default()
        }
    }
}

/// A case with its name and its targets for the ratios of time and memory.
pub struct Named {
    /// Name of the case on the command line.
    pub name: &'static str,
    /// Description in one line.
    pub about: &'static str,
    /// Targets for time and peak memory, as ratios to the peer's.
    pub aim: (f64, Option<f64>),
    shape: (Kind, [usize; 7]),
}

impl Named {
    /// Shapes of the case.
    pub fn spec(&self) -> Spec {
        let (kind, [dim, layers, heads, batch, len, rows, steps]) = self.shape;
        Spec {
            kind,
            dim,
            layers,
            heads,
            batch,
            len,
            rows,
            steps,
            dropout: 0.0,
            data: PathBuf::new(),
            model: PathBuf::new(),
            exchange: PathBuf::new(),
        }
    }
    /// Whether the case needs a data set and an encoder.
    pub fn needs_data(&self) -> bool {
        matches!(self.shape.0, Kind::Morec | Kind::MorecFrozen | Kind::Encode | Kind::EncodeOnnx)
    }
    /// Whether the case needs a folder of covers.
    pub fn needs_covers(&self) -> bool {
        self.shape.0 == Kind::Decode
    }
}

const fn case(
    name: &'static str,
    about: &'static str,
    aim: (f64, Option<f64>),
    kind: Kind,
    shape: [usize; 7],
) -> Named {
    Named { name, about, aim, shape: (kind, shape) }
}

/// All cases, in the order in which they run.
pub const CASES: &[Named] = &[
    case(
        "minilm",
        "training step, MiniLM-L6 shape, 64 texts × 32 tokens",
        (0.9, Some(0.6)),
        Kind::Text,
        [384, 6, 12, 64, 32, 30522, 3],
    ),
    case(
        "bert-base",
        "training step, BERT-base shape, 32 texts × 32 tokens",
        (1.0, Some(0.6)),
        Kind::Text,
        [768, 12, 12, 32, 32, 30522, 1],
    ),
    case(
        "sasrec-d64-l20",
        "training step, ID-SASRec d 64, L 20, 128 users, 20,000 items",
        (0.7, Some(0.6)),
        Kind::Sasrec,
        [64, 2, 2, 128, 20, 20_000, 10],
    ),
    case(
        "sasrec-d64-l50",
        "training step, ID-SASRec d 64, L 50, 128 users, 20,000 items",
        (0.55, Some(0.6)),
        Kind::Sasrec,
        [64, 2, 2, 128, 50, 20_000, 4],
    ),
    case(
        "sasrec-d512-l20",
        "training step, ID-SASRec d 512, L 20, 128 users, 20,000 items",
        (0.75, Some(0.6)),
        Kind::Sasrec,
        [512, 2, 8, 128, 20, 20_000, 3],
    ),
    case(
        "morec",
        "training step on real users, text encoder end to end; the peer encodes every slot",
        (0.18, Some(0.3)),
        Kind::Morec,
        [64, 2, 2, 64, 10, 0, 1],
    ),
    case(
        "morec-frozen",
        "the same, encoder frozen; the peer computes it again in every step",
        (0.01, None),
        Kind::MorecFrozen,
        [64, 2, 2, 64, 10, 0, 2],
    ),
    case(
        "encode",
        "2,048 titles → vectors; the peer is sentence-transformers",
        (1.0, None),
        Kind::Encode,
        [0, 0, 0, 2048, 0, 0, 1],
    ),
    case(
        "encode-onnx",
        "2,048 titles → vectors; the peer is ONNX Runtime",
        (1.0, None),
        Kind::EncodeOnnx,
        [0, 0, 0, 2048, 0, 0, 1],
    ),
    case(
        "rank",
        "ranks of 10,000 users' targets over 20,000 items; the peer multiplies and takes the top 10",
        (0.5, None),
        Kind::Rank,
        [64, 0, 0, 10_000, 0, 20_000, 1],
    ),
    case(
        "vit-s",
        "training step, ViT-S/14, 16 pictures of 224²",
        (1.0, Some(0.7)),
        Kind::Vit,
        [384, 12, 6, 16, 14, 0, 1],
    ),
    case("vit-s-encode", "the same, inference", (0.9, Some(0.7)), Kind::VitEncode, [384, 12, 6, 16, 14, 0, 2]),
    case(
        "resnet50",
        "training step, ResNet-50, 16 pictures of 224², batch norm frozen",
        (1.2, Some(0.7)),
        Kind::Resnet,
        [0, 0, 0, 16, 0, 0, 1],
    ),
    case("resnet50-encode", "the same, inference", (0.9, Some(0.7)), Kind::ResnetEncode, [0, 0, 0, 16, 0, 0, 2]),
    case(
        "covers",
        "512 covers decoded and resized to 224²; the peer is Pillow, one thread",
        (0.5, None),
        Kind::Decode,
        [0, 0, 0, 512, 0, 0, 2],
    ),
];
