//! Optimiser, runs, resume, transfer: on made-up domains.

use crate::golden::{close, golden};
use crate::support::{domain, prepared, small_config, tiny_bert};
use candle_core::{Device, Tensor};
use morec::config::{Config, ItemKind, Modality, Schedule};
use morec::eval::encode::no_progress;
use morec::experiment::{self, ExistingRun, RunResult};
use morec::model::{ModelFolder, TableSizes};
use morec::nn::Params;
use morec::nn::init::Init;
use morec::nn::weights::Weights;
use morec::train::optimizer::AdamW;
use morec::train::{Event, Observer};
use morec::{Error, Result};
use std::path::Path;

#[test]
fn adamw_and_clipping_are_pytorchs() {
    let g = Weights::open(&golden("adamw.safetensors")).unwrap();
    for (tag, clip) in [("param", 0.0), ("clipped", 1.0)] {
        let (params, (a, b)) = Params::fresh(0, &Device::Cpu, |s| {
            Ok((s.weight("a", &[3, 5], Init::Zeros)?, s.weight("b", &[7], Init::Zeros)?))
        })
        .unwrap();
        a.set(&g.tensor("init/a", &Device::Cpu).unwrap()).unwrap();
        b.set(&g.tensor("init/b", &Device::Cpu).unwrap()).unwrap();
        let mut opt = AdamW::default();
        for step in 1..=6 {
            params.clear_grads();
            for (p, n) in [(&a, "a"), (&b, "b")] {
                p.add_grad_tensor(&g.tensor(&format!("grad/{step}/{n}"), &Device::Cpu).unwrap()).unwrap();
            }
            let norm = AdamW::norm(&params).unwrap();
            let scale = if clip > 0.0 { (clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
            opt.step(&params, |_| 1e-2, 0.01, scale).unwrap();
            for (p, n) in [(&a, "a"), (&b, "b")] {
                let got = p.value().flatten_all().unwrap().to_vec1::<f32>().unwrap();
                close(&format!("{tag}/{step}/{n}"), &got, &g.read(&format!("{tag}/{step}/{n}")).unwrap(), 1e-6);
            }
        }
    }
}

fn weights(dir: &Path) -> Vec<(String, Vec<u32>)> {
    let w = Weights::open(&dir.join("model.safetensors")).unwrap();
    w.names().map(|n| (n.to_string(), w.read(n).unwrap().iter().map(|v| v.to_bits()).collect())).collect()
}

/// Stops training like a kill does: at once, in the middle of an epoch.
struct StopAt(u64);
impl Observer for StopAt {
    fn on(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Step { step, .. } if *step == self.0 => Err(Error::Usage("stopped by the test".into())),
            _ => Ok(()),
        }
    }
}

fn text_config(bert: &Path) -> Config {
    let mut c = small_config(ItemKind::Text, bert);
    c.train.accumulate = 2;
    c.train.clip = 1.0;
    c.train.warmup_steps = 3;
    c.train.schedule = Schedule::Cosine;
    c
}

fn train(c: &Config, dir: &Path, mode: ExistingRun, stop: Option<u64>) -> Result<RunResult> {
    let more: Vec<Box<dyn Observer>> = stop.into_iter().map(|s| Box::new(StopAt(s)) as Box<dyn Observer>).collect();
    experiment::execute(c, &prepared("source", c), None, dir, mode, more, &no_progress)
}

#[test]
fn a_stopped_run_resumes_bit_for_bit() {
    let tmp = tempfile::tempdir().unwrap();
    let c = text_config(&tiny_bert(&tmp.path().join("bert"), 0.1));
    let straight = train(&c, &tmp.path().join("straight"), ExistingRun::New, None).unwrap();
    for stop in [2, 5, 7] {
        // before the first checkpoint, inside the first epoch, in the second
        let dir = tmp.path().join(format!("stopped-{stop}"));
        train(&c, &dir, ExistingRun::New, Some(stop)).unwrap_err();
        let resumed = train(&c, &dir, ExistingRun::Resume, None).unwrap();
        assert_eq!(resumed.test, straight.test);
        for part in ["best", "last/model"] {
            assert_eq!(weights(&dir.join(part)), weights(&tmp.path().join("straight").join(part)), "stopped at {stop}");
        }
        // One line a logged step, none twice.
        let steps = |d: &str| {
            let text = std::fs::read_to_string(tmp.path().join(d).join("metrics.jsonl")).unwrap();
            text.lines().filter(|l| l.contains("validation")).count()
        };
        assert_eq!(steps(&format!("stopped-{stop}")), steps("straight"));
    }
}

/// Without clipping each parameter steps while the backward still runs; the numbers are those of a whole gradient.
#[test]
fn stepping_inside_the_backward_changes_no_bit() {
    let tmp = tempfile::tempdir().unwrap();
    let bert = tiny_bert(&tmp.path().join("bert"), 0.1);
    for (kind, parts) in [(ItemKind::Text, 0), (ItemKind::Id, 0), (ItemKind::Text, 7)] {
        let name = |n: &str| tmp.path().join(format!("{kind:?}-{parts}-{n}"));
        let mut c = small_config(kind, &bert);
        c.train.encode_items = parts;
        c.train.clip = 0.0;
        let inside = train(&c, &name("inside"), ExistingRun::New, None).unwrap();
        c.train.clip = 1e9;
        let after = train(&c, &name("after"), ExistingRun::New, None).unwrap();
        assert_eq!(weights(&name("inside").join("last/model")), weights(&name("after").join("last/model")));
        assert_eq!(inside.test, after.test);
        // Rows of a table that never had a gradient are told from the saved moments.
        c.train.clip = 0.0;
        train(&c, &name("stopped"), ExistingRun::New, Some(5)).unwrap_err();
        train(&c, &name("stopped"), ExistingRun::Resume, None).unwrap();
        assert_eq!(weights(&name("inside").join("last/model")), weights(&name("stopped").join("last/model")));
    }
}

/// A batch encoded in parts has the gradient it has as a whole; with dropout, that of its own masks.
#[test]
fn two_passes_give_the_gradient_of_one() {
    use morec::batch::Epoch;
    use morec::nn::{Pass, Tape, TrainContext};
    use morec::train::two_pass::{self, Step};
    let tmp = tempfile::tempdir().unwrap();
    for dropout in [0.0, 0.2] {
        let bert = tiny_bert(&tmp.path().join(format!("bert-{dropout}")), dropout);
        let mut c = small_config(ItemKind::Text, &bert);
        c.user.dropout = dropout;
        let p = prepared("source", &c);
        let folder = Some(morec::item::text::TextFolder::open(&bert, false).unwrap());
        let blueprint = morec::model::Blueprint {
            config: c.clone(),
            counts: p.counts(),
            encoders: folder.map(morec::item::EncoderFolder::from).into_iter().collect(),
            ..Default::default()
        };
        let all = experiment::plan_of(&c, None, p.counts()).unwrap();
        let model = blueprint.build(&Device::Cpu, &all.actions(), None).unwrap();
        let features = model.features(&p.texts).unwrap();
        let objective = morec::objective::build(&c.objective, &p.split).unwrap();
        let batch = Epoch::new(&p.split, &c, 0).batch(0);
        assert!(batch.items.len() > 21, "three parts at least");
        let step = Step { model: &model, features: &features, objective: objective.as_ref(), seed: 3, pass: 5 };
        let in_parts = || {
            model.params.clear_grads();
            two_pass::backward(&step, &batch, 7, 1.0, None).unwrap()
        };
        let grads =
            || model.params.trainable().map(|p| (p.name().to_string(), p.grad().dense().to_vec())).collect::<Vec<_>>();
        let loss = in_parts();
        let got = grads();
        if dropout == 0.0 {
            model.params.clear_grads();
            let tape = Tape::new();
            let train = TrainContext::new(&tape, 3, 5);
            let whole =
                morec::train::forward(&model, &features, objective.as_ref(), &batch, &Pass::train(&train)).unwrap();
            tape.backward(&whole, 1.0).unwrap();
            assert!((f64::from(whole.value().to_scalar::<f32>().unwrap()) - loss).abs() < 1e-5);
            for ((name, a), (_, b)) in got.iter().zip(grads()) {
                close(name, a, &b, 1e-5);
            }
            continue;
        }
        assert_eq!(in_parts(), loss);
        for name in ["projection.weight", "layer.0.attention.self.value.weight", "w_1.weight"] {
            let p = model.params.trainable().find(|p| p.name().ends_with(name)).unwrap();
            let g = &got.iter().find(|(n, _)| n == p.name()).unwrap().1;
            let norm = g.iter().map(|v| v * v).sum::<f32>().sqrt();
            let value = p.value().copy().unwrap();
            let along =
                Tensor::from_vec(g.iter().map(|v| v / norm).collect::<Vec<_>>(), p.shape(), &Device::Cpu).unwrap();
            let at = |e: f64| {
                p.set(&(&value + (&along * e).unwrap()).unwrap()).unwrap();
                in_parts()
            };
            let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
            p.set(&value).unwrap();
            assert!((slope / f64::from(norm) - 1.0).abs() < 1e-2, "{name}: {slope} {norm}");
        }
    }
}

#[test]
fn a_run_that_exists_is_not_overwritten_and_other_settings_do_not_resume() {
    let tmp = tempfile::tempdir().unwrap();
    let mut c = small_config(ItemKind::Id, Path::new(""));
    let dir = tmp.path().join("run");
    train(&c, &dir, ExistingRun::New, None).unwrap();
    let before = weights(&dir.join("best"));
    assert!(train(&c, &dir, ExistingRun::New, None).unwrap_err().to_string().contains("--resume"));
    // Resuming a finished run changes nothing.
    train(&c, &dir, ExistingRun::Resume, None).unwrap();
    assert_eq!(weights(&dir.join("best")), before);
    c.train.lr = 0.5;
    assert!(train(&c, &dir, ExistingRun::Resume, None).unwrap_err().to_string().contains("train.lr"));
    // More epochs are no other settings: the run goes on and ends where a longer one would have.
    (c.train.lr, c.train.epochs) = (Config::default().train.lr, 4);
    assert_eq!(train(&c, &dir, ExistingRun::Resume, None).unwrap().epochs, 4);
    let long = tmp.path().join("long");
    train(&c, &long, ExistingRun::New, None).unwrap();
    assert_eq!(weights(&dir.join("last/model")), weights(&long.join("last/model")));
    let elsewhere = tmp.path().join("photos");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("cat.jpg"), "x").unwrap();
    assert!(train(&c, &elsewhere, ExistingRun::Force, None).unwrap_err().to_string().contains("not a run"));
    assert!(elsewhere.join("cat.jpg").exists());
}

#[test]
fn the_same_seed_gives_the_same_model_whatever_the_threads() {
    let tmp = tempfile::tempdir().unwrap();
    let c = text_config(&tiny_bert(&tmp.path().join("bert"), 0.1));
    let on = |threads: usize, name: &str| {
        let dir = tmp.path().join(name);
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
            .install(|| train(&c, &dir, ExistingRun::New, None).unwrap());
        weights(&dir.join("best"))
    };
    let one = on(1, "one");
    assert_eq!(one, on(2, "two"));
    assert_eq!(one, on(3, "three"));
    let mut other = c.clone();
    other.seed += 1;
    train(&other, &tmp.path().join("other"), ExistingRun::New, None).unwrap();
    assert_ne!(one, weights(&tmp.path().join("other/best")));
}

#[test]
fn a_damaged_checkpoint_is_noticed() {
    let tmp = tempfile::tempdir().unwrap();
    let c = small_config(ItemKind::Id, Path::new(""));
    let dir = tmp.path().join("run");
    train(&c, &dir, ExistingRun::New, Some(7)).unwrap_err();
    for name in ["optimizer.safetensors", "model/model.safetensors", "cursor.json"] {
        let file = dir.join("last").join(name);
        let sound = std::fs::read(&file).unwrap();
        let mut bytes = sound.clone();
        let at = bytes.len() - 5;
        bytes[at] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        assert!(train(&c, &dir, ExistingRun::Resume, None).unwrap_err().to_string().contains("damaged"), "{name}");
        std::fs::write(&file, sound).unwrap();
    }
    train(&c, &dir, ExistingRun::Resume, None).unwrap();
}

fn transfer(preset: &str, source: &ModelFolder, c: &Config, dir: &Path) -> Result<RunResult> {
    let mut c = c.clone();
    c.transfer.preset = preset.into();
    experiment::execute(
        &c,
        &prepared("target", &c),
        Some(source),
        &dir.join(preset),
        ExistingRun::New,
        vec![],
        &no_progress,
    )
}

#[test]
fn transfer_presets_move_what_they_say_and_nothing_else() {
    let tmp = tempfile::tempdir().unwrap();
    let c = small_config(ItemKind::Text, &tiny_bert(&tmp.path().join("bert"), 0.1));
    train(&c, &tmp.path().join("source"), ExistingRun::New, None).unwrap();
    let source = ModelFolder::open(&tmp.path().join("source")).unwrap();
    let before = weights(&source.dir);
    let moved = |preset: &str| -> Vec<String> {
        transfer(preset, &source, &c, tmp.path()).unwrap();
        let after = weights(&tmp.path().join(preset).join("last/model"));
        before.iter().zip(&after).filter(|(a, b)| a != b).map(|((n, _), _)| n.clone()).collect()
    };
    let under = |names: &[String], allowed: &[&str]| {
        assert!(!names.is_empty());
        assert!(names.iter().all(|n| allowed.iter().any(|a| n.starts_with(a))), "{names:?}");
    };
    assert_eq!(moved("full").len(), before.len());
    under(&moved("frozen"), &["item_encoder.text.projection", "user_encoder"]);
    under(&moved("head"), &["item_encoder.text.projection"]);
    under(&moved("user-only"), &["user_encoder"]);
    under(&moved("item-only"), &["item_encoder"]);
    under(
        &moved("top-layers=1"),
        &["item_encoder.text.projection", "user_encoder", "item_encoder.text.model.encoder.layer.1."],
    );
    let zero = transfer("zero-shot", &source, &c, tmp.path()).unwrap();
    assert_eq!(weights(&tmp.path().join("zero-shot/best")), before);
    assert_eq!((zero.steps, zero.parameters.0), (0, 0));
}

/// What frozen layers computed once is what they would compute again: in memory, in a file, in half precision; all of
/// the encoder or its lower blocks. A stale or damaged file is made again.
#[test]
fn the_kept_prefix_changes_nothing() {
    use morec::config::Cache;
    use morec::item::{FrozenDepth, ItemTable};
    use morec::nn::Pass;
    let tmp = tempfile::tempdir().unwrap();
    let mut c = small_config(ItemKind::Text, &tiny_bert(&tmp.path().join("bert"), 0.1));
    train(&c, &tmp.path().join("source"), ExistingRun::New, None).unwrap();
    let source = ModelFolder::open(&tmp.path().join("source")).unwrap();
    let data = domain("target", 20, 30);
    let ids = std::sync::Arc::new((0..30).rev().collect::<Vec<u32>>());
    let rows = |e: &std::fs::DirEntry| e.path().extension().is_some_and(|e| e == "safetensors");
    let files = || std::fs::read_dir(tmp.path().join(".cache")).map_or(0, |d| d.flatten().filter(rows).count());
    for (preset, depth) in [("head", FrozenDepth::Pooled), ("top-layers=1", FrozenDepth::Blocks(1))] {
        c.transfer.preset = preset.into();
        for cache in [Cache::F32, Cache::F16] {
            c.item.cache = cache;
            let plan = experiment::plan_of(&c, Some(&source), TableSizes { items: 30, users: 0 }).unwrap();
            let blueprint = morec::model::Blueprint {
                config: c.clone(),
                counts: TableSizes { items: 30, users: 0 },
                encoders: source.encoders.clone(),
                ..Default::default()
            };
            let model = blueprint.build(&Device::Cpu, &plan.actions(), Some(&source.weights)).unwrap();
            assert_eq!(model.item.frozen_depths(), [(Modality::Text, depth)]);
            let plain = model.features(&data.items.text).unwrap();
            let run = |f: &morec::item::Features| {
                let y = model.item.encode(&ItemTable { ids: &ids, features: f }, &Pass::eval()).unwrap();
                y.value().flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            let want = run(&plain);
            let tol = if cache == Cache::F16 { 2e-3 } else { 1e-6 };
            let before = files();
            for round in 0..3 {
                let mut kept = plain.clone();
                assert!(morec::eval::build_frozen_caches(&model, &mut kept, Some(tmp.path()), &no_progress).unwrap());
                close(&format!("{preset} {cache:?} {round}"), &run(&kept), &want, tol);
                assert_eq!(files(), before + 1, "found again");
                // The next round meets a file cut short.
                for f in std::fs::read_dir(tmp.path().join(".cache")).unwrap().filter(|_| round == 1) {
                    let f = std::fs::OpenOptions::new().write(true).open(f.unwrap().path()).unwrap();
                    f.set_len(f.metadata().unwrap().len() - 4).unwrap();
                }
            }
            // Other texts have another file.
            let mut other = model.features(&data.items.text[1..]).unwrap();
            morec::eval::build_frozen_caches(&model, &mut other, Some(tmp.path()), &no_progress).unwrap();
            assert_eq!(files(), before + 2);
            // A folder that cannot be written: one row an item stays in memory.
            let mut kept = plain.clone();
            let nowhere = tmp.path().join("bert/config.json");
            let some = morec::eval::build_frozen_caches(&model, &mut kept, Some(&nowhere), &no_progress).unwrap();
            assert_eq!(some, depth == FrozenDepth::Pooled);
        }
    }
    let model = source.build(&Device::Cpu).unwrap();
    let off = model.features(&data.items.text).unwrap();
    let mut whole = off.clone();
    assert!(
        morec::eval::build_frozen_caches(&model, &mut whole, None, &no_progress).unwrap()
            && whole.frozen.contains_key(&Modality::Text)
    );
    let run = |f: &morec::item::Features| {
        let y = model.item.encode(&ItemTable { ids: &ids, features: f }, &Pass::eval()).unwrap();
        y.value().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    close("in memory", &run(&whole), &run(&off), 1e-6);
}

#[test]
fn an_id_model_transfers_its_user_encoder_only() {
    let tmp = tempfile::tempdir().unwrap();
    let c = small_config(ItemKind::Id, Path::new(""));
    train(&c, &tmp.path().join("source"), ExistingRun::New, None).unwrap();
    let source = ModelFolder::open(&tmp.path().join("source")).unwrap();
    assert!(transfer("zero-shot", &source, &c, tmp.path()).unwrap_err().to_string().contains("does not transfer"));
    transfer("full", &source, &c, tmp.path()).unwrap();
}

#[test]
fn training_learns_and_a_wrong_learning_rate_is_reported() {
    let tmp = tempfile::tempdir().unwrap();
    let mut c = small_config(ItemKind::Text, &tiny_bert(&tmp.path().join("bert"), 0.0));
    c.train.epochs = 15;
    c.train.encoder_lr = 1e-3;
    let result = train(&c, &tmp.path().join("good"), ExistingRun::New, None).unwrap();
    // 60 items: chance is 10/60; half of a user's next items share a word with the last one.
    assert!(result.test.get("hr@10") > 0.25, "{}", result.test.get("hr@10"));
    c.train.lr = 1e30;
    c.train.encoder_lr = 1e30;
    let e = train(&c, &tmp.path().join("bad"), ExistingRun::New, None).unwrap_err();
    assert_eq!(e.exit_code(), 5, "{e}");
    assert!(e.to_string().contains("train.lr") || e.to_string().contains("vector"), "{e}");
}

#[test]
fn a_parameter_without_gradient_stops_the_run_by_name() {
    let (params, w) = Params::fresh(0, &Device::Cpu, |s| s.weight("lonely", &[2], Init::Ones)).unwrap();
    assert_eq!(params.without_grad(), ["lonely"]);
    w.add_grad_tensor(&Tensor::new(&[f32::NAN, 1.0], &Device::Cpu).unwrap()).unwrap();
    assert!(AdamW::norm(&params).unwrap_err().to_string().contains("lonely"));
}

#[test]
fn unfinished_writes_are_cleared_or_put_back() {
    use morec::fsio;
    let tmp = tempfile::tempdir().unwrap();
    let at = |n: &str| tmp.path().join(n);
    std::fs::write(at(".manifest.json.tmp-7"), "{").unwrap();
    assert!(!fsio::holds_something(tmp.path()).unwrap());
    std::fs::create_dir(at(".last.tmp-7")).unwrap();
    std::fs::create_dir(at(".best.old-7")).unwrap();
    std::fs::write(at(".best.old-7/x"), "kept").unwrap();
    std::fs::write(at(".hidden"), "the user's").unwrap();
    fsio::clear_unfinished(tmp.path()).unwrap();
    let mut left: Vec<_> = std::fs::read_dir(tmp.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [".hidden", "best"]);
    assert!(at("best/x").exists());
}

/// With learning rates of 0, what is loaded stays: each preset takes the source's values, from-scratch does not.
#[test]
fn transfer_loads_the_sources_values() {
    let tmp = tempfile::tempdir().unwrap();
    let mut c = small_config(ItemKind::Text, &tiny_bert(&tmp.path().join("bert"), 0.1));
    train(&c, &tmp.path().join("source"), ExistingRun::New, None).unwrap();
    let source = ModelFolder::open(&tmp.path().join("source")).unwrap();
    (c.train.lr, c.train.encoder_lr, c.train.weight_decay, c.train.epochs) = (0.0, 0.0, 0.0, 1);
    for preset in ["full", "frozen", "head", "user-only", "item-only", "top-layers=1"] {
        transfer(preset, &source, &c, tmp.path()).unwrap();
        assert_eq!(weights(&tmp.path().join(preset).join("last/model")), weights(&source.dir), "{preset}");
    }
    c.seed += 1;
    transfer("from-scratch", &source, &c, tmp.path()).unwrap();
    let fresh = weights(&tmp.path().join("from-scratch/last/model"));
    let same = fresh
        .iter()
        .zip(weights(&source.dir))
        .filter(|(a, b)| a.1 == b.1 && a.1.iter().any(|v| *v != 0 && *v != 1f32.to_bits()));
    assert_eq!(same.count(), 0);
    // The function has to be the source's, too.
    c.user.heads = 1;
    let e = transfer("zero-shot", &source, &c, tmp.path()).unwrap_err().to_string();
    assert!(e.contains("user.heads") && e.contains("source"), "{e}");
}

/// A metric that never changes: patience runs out, on schedule, stopped and resumed or not.
#[test]
fn early_stop_counts_validations_and_survives_resume() {
    let tmp = tempfile::tempdir().unwrap();
    let mut c = small_config(ItemKind::Id, Path::new(""));
    (c.train.lr, c.train.weight_decay, c.train.epochs, c.train.patience, c.train.eval_every) = (0.0, 0.0, 50, 3, 2);
    c.train.metric = "hr@20".into();
    let straight = train(&c, &tmp.path().join("straight"), ExistingRun::New, None).unwrap();
    // best at epoch 2, then three validations without a better one
    assert_eq!((straight.epochs, straight.ended.contains("no better hr@20 in 3")), (8, true), "{}", straight.ended);
    let dir = tmp.path().join("stopped");
    train(&c, &dir, ExistingRun::New, Some(straight.steps * 5 / 8)).unwrap_err();
    let resumed = train(&c, &dir, ExistingRun::Resume, None).unwrap();
    assert_eq!((resumed.steps, resumed.best_valid.clone()), (straight.steps, straight.best_valid));
    // Asked again, a finished run keeps what it cost.
    let again = train(&c, &dir, ExistingRun::Resume, None).unwrap();
    assert_eq!((again.seconds, again.epoch_seconds), (resumed.seconds, resumed.epoch_seconds));
}

#[test]
fn force_removes_runs_only_and_never_its_own_source() {
    let tmp = tempfile::tempdir().unwrap();
    let project = tmp.path().join("project");
    std::fs::create_dir(&project).unwrap();
    std::fs::write(project.join("config.toml"), "x = 1").unwrap();
    std::fs::write(project.join("thesis.txt"), "years").unwrap();
    let c = small_config(ItemKind::Text, &tiny_bert(&tmp.path().join("bert"), 0.1));
    assert!(train(&c, &project, ExistingRun::Force, None).unwrap_err().to_string().contains("not a run"));
    assert!(project.join("thesis.txt").exists() && project.join("config.toml").exists());
    let run = tmp.path().join("run");
    train(&c, &run, ExistingRun::New, None).unwrap();
    std::fs::write(run.join("notes.txt"), "mine").unwrap();
    let before = weights(&run.join("best"));
    let source = ModelFolder::open(&run).unwrap();
    let mut t = c.clone();
    (t.transfer.source, t.transfer.preset) = (run.display().to_string(), "full".into());
    let onto =
        experiment::execute(&t, &prepared("target", &t), Some(&source), &run, ExistingRun::Force, vec![], &no_progress);
    assert!(onto.unwrap_err().to_string().contains("needs"));
    assert_eq!(weights(&run.join("best")), before);
    train(&c, &run, ExistingRun::Force, None).unwrap();
    assert!(run.join("notes.txt").exists());
}

#[test]
fn a_run_without_a_validation_still_has_a_model() {
    let tmp = tempfile::tempdir().unwrap();
    let mut c = small_config(ItemKind::Id, Path::new(""));
    (c.train.epochs, c.train.eval_every) = (3, 2);
    let dir = tmp.path().join("run");
    assert!(train(&c, &dir, ExistingRun::New, None).unwrap().best_valid.is_some());
    assert!(ModelFolder::open(&dir).is_ok());
}
