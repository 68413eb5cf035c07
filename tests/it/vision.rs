//! Vision encoders beside Hugging Face: forward, every gradient, batch norm in both modes (`tests/golden/vision.py`); each
//! block against candle's own operations.

use crate::support::shared;
use candle_core::{Device, Tensor};
use morec::config::{BatchNormMode, ImageConfig};
use morec::item::image::{
    Backbone, FrozenImageEncoder, ImageFolder, Images, PixelStore, Pixels, ResNet, Swin, VisionConfig, Vit,
};
use morec::nn::host::to_vec;
use morec::nn::ops::{self, Pooling};
use morec::nn::weights::Weights;
use morec::nn::{Act, Params, Pass, Scope, Tape, TrainContext};
use morec::picture::{Preprocess, decode};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

struct Small {
    file: Arc<Weights>,
    config: VisionConfig,
    pixels: Vec<f32>,
    size: (usize, usize),
}

impl Small {
    fn open(name: &str) -> Self {
        let file = Arc::new(Weights::open(&golden(&format!("vision/{name}.safetensors"))).unwrap());
        let json = std::fs::read_to_string(golden(&format!("vision/{name}_config.json"))).unwrap();
        let shape = file.shape("pixels").unwrap();
        let size = (shape[2], shape[3]);
        Self { config: VisionConfig::parse(&json).unwrap(), pixels: file.read("pixels").unwrap(), size, file }
    }
    fn backbone(&self, scope: &Scope, mode: BatchNormMode) -> morec::Result<Box<dyn Backbone>> {
        let scope = scope.pretrained(self.file.clone(), |n| vec![format!("weight/{n}")]);
        Ok(match &self.config {
            VisionConfig::Vit(c) => Box::new(Vit::new(&scope, c, self.size.0)?),
            VisionConfig::ResNet(c) => Box::new(ResNet::new(&scope, c, self.size, mode)?),
            VisionConfig::Swin(c) => Box::new(Swin::new(&scope, c, self.size.0)?),
        })
    }
    fn build(&self, mode: BatchNormMode) -> (Params, Box<dyn Backbone>) {
        Params::fresh(0, &Device::Cpu, |s| self.backbone(s, mode)).unwrap()
    }
    fn images(&self) -> Images<'_> {
        Images::scaled(&self.pixels, self.size.0, self.size.1)
    }
}

/// What comes out of the last block.
fn body(net: &dyn Backbone, images: &Images, pass: &Pass, only_class: bool) -> Act {
    let mut x = net.embed(images, pass).unwrap();
    for i in 0..net.blocks() {
        let last = only_class && i + 1 == net.blocks();
        x = net.block(i, &x, images.count(), pass, last).unwrap();
    }
    x
}

fn close(what: &str, got: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(1f32, |a, v| a.max(v.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= tolerance * scale, "{what}[{i}]: {g}, Hugging Face has {w}");
    }
}

const NAMES: [&str; 8] = [
    "vit_small",
    "mae_small",
    "dinov2_small",
    "dinov2_swiglu",
    "clip_small",
    "resnet_basic",
    "resnet_bottleneck",
    "swin_small",
];

#[test]
fn values_and_gradients_are_hugging_faces() {
    for name in NAMES {
        for composed in [false, true] {
            let small = Small::open(name);
            let (params, net) = small.build(BatchNormMode::Frozen);
            let tape = Tape::new();
            let train = TrainContext::new(&tape, 1, 0);
            let pass = if composed { Pass::train(&train).composed() } else { Pass::train(&train) };
            let images = small.images();
            let n = images.count();
            let x = body(net.as_ref(), &images, &pass, false);
            let mean = net.head(&x, n, Pooling::Mean, &pass).unwrap();
            close(&format!("{name} mean"), &to_vec(mean.value()).unwrap(), &small.file.read("mean").unwrap(), 1e-5);
            let (mut out, mut probe) = (mean, small.file.tensor("probe_mean", &Device::Cpu).unwrap());
            if net.has_class() {
                let cls = net.head(&x, n, Pooling::Cls, &pass).unwrap();
                close(&format!("{name} cls"), &to_vec(cls.value()).unwrap(), &small.file.read("cls").unwrap(), 1e-5);
                out = ops::concat_columns(&pass, &[&cls, &out]).unwrap();
                let first = small.file.tensor("probe_cls", &Device::Cpu).unwrap();
                probe = Tensor::cat(&[&first, &probe], 1).unwrap();
            }
            tape.backward_from(&out, probe).unwrap();
            let mut checked = 0;
            for p in params.trainable() {
                let want = small.file.read(&format!("grad/{}", p.name())).unwrap();
                close(&format!("{name} {composed} gradient of {}", p.name()), &p.grad().dense(), &want, 1e-5);
                checked += 1;
            }
            assert!(checked > 20, "{name}: {checked}");
            // Without gradients, folded; and the class token's row alone.
            let eval = Pass::eval();
            let x = body(net.as_ref(), &images, &eval, false);
            let mean = net.head(&x, n, Pooling::Mean, &eval).unwrap();
            close(&format!("{name} eval"), &to_vec(mean.value()).unwrap(), &small.file.read("mean").unwrap(), 1e-5);
            if net.has_class() {
                let x = body(net.as_ref(), &images, &eval, true);
                let cls = net.head(&x, n, Pooling::Cls, &eval).unwrap();
                close(&format!("{name} alone"), &to_vec(cls.value()).unwrap(), &small.file.read("cls").unwrap(), 1e-5);
            }
        }
    }
}

#[test]
fn batch_norm_in_training_is_pytorchs() {
    for name in ["resnet_basic", "resnet_bottleneck"] {
        for composed in [false, true] {
            let small = Small::open(name);
            let (params, net) = small.build(BatchNormMode::Train);
            let tape = Tape::new();
            let train = TrainContext::new(&tape, 1, 0);
            let pass = if composed { Pass::train(&train).composed() } else { Pass::train(&train) };
            let images = small.images();
            let x = body(net.as_ref(), &images, &pass, false);
            let mean = net.head(&x, images.count(), Pooling::Mean, &pass).unwrap();
            close(name, &to_vec(mean.value()).unwrap(), &small.file.read("train/mean").unwrap(), 2e-5);
            tape.backward_from(&mean, small.file.tensor("probe_mean", &Device::Cpu).unwrap()).unwrap();
            for p in params.iter() {
                if p.trains() {
                    let want = small.file.read(&format!("train/grad/{}", p.name())).unwrap();
                    close(&format!("{name} gradient of {}", p.name()), &p.grad().dense(), &want, 1e-4);
                } else {
                    let want = small.file.read(&format!("train/after/{}", p.name())).unwrap();
                    close(&format!("{name} {} afterwards", p.name()), &to_vec(&p.value()).unwrap(), &want, 1e-5);
                }
            }
            assert!(params.iter().any(|p| !p.trains()), "running statistics never train");
        }
    }
}

#[test]
fn threads_change_nothing() {
    for name in ["resnet_bottleneck", "swin_small", "vit_small"] {
        let gradients = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let small = Small::open(name);
                let (params, net) = small.build(BatchNormMode::Train);
                let tape = Tape::new();
                let train = TrainContext::new(&tape, 1, 0);
                let pass = Pass::train(&train);
                let x = body(net.as_ref(), &small.images(), &pass, false);
                let mean = net.head(&x, 3, Pooling::Mean, &pass).unwrap();
                tape.backward_from(&mean, small.file.tensor("probe_mean", &Device::Cpu).unwrap()).unwrap();
                params.trainable().flat_map(|p| p.grad().dense().into_owned()).collect::<Vec<f32>>()
            })
        };
        assert_eq!(gradients(1), gradients(3), "{name}");
    }
}

/// Vectors of the posters, and of their mirrored middles; the share whose own is the nearest.
fn retrieval(model: &str, count: usize) -> f64 {
    let folder = ImageFolder::open(&shared(model), true).unwrap();
    let dir = shared("data/ninerec-movies90s/ninerec-movies90s_cover");
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    let number = |f: &PathBuf| f.file_stem().unwrap().to_string_lossy()[1..].parse::<u32>().unwrap();
    files.sort_by_key(number);
    let pre: &Preprocess = &folder.preprocess;
    let side = pre.output().0;
    let (mut plain, mut other) = (vec![], vec![]);
    for f in &files[..count] {
        let picture = decode(&std::fs::read(f).unwrap()).unwrap();
        plain.extend(pre.apply(&picture).data);
        // Mirrored, a twenty-fifth cut from each edge.
        let (w, h) = (picture.width, picture.height);
        let mut cut = picture.crop(w / 25, h / 25, w - 2 * (w / 25), h - 2 * (h / 25));
        cut.flip();
        other.extend(pre.apply(&cut).data);
    }
    let encoder = FrozenImageEncoder::new(&folder, &ImageConfig::default()).unwrap();
    let vectors = |pixels: Vec<u8>| {
        let pixels = Pixels::new(PixelStore::in_memory(pixels, side, pre), (0..count as u32).map(Some).collect());
        let mut all = encoder.encode(&pixels, count, &|_, _| {}).unwrap();
        ops::normalize_rows_in_place(&mut all, encoder.width(), 1.0);
        all
    };
    let (a, b, d) = (vectors(plain), vectors(other), encoder.width());
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(a, b)| a * b).sum::<f32>();
    let hits = (0..count).filter(|&i| {
        let own = &b[i * d..][..d];
        let score = |j: usize| dot(own, &a[j * d..][..d]);
        (0..count).all(|j| j == i || score(j) < score(i))
    });
    hits.count() as f64 / count as f64
}

#[test]
fn real_encoders_know_a_mirrored_poster_again() {
    let (dino, aug) = (retrieval("models/dinov2-small-as-vit", 40), retrieval("models/augnet-resnet50", 40));
    println!("top-1 of 40: DINOv2 {dino}, AugNet {aug}");
    assert!(dino >= 0.95 && aug >= 0.80, "{dino} {aug}");
}

#[test]
fn our_own_cover_mini_is_what_transformers_reads() {
    let folder = ImageFolder::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/cover-mini"), true).unwrap();
    let want = Weights::open(&golden("cover_mini.safetensors")).unwrap().read("cls").unwrap();
    let pre = &folder.preprocess;
    let encoder = FrozenImageEncoder::new(&folder, &ImageConfig::default()).unwrap();
    // JPEG and WebP decoders differ by a level here and there; PNG is exact.
    for (i, (name, tolerance)) in
        [("rgb.png", 1e-5), ("base420.jpg", 0.05), ("lossy.webp", 0.05)].into_iter().enumerate()
    {
        let picture = decode(&std::fs::read(golden("pillow").join(name)).unwrap()).unwrap();
        let store = PixelStore::in_memory(pre.apply(&picture).data, pre.output().0, pre);
        let got = encoder.encode(&Pixels::new(store, vec![Some(0)]), 1, &|_, _| {}).unwrap();
        close(name, &got, &want[i * got.len()..][..got.len()], tolerance);
    }
}
