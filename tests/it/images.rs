//! Items with pictures, from raw files to recommendations: import, the store of pixels, every fusion, frozen depth, transfer.

use crate::cli::{morec, ok};
use crate::data_support::Sublayer;
use crate::support::{domain, small_config, tiny_bert};
use morec::config::{AdapterMethod, Config, Fusion, ItemKind, Modality};
use morec::data::images::{ImageSource, OnImage};
use morec::data::{Dataset, DatasetParts};
use morec::eval::encode::{self, no_progress};
use morec::experiment::{self, ExistingRun, Prepared, RunResult};
use morec::item::image::{ImageFolder, PixelStore};
use morec::item::{FrozenDepth, ItemTable};
use morec::model::ModelFolder;
use morec::nn::Pass;
use morec::nn::host::to_vec;
use morec::picture::{Augment, Rgb, encode_png};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A Hugging Face folder of a tiny ViT (no weights).
fn tiny_vit(dir: &Path) -> PathBuf {
    std::fs::create_dir_all(dir).unwrap();
    let config = serde_json::json!({"model_type": "vit", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "image_size": 16, "patch_size": 8, "layer_norm_eps": 1e-6});
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let pre = r#"{"size": {"height": 16, "width": 16}, "resample": 2}"#;
    std::fs::write(dir.join("preprocessor_config.json"), pre).unwrap();
    dir.into()
}

fn tiny_resnet(dir: &Path) -> PathBuf {
    std::fs::create_dir_all(dir).unwrap();
    let config = serde_json::json!({"model_type": "resnet", "embedding_size": 4, "hidden_sizes": [8, 16], "depths": [1, 2],
        "layer_type": "bottleneck"});
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    std::fs::write(dir.join("preprocessor_config.json"), r#"{"size": {"height": 32, "width": 32}, "resample": 2}"#)
        .unwrap();
    dir.into()
}

fn drawn(i: usize) -> Vec<u8> {
    let mut p = Rgb::filled(20, 24, [(i * 37 % 256) as u8, (i * 91 % 256) as u8, (i * 13 % 256) as u8]);
    (0..60).for_each(|k| p.data[(i * 7 + k * 11) % 1440] = (k * 4) as u8);
    encode_png(&p)
}

/// Pictures of all items but every fifth.
struct DrawnPictures;

impl ImageSource for DrawnPictures {
    fn each(&self, find: &dyn Fn(&str) -> Option<u32>, give: &mut OnImage) -> morec::Result<()> {
        for i in (0..60).filter(|i| i % 5 != 0) {
            for name in ["source", "target"] {
                if let Some(item) = find(&format!("{name}-{i}")) {
                    give(item, format!("{i}"), Ok(drawn(i)))?;
                }
            }
        }
        Ok(())
    }
}

/// A data set with texts (but every seventh) and pictures (but every fifth).
fn pictured(dir: &Path, name: &str) -> PathBuf {
    let mut d = domain(name, 120, 60);
    d.items.text.iter_mut().step_by(7).for_each(|t| t.clear());
    let out = dir.join(name);
    d.save(&out, DatasetParts { images: Some((&DrawnPictures, 0.0)), ..Default::default() }).unwrap();
    out
}

fn settings(kind: ItemKind, tmp: &Path) -> Config {
    let mut c = small_config(kind, &tiny_bert(&tmp.join("bert"), 0.1));
    c.item.image.model = tiny_vit(&tmp.join("vit")).display().to_string();
    c.item.image.pretrained = false;
    c.train.lr = 1e-2;
    c
}

fn train(
    c: &Config,
    data: &Path,
    dir: &Path,
    source: Option<&ModelFolder>,
    mode: ExistingRun,
) -> morec::Result<RunResult> {
    let p = Prepared::new(Dataset::open(data).unwrap(), c)?;
    experiment::execute(c, &p, source, dir, mode, vec![], &no_progress)
}

#[test]
fn import_takes_folders_and_tables_and_counts_what_is_wrong() {
    let p = Sublayer::new();
    p.file("log.csv", "user_id,item_id\nu1,a\nu1,b\nu2,c\nu2,d\nu2,a\n")
        .file("items.csv", "item_id,title\na,A\nb,B\nc,C\nd,D\n");
    p.file("img/a.png", drawn(1))
        .file("img/sub/b.png", drawn(2))
        .file("img/z.png", drawn(3))
        .file("img/c.jpg", "no picture");
    let base = "--format csv --interactions @/log.csv --items @/items.csv --text-cols title";
    p.refuses(&format!("{base} --images @/img"), 3, &["1 of 3 pictures", "c.jpg", "--bad-images"]);
    p.refuses(&format!("{base} --images @/nowhere"), 2, &["nowhere", "no such"]);
    let (done, d) = p.import(&format!("{base} --images @/img --bad-images 0.5"));
    assert_eq!((done.notes.count("bad_images"), done.notes.count("items_without_image")), (1, 2));
    let images = d.images.unwrap();
    assert_eq!((images.count(), done.manifest.facts["images"].as_u64()), (2, Some(2)));
    let places = images.places(4);
    assert!(places[0].is_some() && places[1].is_some() && places[2].is_none() && places[3].is_none());
    // Nothing changed: nothing is done; a new picture: again.
    let again = p.try_import(&format!("{base} --images @/img --bad-images 0.5")).unwrap();
    assert_eq!(again.outcome, morec::data::import::Outcome::UpToDate);
    p.file("img/d.png", drawn(4));
    assert_eq!(p.import(&format!("{base} --images @/img --bad-images 0.5")).1.images.unwrap().count(), 3);
    // A damaged file of pictures is found out.
    let file = p.path("out/images.parquet");
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 0xff;
    std::fs::write(&file, bytes).unwrap();
    let e = Dataset::open(&p.path("out")).unwrap_err();
    assert!(e.exit_code() == 3 && e.to_string().contains("images.parquet"), "{e}");
}

#[test]
fn import_finds_ninerecs_covers_and_reads_parquet() {
    let p = Sublayer::new();
    p.file("raw/x_pair.csv", "u1,v1,5\nu1,v2,6\n").file("raw/x_item.csv", "v1,,\"One\"\nv2,,\"Two\"\n");
    p.file("raw/x_cover/v1.jpg", drawn(1)).file("raw/x_cover/v2.jpg", drawn(2));
    let base = "--format ninerec @/raw --pair-columns user,item,timestamp";
    assert_eq!(p.import(base).1.images.unwrap().count(), 2);
    assert!(p.import(&format!("{base} --no-images --force")).1.images.is_none());
    // What a data set of ours holds is a Parquet file like others.
    use arrow::array::{ArrayRef, BinaryArray, RecordBatch, StringArray};
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(StringArray::from(vec!["v2", "v9", "v1"]))),
        ("jpeg", Arc::new(BinaryArray::from_iter_values([drawn(2), drawn(9), drawn(1)]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = std::fs::File::create(p.path("pictures.parquet")).unwrap();
    let mut w = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    w.write(&batch).unwrap();
    w.close().unwrap();
    let named = format!("{base} --force --images @/pictures.parquet --image-id-col id --image-col jpeg");
    assert_eq!(p.import(&named).1.images.unwrap().count(), 2);
    let e = p.try_import(&format!("{base} --force --images @/pictures.parquet")).unwrap_err().to_string();
    assert!(e.contains("id, jpeg") && e.contains("--image-id-col"), "{e}");
}

#[cfg(feature = "lmdb")]
#[test]
fn import_reads_databases_of_the_morec_family() {
    for (folder, count) in [("lmdb", 3), ("lmdb/deep", 60)] {
        let p = Sublayer::new();
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let json: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(golden.join("lmdb_images.json")).unwrap()).unwrap();
        let key = if count == 3 { "lmdb" } else { "deep" };
        let ids: Vec<String> = json[key].as_object().unwrap().keys().cloned().collect();
        let mut log = "user_id,item_id\n".to_string();
        ids.iter().for_each(|i| log += &format!("u,{i}\n"));
        p.file("log.csv", log);
        let lmdb = golden.join(folder);
        let (_, d) = p.import(&format!("--format csv --interactions @/log.csv --images {}", lmdb.display()));
        let file = d.images.unwrap();
        assert_eq!(file.count(), count);
        let items = file.items().to_vec();
        file.each(0, 100, |from, all| {
            for (k, bytes) in all.iter().enumerate() {
                let picture = morec::picture::decode(bytes).unwrap();
                let want = &json[key][&d.items.ids[items[from + k] as usize]];
                assert_eq!(want["height"], picture.height);
                if let Some(pixels) = want["pixels"].as_array() {
                    assert!(pixels.iter().zip(&picture.data).all(|(a, b)| a.as_u64() == Some(u64::from(*b))));
                }
            }
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn the_store_is_made_once_and_goes_on_where_it_was() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = pictured(tmp.path(), "source");
    let file = Dataset::open(&dir).unwrap().images.unwrap();
    let folder = ImageFolder::open(&tiny_vit(&tmp.path().join("vit")), false).unwrap();
    let seen = std::cell::RefCell::new(vec![]);
    let open = |side: usize| {
        let pre = folder.preprocess.clone().with_side(side);
        PixelStore::open(&file, Some(&dir), &pre, &|done, all| seen.borrow_mut().push((done, all))).unwrap()
    };
    open(16);
    assert_eq!(seen.take(), [(48, 48)]);
    open(16);
    assert!(seen.take().is_empty(), "made twice");
    open(8);
    assert_eq!(seen.take(), [(48, 48)], "another size is another store");
    let find = |end: &str| {
        let all = std::fs::read_dir(dir.join(".cache")).unwrap().map(|e| e.unwrap().path());
        all.filter(|p| p.to_string_lossy().ends_with(end)).collect::<Vec<_>>()
    };
    let whole = find(".u8").into_iter().find(|p| p.metadata().unwrap().len() == 48 * 16 * 16 * 3).unwrap();
    let bytes = std::fs::read(&whole).unwrap();
    // Stopped in the middle of the 21st picture: 20 are kept.
    std::fs::remove_file(&whole).unwrap();
    std::fs::write(whole.with_extension("partial"), &bytes[..20 * 768 + 100]).unwrap();
    open(16);
    assert_eq!(seen.take(), [(48, 48)]);
    assert_eq!(std::fs::read(&whole).unwrap(), bytes);
    assert!(find(".partial").is_empty());
}

#[test]
fn every_fusion_trains_and_moves() {
    let tmp = tempfile::tempdir().unwrap();
    let (source, target) = (pictured(tmp.path(), "source"), pictured(tmp.path(), "target"));
    let fusions = [Fusion::Sum, Fusion::Concat, Fusion::Gated, Fusion::CoAttention, Fusion::Mixture];
    let kinds = std::iter::once((ItemKind::Image, Fusion::Sum)).chain(fusions.map(|f| (ItemKind::Both, f)));
    for (kind, fusion) in kinds {
        let mut c = settings(kind, tmp.path());
        c.item.fusion = fusion;
        let at = |n: &str| tmp.path().join(format!("{kind:?}-{fusion:?}-{n}"));
        let name = format!("{kind:?} {fusion:?}");
        let r = train(&c, &source, &at("run"), None, ExistingRun::New).unwrap_or_else(|e| panic!("{name}: {e}"));
        // The saved model, asked again, says the same.
        let folder = ModelFolder::open(&at("run")).unwrap();
        let model = folder.build(&candle_core::Device::Cpu).unwrap();
        let p = Prepared::new(Dataset::open(&source).unwrap(), &c).unwrap();
        let features = model.features_of(&p.content()).unwrap();
        let task = morec::eval::EvalTask { split: &p.split, cases: &p.split.test, config: &c.eval, candidates: &[] };
        let (again, _) = morec::eval::evaluate(&model, &features, &task, "test of split morec", &no_progress).unwrap();
        assert_eq!(again, r.test, "{name}");
        // Each item by itself is what it is among the others.
        let ids = Arc::new((0..features.count as u32).collect::<Vec<_>>());
        let vectors = |ids: &Arc<Vec<u32>>| {
            to_vec(model.item.encode(&ItemTable { ids, features: &features }, &Pass::eval()).unwrap().value()).unwrap()
        };
        let (all, d) = (vectors(&ids), model.item.dim());
        for i in [0, 5, 7, 11] {
            for (a, b) in vectors(&Arc::new(vec![i])).iter().zip(&all[i as usize * d..][..d]) {
                assert!((a - b).abs() < 1e-5, "{name} item {i}: {a} {b}");
            }
        }
        // Kept or computed again: the same vectors; and the other platform.
        c.transfer.source = at("run").display().to_string();
        let presets =
            ["full", "frozen", "top-layers=1", "head", "zero-shot", "houlsby", "lora", "kadapter", "bitfit", "norms"];
        for preset in presets {
            c.transfer.preset = preset.into();
            c.adapter.method = AdapterMethod::named(preset).unwrap_or(AdapterMethod::None);
            c.train.epochs = 1;
            let r = train(&c, &target, &at(preset), Some(&folder), ExistingRun::New)
                .unwrap_or_else(|e| panic!("{name} {preset}: {e}"));
            assert_eq!(r.steps == 0, preset == "zero-shot");
        }
    }
}

#[test]
fn a_mixture_is_text_or_picture() {
    let tmp = tempfile::tempdir().unwrap();
    let data = Dataset::open(&pictured(tmp.path(), "source")).unwrap();
    let mut c = settings(ItemKind::Both, tmp.path());
    c.item.fusion = Fusion::Mixture;
    let dir = tmp.path().join("run");
    train(&c, &tmp.path().join("source"), &dir, None, ExistingRun::New).unwrap();
    let model = ModelFolder::open(&dir).unwrap().build(&candle_core::Device::Cpu).unwrap();
    let p = Prepared::new(data, &c).unwrap();
    let f = model.features_of(&p.content()).unwrap();
    let has = f.used.clone().unwrap();
    assert!(has.iter().all(|h| !(h.contains(Modality::Text) && h.contains(Modality::Image))), "both at once");
    assert!(has.iter().any(|h| h.contains(Modality::Text)) && has.iter().any(|h| h.contains(Modality::Image)));
    // The draw is by raw id: another split, the same choice.
    let whole = Dataset::open(&tmp.path().join("source")).unwrap();
    let all = model.features_of(&morec::model::ItemContent::whole(&whole)).unwrap();
    for (i, h) in has.iter().enumerate() {
        assert_eq!(all.used.as_ref().unwrap()[p.split.items[i] as usize], *h);
    }
}

#[test]
fn what_is_kept_of_frozen_layers_changes_nothing() {
    let tmp = tempfile::tempdir().unwrap();
    let data = pictured(tmp.path(), "source");
    for (model, layers, depth) in
        [("vit", 0, FrozenDepth::Pooled), ("vit", 1, FrozenDepth::Blocks(1)), ("resnet", 1, FrozenDepth::Blocks(2))]
    {
        let mut c = settings(ItemKind::Image, tmp.path());
        if model == "resnet" {
            c.item.image.model = tiny_resnet(&tmp.path().join("resnet")).display().to_string();
        }
        c.item.image.train_layers = layers;
        let (kept, plain) =
            (tmp.path().join(format!("{model}{layers}k")), tmp.path().join(format!("{model}{layers}p")));
        let a = train(&c, &data, &kept, None, ExistingRun::New).unwrap();
        let p = Prepared::new(Dataset::open(&data).unwrap(), &c).unwrap();
        let blueprint = morec::model::Blueprint {
            config: c.clone(),
            counts: p.counts(),
            encoders: experiment::encoder_folder(&c, Modality::Image).unwrap().into_iter().collect(),
            ..Default::default()
        };
        let plan = experiment::plan_of(&c, None, p.counts()).unwrap();
        let built = blueprint.build(&candle_core::Device::Cpu, &plan.actions(), None).unwrap();
        assert_eq!(built.item.frozen_depths(), [(Modality::Image, depth)]);
        let mut f = built.features_of(&p.content()).unwrap();
        let before = encode::catalogue(&built, &f, &no_progress).unwrap();
        assert!(morec::eval::build_frozen_caches(&built, &mut f, Some(&data), &no_progress).unwrap());
        let after = encode::catalogue(&built, &f, &no_progress).unwrap();
        assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() < 1e-5));
        c.item.image.cache = morec::config::Cache::Off;
        let b = train(&c, &data, &plain, None, ExistingRun::New).unwrap();
        assert!((a.test.get("ndcg@10") - b.test.get("ndcg@10")).abs() < 1e-6, "{model} {layers}");
        assert_eq!(a.parameters, b.parameters);
    }
}

#[test]
fn a_stopped_run_with_changing_pictures_ends_as_one_that_was_not() {
    let tmp = tempfile::tempdir().unwrap();
    let data = pictured(tmp.path(), "source");
    let mut c = settings(ItemKind::Both, tmp.path());
    c.item.image.augment = Augment::Crop;
    c.train.encode_items = 9;
    let (whole, parts) = (tmp.path().join("whole"), tmp.path().join("parts"));
    train(&c, &data, &whole, None, ExistingRun::New).unwrap();
    let mut first = c.clone();
    first.train.epochs = 1;
    train(&first, &data, &parts, None, ExistingRun::New).unwrap();
    train(&c, &data, &parts, None, ExistingRun::Resume).unwrap();
    let weights = |d: &Path| std::fs::read(d.join("last/model/model.safetensors")).unwrap();
    let again = tmp.path().join("again");
    train(&c, &data, &again, None, ExistingRun::New).unwrap();
    assert!(weights(&whole) == weights(&again), "the same seed, other weights");
    assert!(weights(&whole) == weights(&parts), "gone on, other weights");
}

#[test]
fn parts_of_a_batch_that_lack_a_modality_lose_no_gradient() {
    let tmp = tempfile::tempdir().unwrap();
    let data = pictured(tmp.path(), "source");
    for fusion in [Fusion::Mixture, Fusion::Sum] {
        let mut c = settings(ItemKind::Both, tmp.path());
        c.item.fusion = fusion;
        (c.item.dropout, c.user.dropout, c.train.lr, c.train.encoder_lr) = (0.0, 0.0, 1e-3, 1e-3);
        let weights = |parts: usize| {
            let mut c = c.clone();
            c.train.encode_items = parts;
            let dir = tmp.path().join(format!("{fusion:?}-{parts}"));
            train(&c, &data, &dir, None, ExistingRun::New).unwrap();
            morec::nn::weights::Weights::open(&dir.join("last/model/model.safetensors")).unwrap()
        };
        let (whole, parts) = (weights(0), weights(2));
        for name in whole.names() {
            let (a, b) = (whole.read(name).unwrap(), parts.read(name).unwrap());
            let far = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert!(far < 2e-3, "{fusion:?} {name}: {far}");
        }
    }
}

#[test]
fn a_modality_that_does_not_occur_is_named() {
    let tmp = tempfile::tempdir().unwrap();
    let data = pictured(tmp.path(), "source");
    let mut c = settings(ItemKind::Both, tmp.path());
    c.item.fusion = Fusion::Mixture;
    c.item.image_share = 0.0;
    // Items without a text are pictures all the same.
    train(&c, &data, &tmp.path().join("few"), None, ExistingRun::New).unwrap();
    c.item.kind = ItemKind::Image;
    c.item.train_layers = 0;
    train(&c, &data, &tmp.path().join("image"), None, ExistingRun::New).unwrap();
    let mut d = domain("source", 120, 60);
    d.items.text.iter_mut().for_each(|t| t.clear());
    let bare = tmp.path().join("bare");
    d.save(&bare, DatasetParts { images: Some((&DrawnPictures, 0.0)), ..Default::default() }).unwrap();
    c.item.kind = ItemKind::Both;
    let e = train(&c, &bare, &tmp.path().join("no"), None, ExistingRun::New).unwrap_err().to_string();
    assert!(e.contains("text"), "{e}");
}

#[test]
fn mistakes_are_named() {
    let tmp = tempfile::tempdir().unwrap();
    let data = pictured(tmp.path(), "source");
    let refused = |change: &dyn Fn(&mut Config), parts: &[&str]| {
        let mut c = settings(ItemKind::Image, tmp.path());
        change(&mut c);
        let e = train(&c, &data, &tmp.path().join("no"), None, ExistingRun::New).unwrap_err().to_string();
        assert!(parts.iter().all(|p| e.contains(p)), "{e}");
    };
    refused(&|c| c.item.image.model.clear(), &["item.image.model"]);
    refused(&|c| c.item.image.side = 4, &["item.image.side", "patch"]);
    refused(&|c| c.item.image.train_layers = 3, &["2 layers"]);
    refused(&|c| c.item.image_share = 2.0, &["image_share"]);
    let c = settings(ItemKind::Image, tmp.path());
    let e = Prepared::new(domain("source", 30, 20), &c).err().unwrap().to_string();
    assert!(e.contains("--images"), "{e}");
}

#[test]
fn recommend_and_encode_with_pictures() {
    let tmp = tempfile::tempdir().unwrap();
    let data = pictured(tmp.path(), "source");
    let c = settings(ItemKind::Both, tmp.path());
    let run = tmp.path().join("run");
    let mut named = c.clone();
    named.data.path = data.display().to_string();
    train(&named, &data, &run, None, ExistingRun::New).unwrap();
    let text = |p: &Path| p.display().to_string();
    let out = ok(morec().args([
        "recommend",
        &text(&run),
        "--history",
        "source-1,source-2",
        "--title",
        "red guitar",
        "--json",
    ]));
    assert!(out.contains("source-"), "{out}");
    let file = tmp.path().join("v.safetensors");
    ok(morec().args(["encode", &text(&run), "--out", &text(&file)]));
    let w = morec::nn::weights::Weights::open(&file).unwrap();
    assert_eq!(w.shape("vectors"), Some(&[60usize, 16][..]));
}

fn tiny_swin(dir: &Path) -> PathBuf {
    std::fs::create_dir_all(dir).unwrap();
    let config = serde_json::json!({"model_type": "swin", "image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [2, 2],
        "num_heads": [2, 2], "window_size": 4, "mlp_ratio": 2.0, "hidden_act": "gelu", "layer_norm_eps": 1e-5, "qkv_bias": true});
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    std::fs::write(dir.join("preprocessor_config.json"), r#"{"size": {"height": 32, "width": 32}, "resample": 2}"#)
        .unwrap();
    dir.into()
}

/// Every adapter in encoders of pictures, and of both: no change at the start (but a prompt's), every trainable value reached by
/// a gradient of what is kept as of what is computed again, the base as it was.
#[test]
fn adapters_of_pictures_and_of_both() {
    let tmp = tempfile::tempdir().unwrap();
    let (source, target) = (pictured(tmp.path(), "source"), pictured(tmp.path(), "target"));
    let plain = |kind| settings(kind, tmp.path());
    let swin = || {
        let mut c = plain(ItemKind::Image);
        c.item.image.model = tiny_swin(&tmp.path().join("swin")).display().to_string();
        c
    };
    let mut mixture = plain(ItemKind::Both);
    mixture.item.fusion = Fusion::Mixture;
    let everything = ["houlsby", "pfeiffer", "parallel", "compacter", "lora", "ia3", "prompt", "kadapter", "side"];
    for (name, c, presets) in [
        ("image", plain(ItemKind::Image), &everything[..]),
        ("both", plain(ItemKind::Both), &everything[..]),
        ("mixture", mixture, &["prompt", "kadapter", "side"][..]),
        ("swin", swin(), &everything[..6]),
    ] {
        let mut c = c;
        c.train.epochs = 1;
        (c.adapter.width, c.adapter.user_width, c.adapter.every) = (8, 4, 1);
        let at = |n: &str| tmp.path().join(format!("{name}-{n}"));
        train(&c, &source, &at("run"), None, ExistingRun::New).unwrap();
        let folder = ModelFolder::open(&at("run")).unwrap();
        c.transfer.source = at("run").display().to_string();
        let p = Prepared::new(Dataset::open(&target).unwrap(), &c).unwrap();
        let device = candle_core::Device::Cpu;
        let vectors =
            |m: &morec::model::Recommender, f: &morec::item::Features| encode::catalogue(m, f, &no_progress).unwrap();
        let base = folder.build(&device).unwrap();
        let before = vectors(&base, &base.features_of(&p.content()).unwrap());
        for preset in presets {
            for layers in [0, 1] {
                c.transfer.preset = preset.to_string();
                c.adapter.method = AdapterMethod::named(preset).unwrap();
                c.adapter.layers = layers;
                let what = format!("{name} {preset} {layers}");
                let plan = experiment::plan_of(&c, Some(&folder), p.counts()).unwrap_or_else(|e| panic!("{what}: {e}"));
                let blueprint = morec::model::Blueprint { config: c.clone(), ..folder.blueprint() };
                let model = blueprint.build(&device, &plan.actions(), Some(&folder.weights)).unwrap();
                let live = model.features_of(&p.content()).unwrap();
                let start = vectors(&model, &live);
                assert!(*preset == "prompt" || start.iter().zip(&before).all(|(a, b)| (a - b).abs() < 1e-5), "{what}");
                // Noise on what is added: now it counts, and says the same of kept rows.
                for q in model.params.trainable() {
                    let noise = crate::grad::matrix(q.name(), 1, q.numel()).reshape(q.shape()).unwrap();
                    q.set(&(q.value() + (noise * 0.2).unwrap()).unwrap()).unwrap();
                }
                let (mut kept, moved) = (live.clone(), vectors(&model, &live));
                assert!(moved.iter().zip(&before).any(|(a, b)| (a - b).abs() > 1e-3), "{what}: adds nothing");
                morec::eval::build_frozen_caches(&model, &mut kept, Some(&target), &no_progress).unwrap();
                let again = vectors(&model, &kept);
                assert!(moved.iter().zip(&again).all(|(a, b)| (a - b).abs() < 1e-4), "{what}: kept rows say otherwise");
                let r = train(&c, &target, &at(&format!("{preset}{layers}")), Some(&folder), ExistingRun::New)
                    .unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!(r.parameters, plan.counts());
            }
        }
    }
    // Where widths differ from stage to stage there are no side towers; co-attention has no pooled states.
    for (change, word) in [(true, "wide"), (false, "co-attention")] {
        let mut c = if change { swin() } else { plain(ItemKind::Both) };
        c.item.fusion = if change { Fusion::Sum } else { Fusion::CoAttention };
        c.adapter.method = AdapterMethod::Side;
        let p = Prepared::new(Dataset::open(&target).unwrap(), &c).unwrap();
        let e = experiment::plan_of(&c, None, p.counts()).unwrap_err().to_string();
        assert!(e.contains(word), "{e}");
    }
}
