//! Folders of pre-trained encoders: config.json, tokenizer.json, preprocessor_config.json, weights, shard index, card.

use super::damage::Format;
use super::{MODEL, Runner};
use crate::support::tiny_bert;
use morec::config::ImageConfig;
use morec::hub::{Card, Origin};
use morec::item::Tokens;
use morec::item::image::{FrozenImageEncoder, ImageFolder, Images};
use morec::item::text::{SentenceEncoder, TextFolder, backbone};
use morec::nn::ops::Pooling;
use morec::nn::weights::{self, Weights};
use morec::nn::{Params, Pass};
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn copy(from: &Path, names: &[&str], to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in names {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

/// A tiny BERT with weights.
pub fn bert(dir: &Path) -> PathBuf {
    tiny_bert(dir, 0.0);
    copy(&golden("adapters/bert"), &["config.json", "model.safetensors"], dir);
    dir.into()
}

/// Opens a text encoder and encodes titles with it.
fn encode(dir: &Path) -> morec::Result<()> {
    let folder = TextFolder::open(dir, true)?;
    let encoder = SentenceEncoder::new(&folder, Pooling::Mean)?;
    let most = folder.config.usable_positions().min(8);
    let tokens =
        Tokens::new(&folder.tokenizer, &["red guitar strap", "", "unknown \u{1f3b8} words"], most.max(3), false)?;
    if most >= 3 {
        let rows = encoder.encode_batch(&tokens, &[0, 1, 2])?;
        assert_eq!(rows.len(), 3 * encoder.width());
    }
    Ok(())
}

/// Opens a vision encoder without weights, draws some, and encodes a picture.
fn look(dir: &Path) -> morec::Result<()> {
    let folder = ImageFolder::open(dir, false)?;
    let c = ImageConfig { pretrained: false, ..Default::default() };
    let (side, height) = folder.preprocess(&c).output();
    let (_, net) = Params::fresh(0, &candle_core::Device::Cpu, |s| folder.backbone(s, &c))?;
    if side == height && side <= 64 {
        let pixels = vec![0.5f32; 3 * side * side];
        let images = Images::scaled(&pixels, side, side);
        let mut x = net.embed(&images, &Pass::eval())?;
        for i in 0..net.blocks() {
            x = net.block(i, &x, 1, &Pass::eval(), false)?;
        }
        net.head(&x, 1, Pooling::Mean, &Pass::eval())?;
    }
    Ok(())
}

fn vision(dir: &Path, config: serde_json::Value, side: usize) -> PathBuf {
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let pre = serde_json::json!({"image_processor_type": "ViTImageProcessor", "do_resize": true, "resample": 2,
        "size": {"height": side, "width": side}, "do_rescale": true, "rescale_factor": 1.0 / 255.0, "do_normalize": true,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]});
    std::fs::write(dir.join("preprocessor_config.json"), pre.to_string()).unwrap();
    dir.into()
}

/// Cuts a file of weights in two with an index.
fn shard(dir: &Path) {
    let all = Weights::open_dir(dir).unwrap();
    let tensors: Vec<_> =
        all.names().map(|n| (n.to_string(), all.shape(n).unwrap().to_vec(), all.read(n).unwrap())).collect();
    let (a, b) = tensors.split_at(tensors.len() / 2);
    let mut map = serde_json::Map::new();
    for (part, name) in [(a, "model-00001-of-00002.safetensors"), (b, "model-00002-of-00002.safetensors")] {
        weights::save(&dir.join(name), part, Default::default()).unwrap();
        map.extend(part.iter().map(|t| (t.0.clone(), name.into())));
    }
    std::fs::remove_file(dir.join("model.safetensors")).unwrap();
    let index = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map});
    std::fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

pub fn run(r: &mut Runner) {
    let tmp = tempfile::tempdir().unwrap();
    let at = |n: &str| tmp.path().join(n);
    let text = bert(&at("bert"));
    r.parser("text config.json", 200, MODEL, Format::Json, &text.join("config.json"), || encode(&text));
    r.parser("tokenizer.json", 250, MODEL, Format::Json, &text.join("tokenizer.json"), || encode(&text));
    r.parser("safetensors", 200, MODEL, Format::Safetensors, &text.join("model.safetensors"), || encode(&text));
    let declare = |dir: &Path| {
        let folder = TextFolder::open(dir, false)?;
        Params::declare(|s| backbone(s, &folder)).map(|_| ())
    };
    r.parser("text config.json, no weights", 100, MODEL, Format::Json, &text.join("config.json"), || declare(&text));

    let check = |dir: &Path| {
        morec::hub::ModelFolder::open("m", dir, Origin::Folder)?.config()?;
        morec::hub::verify(dir).map(|_| ())
    };
    let whole = bert(&at("verify"));
    for (file, n, format) in [
        ("config.json", 60, Format::Json),
        ("tokenizer.json", 60, Format::Json),
        ("model.safetensors", 60, Format::Safetensors),
    ] {
        r.parser(&format!("models verify {file}"), n, MODEL, format, &whole.join(file), || check(&whole));
    }
    let parts = bert(&at("sharded"));
    shard(&parts);
    let index = parts.join("model.safetensors.index.json");
    r.parser("shard index", 100, MODEL, Format::Json, &index, || encode(&parts));
    r.parser("models verify shard index", 60, MODEL, Format::Json, &index, || check(&parts));

    let card = at("card");
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/title-mini");
    copy(&models, &["model.toml"], &card);
    r.parser("model card", 100, MODEL, Format::Text, &card.join("model.toml"), || Card::read(&card).map(|_| ()));

    let vit = serde_json::json!({"model_type": "vit", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "image_size": 16, "patch_size": 8, "layer_norm_eps": 1e-6, "hidden_act": "gelu"});
    let dino = serde_json::json!({"model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "mlp_ratio": 2, "image_size": 16, "patch_size": 8, "layerscale_value": 1.0});
    let resnet = serde_json::json!({"model_type": "resnet", "embedding_size": 4, "hidden_sizes": [8, 16],
        "depths": [1, 2], "layer_type": "bottleneck", "hidden_act": "relu", "downsample_in_first_stage": false});
    let swin = serde_json::json!({"model_type": "swin", "image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [2, 2],
        "num_heads": [2, 2], "window_size": 4, "mlp_ratio": 2.0, "hidden_act": "gelu", "layer_norm_eps": 1e-5});
    for (name, config, side, n) in
        [("vit", vit, 16, 80), ("dinov2", dino, 16, 60), ("resnet", resnet, 32, 60), ("swin", swin, 32, 80)]
    {
        let dir = vision(&at(name), config, side);
        r.parser(&format!("{name} config.json"), n, MODEL, Format::Json, &dir.join("config.json"), || look(&dir));
    }
    let dir = at("vit");
    let pre = dir.join("preprocessor_config.json");
    r.parser("preprocessor_config.json", 120, MODEL, Format::Json, &pre, || look(&dir));
    let vit = at("vit-weights");
    copy(&golden("adapters/vit"), &["config.json", "model.safetensors"], &vit);
    copy(&dir, &["preprocessor_config.json"], &vit);
    let open = || {
        let folder = ImageFolder::open(&vit, true)?;
        FrozenImageEncoder::new(&folder, &ImageConfig::default()).map(|_| ())
    };
    r.parser("vision weights", 60, MODEL, Format::Safetensors, &vit.join("model.safetensors"), open);
}
