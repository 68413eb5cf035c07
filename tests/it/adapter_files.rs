//! Adapters on disk: other packages' files read and written (`tests/golden/adapter_files.py`), merged and taken out again, refused
//! where they do not belong; a run's adapter keeps only itself.

use crate::support::{small_config, tiny_bert};
use candle_core::Device;
use morec::config::{AdapterConfig, AdapterMethod, Config, ItemKind, Modality};
use morec::eval::encode::{self, no_progress};
use morec::item::EncoderFolder;
use morec::item::image::{Backbone, Images, VisionConfig, Vit};
use morec::item::text::{Bert, BertConfig, TextFolder};
use morec::model::layout::{EncoderInfo, read_external};
use morec::model::{Blueprint, ModelFolder, TableIds, TableSizes, folder, merge};
use morec::nn::host::to_vec;
use morec::nn::weights::Weights;
use morec::nn::{Action, Origin, Params, Pass, Scope, Segments};
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/adapters").join(name)
}

fn close(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).abs() <= 2e-5, "{what}: {g}, the package has {w}");
    }
}

/// A network with the values of a base and of a foreign adapter, and nothing else.
fn with_adapter<M>(base: &str, adapter: &str, model: impl Fn(&Scope) -> morec::Result<M>) -> M {
    let json = std::fs::read_to_string(golden(base).join("config.json")).unwrap();
    let kind = EncoderInfo::parse(&json).unwrap();
    let (layout, c, name) = read_external(&golden(adapter), &kind).unwrap();
    let values = Weights::open(&golden(adapter).join(layout.file())).unwrap();
    let values =
        values.renamed(|n| Some(layout.to_internal(&kind, n, &name).unwrap_or_else(|| panic!("{n}")))).unwrap();
    let values = values.overlay(&Weights::open_dir(&golden(base)).unwrap());
    let scoped = |s: &Scope| model(&s.adapted(c.encoder()));
    let specs = Params::declare(scoped).unwrap();
    let act = Action { origin: Origin::Source, train: false, lr: None };
    let actions = specs.into_iter().map(|s| (s.name, act)).collect();
    Params::build(0, &Device::Cpu, &actions, Some(&values), scoped).unwrap().1
}

#[test]
fn what_peft_and_adapters_write_says_the_same_here() {
    let json = std::fs::read_to_string(golden("bert/config.json")).unwrap();
    let config = BertConfig::parse(&json).unwrap();
    let (peft, hub) = (golden("expected.safetensors"), golden("expected_hub.safetensors"));
    let (peft, hub) = (Weights::open(&peft).unwrap(), Weights::open(&hub).unwrap());
    let ids: Vec<u32> = peft.read_i64("ids").unwrap().into_iter().map(|i| i as u32).collect();
    let segments = Segments::from_lengths([7, 7, 7]);
    for (name, want) in [("lora", &peft), ("ia3", &peft), ("houlsby", &hub), ("pfeiffer", &hub), ("parallel", &hub)] {
        let bert = with_adapter("bert", name, |s| Bert::new(s, &config));
        let got = bert.forward(ids.clone(), &segments, &Pass::eval()).unwrap();
        close(name, &to_vec(got.value()).unwrap(), &want.read(name).unwrap());
    }
    let json = std::fs::read_to_string(golden("vit/config.json")).unwrap();
    let VisionConfig::Vit(config) = VisionConfig::parse(&json).unwrap() else { panic!() };
    let pixels = peft.read("vit_pixels").unwrap();
    for (name, tensor, want) in
        [("vit-lora", "vit_lora", &peft), ("vit-lora-tf4", "vit_lora", &peft), ("vit-houlsby", "vit_houlsby", &hub)]
    {
        let vit = with_adapter("vit", name, |s| Vit::new(s, &config, 32));
        let (images, pass) = (Images::scaled(&pixels, 32, 32), Pass::eval());
        let mut x = vit.embed(&images, &pass).unwrap();
        for i in 0..vit.blocks() {
            x = vit.block(i, &x, images.count(), &pass, false).unwrap();
        }
        let x = vit.rows(&x, images.count(), &pass).unwrap();
        close(name, &to_vec(x.value()).unwrap(), &want.read(tensor).unwrap());
    }
}

/// A recommender over the golden encoder, saved below `dir`.
fn base(dir: &Path, change: impl Fn(&mut Config)) -> ModelFolder {
    let bert = tiny_bert(&dir.join("bert"), 0.0);
    for f in ["config.json", "model.safetensors"] {
        std::fs::copy(golden("bert").join(f), bert.join(f)).unwrap();
    }
    let mut config = small_config(ItemKind::Text, &bert);
    config.item.pretrained = true;
    change(&mut config);
    let text = Some(TextFolder::open(&bert, true).unwrap());
    let blueprint = Blueprint {
        config,
        counts: TableSizes::default(),
        encoders: text.map(EncoderFolder::from).into_iter().collect(),
        ..Default::default()
    };
    let actions = blueprint.declare().unwrap().into_iter().map(|s| {
        let origin = if s.pretrained { Origin::Pretrained } else { Origin::Init };
        (s.name, Action { origin, train: true, lr: None })
    });
    let model = blueprint.build(&Device::Cpu, &actions.collect(), None).unwrap();
    let at = dir.join("base");
    std::fs::create_dir_all(&at).unwrap();
    folder::save(&at, &model, TableIds { items: &[], users: &[] }).unwrap();
    ModelFolder::open(&at).unwrap()
}

fn vectors(folder: &ModelFolder) -> Vec<f32> {
    let model = folder.build(&Device::Cpu).unwrap();
    let texts: Vec<String> = ["red guitar strap", "blue drum", "steel strings red"].map(String::from).to_vec();
    encode::catalogue(&model, &model.features(&texts).unwrap(), &no_progress).unwrap()
}

fn differ(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn imported_ones_are_written_as_they_were_merged_and_taken_out_again() {
    let tmp = tempfile::tempdir().unwrap();
    let base = base(tmp.path(), |_| {});
    let plain = vectors(&base);
    for name in ["lora", "ia3", "houlsby", "pfeiffer", "parallel"] {
        let at = tmp.path().join(name);
        let method = merge::import(&golden(name), &base, Modality::Text, &at).unwrap();
        assert_eq!(method.name(), name);
        let adapter = ModelFolder::open(&at).unwrap();
        let with = vectors(&adapter);
        assert!(differ(&with, &plain) > 1e-2, "{name}");
        // Tensor for tensor what the package wrote.
        let file = if at.join("text/adapter.safetensors").exists() {
            "adapter.safetensors"
        } else {
            "adapter_model.safetensors"
        };
        let theirs = Weights::open(&golden(name).join(file)).unwrap();
        let ours = Weights::open(&at.join("text").join(file)).unwrap();
        assert_eq!(ours.names().count(), theirs.names().count());
        for n in theirs.names() {
            let bare = n.strip_prefix("bert.").unwrap_or(n);
            assert_eq!((ours.shape(bare), ours.read(bare).unwrap()), (theirs.shape(n), theirs.read(n).unwrap()), "{n}");
        }
        let kind = EncoderInfo::parse(&base.encoders.text().unwrap().config_json).unwrap();
        let again = read_external(&at.join("text"), &kind).unwrap();
        assert_eq!(
            (again.1, again.0),
            (adapter.config.adapter.clone(), read_external(&golden(name), &kind).unwrap().0)
        );
        // For Python: the encoder as it was, the adapter as it is.
        let out = tmp.path().join(format!("{name}-python"));
        let done = morec::model::export::export(&adapter, Modality::Text, &out).unwrap();
        let (a, b) = (Weights::open_dir(&out).unwrap(), Weights::open_dir(&golden("bert")).unwrap());
        assert!(a.names().eq(b.names()) && a.names().all(|n| a.read(n).unwrap() == b.read(n).unwrap()));
        assert!(done.adapter.unwrap().join(file).exists());
        // The base is not in it.
        assert!(std::fs::metadata(at.join("adapter.safetensors")).unwrap().len() < 200);
        let merged_at = tmp.path().join(format!("{name}-merged"));
        let done = merge::merge(&adapter, &merged_at).unwrap();
        let merged = ModelFolder::open(&merged_at).unwrap();
        assert!(differ(&vectors(&merged), &with) < 2e-5, "{name} merged");
        let folds = ["lora", "ia3"].contains(&name);
        assert_eq!((done.whole, done.folded > 0, merged.base.is_none()), (folds, folds, true));
        let out = tmp.path().join(format!("{name}-out"));
        match merge::unmerge(&merged, &adapter, &out) {
            Ok(_) => {
                assert!(folds);
                let (rows, _) = merge::difference(&ModelFolder::open(&out).unwrap(), &base).unwrap();
                let relative = |d: &merge::Difference| d.distance.unwrap() / d.norms[1].unwrap();
                assert!(rows.iter().all(|d| relative(d) < 1e-6), "{rows:?}");
                let (rows, equal) = merge::difference(&merged, &base).unwrap();
                assert!(rows.len() == done.folded && equal > 0 && rows.iter().all(|d| relative(d) > 1e-3));
            }
            Err(e) => assert!(!folds && e.to_string().contains("only lora and ia3"), "{e}"),
        }
    }
    let e = merge::merge(&base, &tmp.path().join("x")).err().unwrap().to_string();
    assert!(e.contains("not an adapter"), "{e}");
}

#[test]
fn an_adapter_is_refused_where_it_does_not_belong() {
    let tmp = tempfile::tempdir().unwrap();
    let base = base(tmp.path(), |_| {});
    let at = |n: &str| tmp.path().join(n);
    // Another width, a tensor too few, one too many, a function that is not ours.
    let copy =
        |n: &str, change: &dyn Fn(&mut Vec<(String, Vec<usize>, Vec<f32>)>), config: &dyn Fn(String) -> String| {
            let dir = at(n);
            std::fs::create_dir_all(&dir).unwrap();
            let w = Weights::open(&golden("houlsby/adapter.safetensors")).unwrap();
            let mut all: Vec<_> =
                w.names().map(|n| (n.to_string(), w.shape(n).unwrap().to_vec(), w.read(n).unwrap())).collect();
            change(&mut all);
            morec::nn::weights::save(&dir.join("adapter.safetensors"), &all, Default::default()).unwrap();
            let json = std::fs::read_to_string(golden("houlsby/adapter_config.json")).unwrap();
            std::fs::write(dir.join("adapter_config.json"), config(json)).unwrap();
            merge::import(&dir, &base, Modality::Text, &at("out")).unwrap_err().to_string()
        };
    let same = |j: String| j;
    assert!(
        copy(
            "few",
            &|a| {
                a.pop();
            },
            &same
        )
        .contains("is missing")
    );
    assert!(copy("many", &|a| a.push(("bert.pooler.x".into(), vec![1], vec![0.0])), &same).contains("no place"));
    let wide = |a: &mut Vec<(String, Vec<usize>, Vec<f32>)>| {
        a[0].1 = vec![4];
        a[0].2.truncate(4);
    };
    assert!(copy("wide", &wide, &same).contains("another base"));
    let other = |j: String| j.replace("\"relu\"", "\"swish\"");
    assert!(copy("swish", &|_| {}, &other).contains("only relu"));
    assert!(!at("out").exists());
    // The base is gone, or is another one.
    merge::import(&golden("lora"), &base, Modality::Text, &at("lora")).unwrap();
    std::fs::rename(&base.dir, at("moved")).unwrap();
    let e = ModelFolder::open(&at("lora")).err().unwrap().to_string();
    assert!(e.contains("is not at") && e.contains("adapters merge"), "{e}");
    let found = ModelFolder::open_on(&at("lora"), Some(&at("moved"))).unwrap();
    merge::merge(&found, &at("merged")).unwrap();
    let e = ModelFolder::open_on(&at("lora"), Some(&at("merged"))).err().unwrap().to_string();
    assert!(e.contains("another base"), "{e}");
    let e = merge::import(&golden("lora"), &base, Modality::Image, &at("out")).unwrap_err().to_string();
    assert!(e.contains("no image encoder"), "{e}");
}

#[test]
fn both_moved_together_find_each_other() {
    let tmp = tempfile::tempdir().unwrap();
    let (old, new) = (tmp.path().join("old"), tmp.path().join("new"));
    std::fs::create_dir(&old).unwrap();
    let base = base(&old, |_| {});
    merge::import(&golden("ia3"), &base, Modality::Text, &old.join("ia3")).unwrap();
    let before = vectors(&ModelFolder::open(&old.join("ia3")).unwrap());
    std::fs::rename(&old, &new).unwrap();
    assert_eq!(vectors(&ModelFolder::open(&new.join("ia3")).unwrap()), before);
}

#[test]
fn widths_survive_adapterhubs_arithmetic() {
    for hidden in [32usize, 128, 192, 312, 384, 768, 1024] {
        for width in 1..=hidden {
            let c = AdapterConfig { method: AdapterMethod::Houlsby, width, ..Default::default() };
            let json = format!("{{\"model_type\":\"bert\",\"hidden_size\":{hidden},\"num_hidden_layers\":2}}");
            let kind = EncoderInfo::parse(&json).unwrap();
            let v = morec::model::layout::Layout::Hub.config(&c, &kind, "x");
            let factor = v["config"]["reduction_factor"].as_f64().unwrap();
            assert_eq!((hidden as f64 / factor).floor() as usize, width, "{hidden} / {factor}");
        }
    }
}

#[test]
fn settings_of_peft_that_are_not_understood_are_refused_by_name() {
    let tmp = tempfile::tempdir().unwrap();
    let bert = std::fs::read_to_string(golden("bert/config.json")).unwrap();
    let kind = EncoderInfo::parse(&bert).unwrap();
    let plain: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(golden("lora/adapter_config.json")).unwrap()).unwrap();
    let with = |key: &str, value: serde_json::Value| {
        let mut v = plain.clone();
        v[key] = value;
        std::fs::write(tmp.path().join("adapter_config.json"), v.to_string()).unwrap();
        read_external(tmp.path(), &kind).map(|(_, c, _)| c).map_err(|e| e.to_string())
    };
    use serde_json::json;
    for (key, value) in [
        ("init_lora_weights", json!("pissa")),
        ("init_lora_weights", json!("pissa_niter_16")),
        ("init_lora_weights", json!("olora")),
        ("init_lora_weights", json!("loftq")),
        ("use_dora", json!(true)),
        ("bias", json!("all")),
        ("rank_pattern", json!({"query": 2})),
        ("modules_to_save", json!(["classifier"])),
        ("a_setting_of_tomorrow", json!(true)),
    ] {
        let e = with(key, value).unwrap_err();
        assert!(e.contains(key), "{e}");
    }
    for (key, value) in [
        ("init_lora_weights", json!("gaussian")),
        ("bias", json!("none")),
        ("a_setting_of_tomorrow", json!(null)),
        ("another_of_tomorrow", json!({})),
        ("lora_dropout", json!(0.1)),
    ] {
        assert_eq!(with(key, value).unwrap().alpha, 8.0, "{key}");
    }
    // r = 4: α/√r of rsLoRA is (2·α)/r of LoRA.
    assert_eq!(with("use_rslora", json!(true)).unwrap().alpha, 16.0);
}
