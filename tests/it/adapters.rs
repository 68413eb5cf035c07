//! Adapters: nothing changes at the start, the base stays as it is bit for bit, the known count of Houlsby et al.'s.

use crate::support::{prepared, small_config, tiny_bert};
use candle_core::Device;
use morec::config::{AdapterMethod, Config, ItemKind, Modality};
use morec::eval::encode::{self, no_progress};
use morec::experiment::{self, ExistingRun, RunResult};
use morec::item::text::TextFolder;
use morec::item::{EncoderFolder, FrozenDepth};
use morec::model::{Blueprint, ModelFolder, TableSizes};
use std::path::Path;

fn train(c: &Config, domain: &str, dir: &Path, source: Option<&ModelFolder>) -> RunResult {
    let p = prepared(domain, c);
    experiment::execute(c, &p, source, dir, ExistingRun::New, vec![], &no_progress).unwrap_or_else(|e| panic!("{e}"))
}

/// A model trained on the source platform, from which `c` is to move.
fn source_of(c: &mut Config, dir: &Path) -> ModelFolder {
    train(c, "source", dir, None);
    c.transfer.source = dir.display().to_string();
    ModelFolder::open(dir).unwrap()
}

fn with(c: &Config, preset: &str) -> Config {
    let mut c = c.clone();
    c.transfer.preset = preset.into();
    c.adapter.method = AdapterMethod::named(preset).unwrap_or(AdapterMethod::None);
    (c.adapter.width, c.adapter.user_width, c.adapter.every) = (8, 4, 1);
    c
}

const PRESETS: [&str; 11] =
    ["houlsby", "pfeiffer", "parallel", "compacter", "lora", "ia3", "prompt", "kadapter", "side", "bitfit", "norms"];

#[test]
fn houlsby_in_bert_base_and_sasrec_trains_the_known_number() {
    let tmp = tempfile::tempdir().unwrap();
    let bert = tiny_bert(&tmp.path().join("bert"), 0.1);
    let base = serde_json::json!({"model_type": "bert", "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12,
        "num_attention_heads": 12, "intermediate_size": 3072, "max_position_embeddings": 512});
    std::fs::write(bert.join("config.json"), base.to_string()).unwrap();
    let mut c = with(&small_config(ItemKind::Text, &bert), "houlsby");
    (c.user.dim, c.user.max_len, c.item.max_tokens) = (64, 20, 30);
    (c.adapter.width, c.adapter.user_width) = (64, 16);
    let folder = Some(TextFolder::open(&bert, false).unwrap());
    let blueprint = Blueprint {
        config: c,
        counts: TableSizes::default(),
        encoders: folder.map(EncoderFolder::from).into_iter().collect(),
        ..Default::default()
    };
    let specs = blueprint.declare().unwrap();
    let numel = |s: &&morec::nn::Spec| s.shape.iter().product::<usize>();
    let added: usize = specs.iter().filter(|s| s.name.contains(".adapter_")).map(|s| numel(&s)).sum();
    let all: usize = specs.iter().map(|s| numel(&s)).sum();
    assert_eq!(added, 2_387_776);
    // 2.18 % of the reference's 109.63 million, which count a little differently what is frozen.
    let share = 100.0 * added as f64 / all as f64;
    assert!((2.1..2.25).contains(&share), "{share}");
}

#[test]
fn nothing_changes_at_the_start_and_the_base_never() {
    let tmp = tempfile::tempdir().unwrap();
    let bert = tiny_bert(&tmp.path().join("bert"), 0.1);
    for norm in [morec::config::NormPosition::Post, morec::config::NormPosition::Pre] {
        let mut c = small_config(ItemKind::Text, &bert);
        c.user.norm = norm;
        (c.train.lr, c.train.encoder_lr) = (1e-2, 1e-2);
        let at = |n: &str| tmp.path().join(format!("{norm:?}-{n}"));
        train(&c, "source", &at("source"), None);
        let source = ModelFolder::open(&at("source")).unwrap();
        c.transfer.source = at("source").display().to_string();
        let p = prepared("target", &c);
        let vectors = |m: &morec::model::Recommender| {
            let items = encode::catalogue(m, &m.features(&p.texts).unwrap(), &no_progress).unwrap();
            let history: &[u32] = &[3, 1, 4];
            let state = encode::states(m, &items, &[history], None).unwrap();
            [items, state].concat()
        };
        let before = vectors(&source.build(&Device::Cpu).unwrap());
        for preset in PRESETS {
            let c = with(&c, preset);
            let plan = experiment::plan_of(&c, Some(&source), p.counts()).unwrap();
            let (trained, all) = plan.counts();
            assert!(trained > 0 && trained * 2 < all, "{preset}: {trained} of {all}");
            let blueprint = Blueprint {
                config: c.clone(),
                counts: p.counts(),
                encoders: source.encoders.clone(),
                ..Default::default()
            };
            let start = blueprint.build(&Device::Cpu, &plan.actions(), Some(&source.weights)).unwrap();
            for (a, b) in vectors(&start).iter().zip(&before) {
                // Learned rows before a text are looked at from the start.
                assert!(preset == "prompt" || (a - b).abs() < 1e-6, "{preset}: {a} {b} before any training");
            }
            // What is frozen does not move in memory either.
            let features = start.features(&p.texts).unwrap();
            let scratch = at(&format!("{preset}-scratch"));
            std::fs::create_dir(&scratch).unwrap();
            let job = morec::train::TrainJob {
                config: &c,
                split: &p.split,
                features: &features,
                ids: p.ids(),
                model: &start,
                dir: &scratch,
                resume: false,
            };
            morec::train::run(&job, &mut []).unwrap();
            for q in start.params.iter().filter(|q| !q.differs_from_source()) {
                let now = morec::nn::host::to_vec(&q.value()).unwrap();
                assert!(now == source.weights.read(q.name()).unwrap(), "{preset}: `{}` has moved", q.name());
            }
            let dir = at(preset);
            let result = train(&c, "target", &dir, Some(&source));
            assert_eq!(result.parameters, (trained, all), "{preset}");
            let after = ModelFolder::open(&dir.join("last/model")).unwrap();
            let mut moved = 0;
            for row in &plan.rows {
                let now = after.weights.read(&row.name).unwrap();
                let Some(_) = source.weights.shape(&row.name) else {
                    moved += usize::from(row.train);
                    continue;
                };
                let same = now == source.weights.read(&row.name).unwrap();
                assert!(row.train || same, "{preset}: `{}` is frozen and has moved", row.name);
                moved += usize::from(!same);
            }
            assert!(moved > 0, "{preset}: nothing was learned");
            // What was saved is what was tested.
            let model = ModelFolder::open(&dir).unwrap().build(&Device::Cpu).unwrap();
            let task =
                morec::eval::EvalTask { split: &p.split, cases: &p.split.test, config: &c.eval, candidates: &[] };
            let features = model.features(&p.texts).unwrap();
            let (again, _) =
                morec::eval::evaluate(&model, &features, &task, "test of split morec", &no_progress).unwrap();
            assert_eq!(again, result.test, "{preset}");
            if c.adapter.method != AdapterMethod::None {
                // From here only with what its adapters have learned.
                let learned = ModelFolder::open(&dir).unwrap();
                let full = Config { adapter: c.adapter.clone(), ..with(&c, "full") };
                assert!(experiment::plan_of(&full, Some(&learned), p.counts()).is_ok(), "{preset}");
                for other in ["houlsby", "full"] {
                    let e = experiment::plan_of(&with(&c, other), Some(&learned), p.counts()).unwrap_err();
                    assert!(e.to_string().contains("adapter"), "{preset} {other}: {e}");
                }
            }
        }
    }
}

#[test]
fn what_lies_below_adapters_is_computed_once() {
    let tmp = tempfile::tempdir().unwrap();
    let bert = tiny_bert(&tmp.path().join("bert"), 0.1);
    let mut c = small_config(ItemKind::Text, &bert);
    let source = source_of(&mut c, &tmp.path().join("source"));
    c.adapter.layers = 1;
    let c = with(&c, "houlsby");
    let p = prepared("target", &c);
    let plan = experiment::plan_of(&c, Some(&source), p.counts()).unwrap();
    let blueprint =
        Blueprint { config: c.clone(), counts: p.counts(), encoders: source.encoders.clone(), ..Default::default() };
    let model = blueprint.build(&Device::Cpu, &plan.actions(), Some(&source.weights)).unwrap();
    assert_eq!(model.item.frozen_depths(), [(Modality::Text, FrozenDepth::Blocks(1))]);
    assert!(plan.rows.iter().all(|r| !r.name.contains("layer.0.adapter")));
}

#[test]
fn kept_rows_are_shared_by_what_stands_above_them_and_by_nothing_else() {
    let tmp = tempfile::tempdir().unwrap();
    let bert = tiny_bert(&tmp.path().join("bert"), 0.0);
    let mut c = small_config(ItemKind::Text, &bert);
    let source = source_of(&mut c, &tmp.path().join("source"));
    let p = prepared("target", &c);
    let data = tmp.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let files = || -> Vec<std::path::PathBuf> {
        let all = std::fs::read_dir(data.join(".cache")).unwrap().map(|e| e.unwrap().path());
        all.filter(|p| p.extension().is_some_and(|e| e == "safetensors")).collect()
    };
    let kept = |c: &Config, actions: &morec::nn::Resolved, values: &morec::nn::weights::Weights| {
        let blueprint = Blueprint {
            config: c.clone(),
            counts: p.counts(),
            encoders: source.encoders.clone(),
            ..Default::default()
        };
        let model = blueprint.build(&Device::Cpu, actions, Some(values)).unwrap();
        let mut f = model.features(&p.texts).unwrap();
        morec::eval::build_frozen_caches(&model, &mut f, Some(&data), &no_progress).unwrap();
        let with = encode::catalogue(&model, &f, &no_progress).unwrap();
        let without = encode::catalogue(&model, &model.features(&p.texts).unwrap(), &no_progress).unwrap();
        for (a, b) in with.iter().zip(&without) {
            assert!((a - b).abs() < 2e-3 && (c.item.cache == morec::config::Cache::F16 || (a - b).abs() < 1e-5));
        }
        f.frozen.remove(&Modality::Text).unwrap()
    };
    let plan = |c: &Config| experiment::plan_of(c, Some(&source), p.counts()).unwrap().actions();
    // Different adapters above one frozen block: one file.
    for preset in ["houlsby", "pfeiffer", "lora"] {
        let mut c = with(&c, preset);
        c.adapter.layers = 1;
        kept(&c, &plan(&c), &source.weights);
        assert_eq!(files().len(), 1, "{preset}");
    }
    for (preset, n) in [("side", 2), ("kadapter", 3), ("frozen", 4)] {
        let c = with(&c, preset);
        kept(&c, &plan(&c), &source.weights);
        assert_eq!(files().len(), n, "{preset}");
    }
    // A frozen model with adapters in it is not the model without: what was kept for one is not the other's.
    let mut c = with(&c, "houlsby");
    c.adapter.sigma = 0.5;
    train(&c, "target", &tmp.path().join("houlsby"), Some(&source));
    let done = ModelFolder::open(&tmp.path().join("houlsby")).unwrap();
    let frozen = morec::nn::Action { origin: morec::nn::Origin::Source, train: false, lr: None };
    let all = done.weights.names().map(|n| (n.to_string(), frozen)).collect();
    kept(&c, &all, &done.weights);
    assert_eq!(files().len(), 5);
    // Rounded: half the room, and by how much. Then no room for more than one.
    c.item.cache = morec::config::Cache::F16;
    let rounding = kept(&c, &all, &done.weights).rounding().unwrap();
    assert!(rounding.largest > 0.0 && rounding.largest < 2e-3 && rounding.relative < 5e-4, "{rounding:?}");
    assert_eq!(kept(&c, &all, &done.weights).rounding(), Some(rounding));
    assert_eq!(files().len(), 6);
    c.item.cache_mb = 0;
    kept(&c, &all, &done.weights);
    assert_eq!(files().len(), 1);
}

#[test]
fn presets_are_refused_where_they_have_no_place() {
    let tmp = tempfile::tempdir().unwrap();
    let bert = tiny_bert(&tmp.path().join("bert"), 0.0);
    let mut c = small_config(ItemKind::Text, &bert);
    let source = source_of(&mut c, &tmp.path().join("source"));
    let p = prepared("target", &c);
    let refusal = |c: &Config| experiment::plan_of(c, Some(&source), p.counts()).unwrap_err().to_string();
    let mut bare = with(&c, "houlsby");
    bare.adapter.method = AdapterMethod::None;
    assert!(refusal(&bare).contains("adapter.method = \"houlsby\""), "{}", refusal(&bare));
    let mut narrow = with(&c, "peterrec");
    narrow.adapter.user_width = 0;
    assert!(refusal(&narrow).contains("nextitnet"));
    let mut odd = with(&c, "compacter");
    odd.adapter.width = 6;
    assert!(refusal(&odd).contains("adapter.products"));
    let mut ids = small_config(ItemKind::Id, &bert);
    ids.user = c.user.clone();
    train(&ids, "source", &tmp.path().join("ids"), None);
    let ids_source = ModelFolder::open(&tmp.path().join("ids")).unwrap();
    ids.transfer.source = tmp.path().join("ids").display().to_string();
    let p = prepared("target", &ids);
    let e = experiment::plan_of(&with(&ids, "houlsby"), Some(&ids_source), p.counts()).unwrap_err().to_string();
    assert!(e.contains("an ID table does not transfer"), "{e}");
}

#[test]
fn model_patches_stand_in_the_user_encoder_and_nowhere_else() {
    let tmp = tempfile::tempdir().unwrap();
    let bert = tiny_bert(&tmp.path().join("bert"), 0.0);
    let mut c = small_config(ItemKind::Text, &bert);
    c.user.kind = morec::config::UserKind::Nextitnet;
    let source = source_of(&mut c, &tmp.path().join("source"));
    let p = prepared("target", &c);
    let c = with(&c, "peterrec");
    let plan = experiment::plan_of(&c, Some(&source), p.counts()).unwrap();
    let trained: Vec<&str> = plan.rows.iter().filter(|r| r.train).map(|r| r.name.as_str()).collect();
    assert!(trained.iter().all(|n| n.contains("residual_blocks.") && n.contains(".adapter_conv")), "{trained:?}");
    // d → d/4 → d with biases, two a block.
    let (d, w) = (c.user.dim, c.adapter.user_width);
    assert_eq!(plan.counts().0, c.user.layers * 2 * (2 * d * w + d + w));
    for (patch, a_block) in [(morec::config::Patch::One, 1), (morec::config::Patch::Parallel, 2)] {
        let mut c = c.clone();
        c.adapter.patch = patch;
        let r = train(&c, "target", &tmp.path().join(format!("{patch:?}")), Some(&source));
        assert_eq!(r.parameters.0, c.user.layers * a_block * (2 * d * w + d + w));
    }
    let result = train(&c, "target", &tmp.path().join("target"), Some(&source));
    assert_eq!(result.parameters.0, plan.counts().0);
    let saved = ModelFolder::open(&tmp.path().join("target")).unwrap();
    assert_eq!(saved.own.len(), trained.len());
    // All of it on disk is smaller than the base's values by far.
    assert!(result.model_bytes.unwrap() * 3 < morec::model::folder::size(&source.dir).unwrap());
}

/// A run of an adapter that was stopped goes on to the same numbers; one on top of another keeps both bases; what is needed is not
/// removed; rules make an adapter as a preset does.
#[test]
fn adapters_resume_stack_and_hold_their_bases() {
    let tmp = tempfile::tempdir().unwrap();
    let bert = tiny_bert(&tmp.path().join("bert"), 0.1);
    let mut c = small_config(ItemKind::Text, &bert);
    let at = |n: &str| tmp.path().join(n);
    let source = source_of(&mut c, &at("source"));
    let lora = with(&c, "lora");
    let whole = train(&lora, "target", &at("whole"), Some(&source));
    // Two epochs at once, or one and one.
    let p = prepared("target", &lora);
    let mut first = lora.clone();
    first.train.epochs = 1;
    train(&first, "target", &at("parts"), Some(&source));
    let parts =
        experiment::execute(&lora, &p, Some(&source), &at("parts"), ExistingRun::Resume, vec![], &no_progress).unwrap();
    assert_eq!((parts.test, parts.steps), (whole.test.clone(), whole.steps));
    let digest = |n: &str| {
        let m = ModelFolder::open(&at(n)).unwrap();
        m.own.iter().map(|n| m.weights.read(n).unwrap()).collect::<Vec<_>>()
    };
    assert!(digest("whole") == digest("parts"));
    // The same by rules.
    let mut by_rules = lora.clone();
    by_rules.transfer.preset = "zero-shot".into();
    by_rules.transfer.rules = vec![morec::config::Rule { pattern: "*.lora_*".into(), action: "reset, train".into() }];
    let ruled = train(&by_rules, "target", &at("ruled"), Some(&source));
    assert_eq!(ruled.test, whole.test);
    assert!(ModelFolder::open(&at("ruled")).unwrap().base.is_some() && digest("ruled") == digest("whole"));
    // Merged and taken out again: the source, also where more than the updates trained.
    let mut more = lora.clone();
    more.transfer.rules =
        vec![morec::config::Rule { pattern: "user_encoder.*.bias".into(), action: "load, train".into() }];
    train(&more, "target", &at("more"), Some(&source));
    let adapter = ModelFolder::open(&at("more")).unwrap();
    morec::model::merge::merge(&adapter, &at("merged")).unwrap();
    morec::model::merge::unmerge(&ModelFolder::open(&at("merged")).unwrap(), &adapter, &at("out")).unwrap();
    let (rows, equal) = morec::model::merge::difference(&ModelFolder::open(&at("out")).unwrap(), &source).unwrap();
    assert!(equal > rows.len() && rows.iter().all(|d| d.distance.unwrap() < 1e-5 * d.norms[1].unwrap()), "{rows:?}");
    // Biases on top of the low-rank updates.
    let learned = ModelFolder::open(&at("whole")).unwrap();
    let mut second = with(&c, "bitfit");
    second.adapter = lora.adapter.clone();
    second.transfer.source = at("whole").display().to_string();
    train(&second, "target", &at("second"), Some(&learned));
    let stacked = ModelFolder::open(&at("second")).unwrap();
    assert!(stacked.own.iter().all(|n| n.ends_with(".bias")) && stacked.weights.names().any(|n| n.contains("lora_A")));
    assert_eq!(morec::model::folder::base_chain(&stacked.dir).unwrap().len(), 3);
    for held in ["whole", "source"] {
        let e = experiment::execute(&second, &p, Some(&learned), &at(held), ExistingRun::Force, vec![], &no_progress)
            .unwrap_err();
        assert!(e.to_string().contains("would remove"), "{e}");
    }
    // Nothing of an adapter is in a run from scratch, and another method does not go on top.
    let e = experiment::plan_of(&with(&c, "houlsby"), Some(&learned), p.counts()).unwrap_err().to_string();
    assert!(e.contains("an adapter of its own (lora)"), "{e}");
    let mut deep = lora;
    deep.adapter.layers = 3;
    let e = experiment::plan_of(&deep, Some(&source), p.counts()).unwrap_err().to_string();
    assert!(e.contains("adapter.layers") && e.contains("encoder has 2"), "{e}");
}
