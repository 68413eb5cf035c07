//! Every user encoder and objective from settings to result: with ID and text items, and moved to another platform.

use crate::cli::{fails, morec, ok, saved};
use crate::support::{USER_KINDS, domain, prepared, small_config, tiny_bert};
use morec::batch::{Batch, Epoch};
use morec::config::{Config, ItemKind, ObjectiveKind, Positions, Sampler, Similarity, SplitKind, UserKind, Windows};
use morec::eval::encode;
use morec::experiment::{self, ExistingRun, RunResult};
use morec::model::ModelFolder;
use morec::nn::ops::MASKED;
use std::path::Path;

fn train(c: &Config, domain: &str, dir: &Path, source: Option<&ModelFolder>) -> morec::Result<RunResult> {
    experiment::execute(c, &prepared(domain, c), source, dir, ExistingRun::New, vec![], &encode::no_progress)
}

fn losses(dir: &Path) -> Vec<f64> {
    let text = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    let rows = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    rows.filter(|r| r["event"] == "validation").map(|r| r["train_loss"].as_f64().unwrap()).collect()
}

#[test]
fn every_user_encoder_trains_on_ids_and_texts_and_moves() {
    let tmp = tempfile::tempdir().unwrap();
    let bert = tiny_bert(&tmp.path().join("bert"), 0.1);
    for kind in USER_KINDS {
        let at = |name: &str| tmp.path().join(format!("{kind:?}-{name}"));
        for item in [ItemKind::Id, ItemKind::Text] {
            let mut c = small_config(item, &bert);
            c.user.kind = kind;
            c.train.lr = 1e-2;
            c.train.epochs = 4;
            let dir = at(&format!("{item:?}"));
            let result = train(&c, "source", &dir, None).unwrap_or_else(|e| panic!("{kind:?} {item:?}: {e}"));
            let all = losses(&dir);
            assert!(all[3] < all[0], "{kind:?} {item:?}: losses {all:?}");
            // The saved model, asked again, says the same.
            let folder = ModelFolder::open(&dir).unwrap();
            let model = folder.build(&candle_core::Device::Cpu).unwrap();
            let p = prepared("source", &c);
            let features = model.features(&p.texts).unwrap();
            let task =
                morec::eval::EvalTask { split: &p.split, cases: &p.split.test, config: &c.eval, candidates: &[] };
            let (again, _) =
                morec::eval::evaluate(&model, &features, &task, "test of split morec", &encode::no_progress).unwrap();
            assert_eq!(again, result.test, "{kind:?} {item:?}");
            let lists = again.lists.unwrap();
            assert!(lists.coverage > 0.0 && lists.coverage <= 1.0 && lists.diversity.is_some());
        }
        let source = ModelFolder::open(&at("Text")).unwrap();
        let mut c = small_config(ItemKind::Text, &bert);
        c.user.kind = kind;
        c.train.epochs = 1;
        c.transfer.source = at("Text").display().to_string();
        for preset in ["full", "zero-shot"] {
            c.transfer.preset = preset.into();
            let r =
                train(&c, "target", &at(preset), Some(&source)).unwrap_or_else(|e| panic!("{kind:?} {preset}: {e}"));
            assert_eq!(r.steps == 0, preset == "zero-shot");
        }
        let mut other = c.clone();
        other.user.kind = if kind == UserKind::Gru4rec { UserKind::Sasrec } else { UserKind::Gru4rec };
        c.transfer.preset = "zero-shot".into();
        assert!(train(&other, "target", &at("other"), Some(&source)).is_err(), "{kind:?}: another user encoder");
    }
}

#[test]
fn every_objective_learns() {
    let tmp = tempfile::tempdir().unwrap();
    let base = small_config(ItemKind::Id, Path::new(""));
    let with = |change: &dyn Fn(&mut Config)| {
        let mut c = base.clone();
        c.train.lr = 3e-3;
        c.train.epochs = 3;
        c.objective.negatives = 4;
        change(&mut c);
        c
    };
    let mut cases: Vec<(String, Config)> = vec![];
    for kind in
        [ObjectiveKind::Full, ObjectiveKind::Sampled, ObjectiveKind::Bce, ObjectiveKind::Gbce, ObjectiveKind::Bpr]
    {
        for sampler in [Sampler::Uniform, Sampler::Popularity, Sampler::InBatch] {
            cases.push((
                format!("{kind:?} {sampler:?}"),
                with(&|c| (c.objective.kind, c.objective.sampler) = (kind, sampler)),
            ));
        }
    }
    cases.push(("cosine".into(), with(&|c| c.objective.similarity = Similarity::Cosine)));
    cases.push(("last".into(), with(&|c| c.objective.positions = Positions::Last)));
    cases.push((
        "sliding".into(),
        with(&|c| {
            (c.objective.positions, c.train.windows, c.data.split) =
                (Positions::Last, Windows::All, SplitKind::LeaveOneOut)
        }),
    ));
    cases.push((
        "masked full".into(),
        with(&|c| (c.user.kind, c.objective.kind) = (UserKind::Bert4rec, ObjectiveKind::Full)),
    ));
    cases.push((
        "masked bce".into(),
        with(&|c| (c.user.kind, c.objective.kind) = (UserKind::Bert4rec, ObjectiveKind::Bce)),
    ));
    cases.push((
        "bert4rec last".into(),
        with(&|c| (c.user.kind, c.objective.positions) = (UserKind::Bert4rec, Positions::Last)),
    ));
    for (name, c) in cases {
        let dir = tmp.path().join(&name);
        train(&c, "source", &dir, None).unwrap_or_else(|e| panic!("{name}: {e}"));
        let all = losses(&dir);
        assert!(all[2] < all[0], "{name}: {all:?}");
        // The same seed, the same run.
        let twin = tmp.path().join(format!("{name} again"));
        train(&c, "source", &twin, None).unwrap();
        assert_eq!(losses(&twin), all, "{name}");
    }
}

/// What is hidden is no item: neither seen where it is guessed, nor a candidate, nor a negative.
#[test]
fn hidden_items_are_hidden() {
    let mut c = small_config(ItemKind::Id, Path::new(""));
    c.user.kind = UserKind::Bert4rec;
    c.objective.kind = ObjectiveKind::Bce;
    c.objective.negatives = 3;
    let p = prepared("source", &c);
    let mut shares = (0, 0);
    for number in 0..3 {
        let epoch = Epoch::new(&p.split, &c, number);
        for i in 0..epoch.len() {
            let b: Batch = epoch.batch(i);
            let rows = b.rows.as_ref().unwrap();
            let windows: Vec<Vec<u32>> = epoch.windows(i).map(|(_, w)| w.to_vec()).collect();
            let flat: Vec<u32> = windows.concat();
            assert_eq!(b.inputs.len(), flat.len());
            for (at, &input) in b.inputs.iter().enumerate() {
                match rows.iter().position(|&r| r as usize == at) {
                    Some(p) => assert!(input == MASKED && b.items[b.targets[p] as usize] == flat[at]),
                    None => assert_eq!(b.items[input as usize], flat[at]),
                }
            }
            shares = (shares.0 + rows.len(), shares.1 + flat.len());
            assert!(b.items.iter().all(|&i| (i as usize) < p.split.items.len()), "no item beyond the catalogue");
            assert_eq!(b.negatives.len(), 3 * rows.len());
            for (n, &negative) in b.negatives.iter().enumerate() {
                let user = epoch.windows(i).nth(b.owner[n / 3] as usize).unwrap().0;
                assert!(!p.split.train_row(user as usize).contains(&b.items[negative as usize]));
            }
        }
    }
    let share = shares.0 as f64 / shares.1 as f64;
    assert!((share - 0.2).abs() < 0.08, "hidden share {share}");
}

#[test]
fn impossible_settings_are_refused_by_name_before_any_work() {
    let tmp = tempfile::tempdir().unwrap();
    let data = saved("source", tmp.path());
    for (settings, field) in [
        (&["user.heads=3"][..], "user.heads"),
        (&["user.kind=nextitnet", "user.kernel=11"], "user.kernel"),
        (&["user.kind=nextitnet", "user.dilations=[1,0]"], "user.dilations"),
        (&["user.kind=caser", "user.window=11"], "user.window"),
        (&["user.kind=gru4rec", "user.norm=original"], "user.norm"),
        (&["user.user_id=true"], "user.user_id"),
        (&["user.dropout=1"], "user.dropout"),
        (&["user.layers=0"], "user.layers"),
        (&["objective.kind=bce", "objective.negatives=60"], "objective.negatives"),
        (&["objective.kind=bce", "objective.negatives=0"], "objective.negatives"),
        (&["objective.positions=masked"], "objective.positions"),
        (&["user.kind=bert4rec", "objective.positions=all"], "objective.positions"),
        (&["objective.mask_share=0"], "objective.mask_share"),
        (&["objective.temperature=-1"], "objective.temperature"),
        (&["objective.calibration=2"], "objective.calibration"),
        (&["eval.ks=[10,61]"], "eval.ks"),
        (&["eval.sampled=[\"uni\"]"], "eval.sampled"),
        (&["eval.sampled=[\"uni59\"]"], "eval.sampled"),
        (&["eval.sampled=[\"uni9\"]", "eval.ks=[10]"], "eval.sampled"),
        (&["train.windows=all"], "train.windows"),
        (&["user.kind=transformer"], "user.kind"),
    ] {
        let mut c = morec();
        c.arg("train").arg("-d").arg(&data).args(["-s", "item.kind=id", "-s", "train.epochs=1", "-s", "user.dim=8"]);
        settings.iter().for_each(|s| {
            c.args(["-s", s]);
        });
        let said = fails(c.arg("--out").arg(tmp.path().join("run")), 2);
        assert!(said.contains(field), "{settings:?}: {said}");
        assert!(!tmp.path().join("run").exists(), "{settings:?} left something behind");
    }
}

/// Users known by id: recommended for by name, and nowhere else.
#[test]
fn a_tower_of_users_stays_at_home() {
    let tmp = tempfile::tempdir().unwrap();
    let data = saved("source", tmp.path());
    let other = tmp.path().join("other");
    domain("target", 100, 60).save(&other, Default::default()).unwrap();
    let bert = tiny_bert(&tmp.path().join("bert"), 0.1);
    let run = tmp.path().join("run");
    let model = format!("item.model={}", bert.display());
    let mut c = morec();
    c.arg("train").arg("-d").arg(&data).arg("--out").arg(&run).args(["-s", &model]);
    for s in ["item.pretrained=false", "item.max_tokens=8", "user.kind=dssm", "user.user_id=true", "train.epochs=1"] {
        c.args(["-s", s]);
    }
    ok(&mut c);
    let recs = tmp.path().join("recs.jsonl");
    ok(morec().arg("recommend").arg(&run).args(["--all-users", "-k", "3", "--out"]).arg(&recs));
    assert_eq!(std::fs::read_to_string(&recs).unwrap().lines().count(), 150);
    let said = fails(morec().arg("recommend").arg(&run).args(["--history", "source-1"]), 2);
    assert!(said.contains("users by id"), "{said}");
    let said = fails(morec().arg("evaluate").arg(&run).arg("-d").arg(&other), 4);
    assert!(said.contains("knows the users of one data set"), "{said}");
    let moved = tmp.path().join("moved");
    let transfer = |preset: &str| {
        let mut c = morec();
        c.arg("transfer").arg("--source").arg(&run).arg("-d").arg(&other).args(["--preset", preset, "--dry-run"]);
        c.arg("--out").arg(&moved);
        c
    };
    let said = fails(&mut transfer("zero-shot"), 2);
    assert!(said.contains("table of users"), "{said}");
    let plan = ok(&mut transfer("full"));
    let line = plan.lines().find(|l| l.contains("user_embedding")).unwrap();
    assert!(line.contains("init"), "{line}");
}

#[test]
fn drawn_candidates_and_details() {
    let tmp = tempfile::tempdir().unwrap();
    let data = saved("source", tmp.path());
    let drawn = tmp.path().join("drawn");
    let setting = format!("eval.candidates={}", drawn.display());
    let evaluate = |more: &[&str]| {
        let mut c = morec();
        c.arg("evaluate")
            .arg("-d")
            .arg(&data)
            .args(["-s", "eval.sampled=[\"uni20\", \"pop20\"]", "-s", &setting])
            .args(more);
        c
    };
    let rows: serde_json::Value = serde_json::from_str(&ok(&mut evaluate(&["--json"]))).unwrap();
    let names: Vec<&str> = rows.as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["most popular", "Markov", "item-kNN"], "no times, no encoder: no more");
    for r in rows.as_array().unwrap() {
        let all = &r["test"]["all"];
        let of = |m: &str| all[m].as_f64().unwrap();
        assert!(of("hr@10[uni20]") >= of("hr@10") && of("hr@10[pop20]") >= of("hr@10"), "{all}");
        assert_eq!(of("map@10"), of("mrr@10"));
        let groups = r["test"]["groups"].as_object().unwrap();
        let count = |prefix: &str, flip: bool| -> u64 {
            groups.iter().filter(|(g, _)| g.starts_with(prefix) != flip).map(|(_, v)| v[0].as_u64().unwrap()).sum()
        };
        assert_eq!((count("history", false), count("history", true)), (150, 150));
        assert!(r["test"]["lists"]["coverage"].as_f64().unwrap() > 0.0);
    }
    // The file decides, once it is there.
    let file = drawn.join("uni20.tsv");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 150);
    assert_eq!(text.lines().next().unwrap().split('\t').count(), 22);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&ok(&mut evaluate(&["--json"]))).unwrap(), rows);
    let shown = ok(&mut evaluate(&[]));
    for word in ["HR@10[uni20]", "coverage", "after 5-9", "not comparable with full ranking"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    std::fs::write(&file, text.replacen("u0\t", "u999\t", 1)).unwrap();
    let said = fails(&mut evaluate(&[]), 3);
    assert!(said.contains("uni20.tsv:1") && said.contains("u999"), "{said}");
}

/// What a model says in training and what it says when asked are the same state.
#[test]
fn a_hidden_last_item_is_what_ranking_asks_for() {
    use morec::nn::{Act, Pass};
    let tmp = tempfile::tempdir().unwrap();
    let mut c = small_config(ItemKind::Id, Path::new(""));
    (c.user.kind, c.objective.positions) = (UserKind::Bert4rec, Positions::Last);
    train(&c, "source", &tmp.path().join("run"), None).unwrap();
    let model = ModelFolder::open(&tmp.path().join("run")).unwrap().build(&candle_core::Device::Cpu).unwrap();
    let p = prepared("source", &c);
    let items = encode::catalogue(&model, &model.features(&p.texts).unwrap(), &encode::no_progress).unwrap();
    let epoch = Epoch::new(&p.split, &c, 0);
    let batch = epoch.batch(0);
    let histories: Vec<&[u32]> = epoch.windows(0).map(|(_, w)| &w[..w.len() - 1]).collect();
    let task = encode::states(&model, &items, &histories, None).unwrap();
    let d = c.user.dim;
    let table: Vec<f32> =
        batch.items.iter().flat_map(|&i| items[i as usize * d..(i as usize + 1) * d].to_vec()).collect();
    let table =
        Act::constant(candle_core::Tensor::from_vec(table, (batch.items.len(), d), &candle_core::Device::Cpu).unwrap());
    let pass = Pass::eval();
    let x = morec::nn::ops::gather_or_fill(&pass, &table, batch.inputs.clone(), model.user.mask()).unwrap();
    let states = model.user.encode(&x, &batch.histories, &pass).unwrap();
    let states = morec::nn::ops::gather(&pass, &states, batch.rows.clone().unwrap()).unwrap();
    crate::golden::close("states", &crate::golden::flat(states.value()), &task, 1e-5);
}

/// Hidden items, drawn negatives and whole catalogues under resume, parts, accumulation and any number of threads.
#[test]
fn the_new_batches_keep_the_old_promises() {
    let tmp = tempfile::tempdir().unwrap();
    let bert = tiny_bert(&tmp.path().join("bert"), 0.0);
    let weights = |dir: &Path| {
        let w = ModelFolder::open(&dir.join("last/model")).unwrap().weights;
        w.names().map(|n| w.read(n).unwrap().iter().map(|v| v.to_bits()).collect()).collect::<Vec<Vec<u32>>>()
    };
    for (name, kind, objective) in [
        ("bert4rec bce", UserKind::Bert4rec, ObjectiveKind::Bce),
        ("gru full", UserKind::Gru4rec, ObjectiveKind::Full),
        ("nextitnet sampled", UserKind::Nextitnet, ObjectiveKind::Sampled),
        ("caser bpr", UserKind::Caser, ObjectiveKind::Bpr),
    ] {
        let mut c = small_config(ItemKind::Text, &bert);
        (c.user.kind, c.objective.kind, c.objective.negatives) = (kind, objective, 3);
        c.train.accumulate = 2;
        let at = |n: &str| tmp.path().join(format!("{name} {n}"));
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let three = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        one.install(|| train(&c, "source", &at("one"), None)).unwrap();
        three.install(|| train(&c, "source", &at("three"), None)).unwrap();
        assert_eq!(weights(&at("one")), weights(&at("three")), "{name}: threads");
        let mut half = c.clone();
        half.train.epochs = 1;
        train(&half, "source", &at("half"), None).unwrap();
        experiment::execute(
            &c,
            &prepared("source", &c),
            None,
            &at("half"),
            ExistingRun::Resume,
            vec![],
            &encode::no_progress,
        )
        .unwrap();
        assert_eq!(weights(&at("one")), weights(&at("half")), "{name}: resumed");
        // Encoded in parts: the same but for rounding (and dropout, of which there is none here).
        let mut whole = c.clone();
        whole.user.dropout = 0.0;
        let mut parts = whole.clone();
        parts.train.encode_items = 7;
        train(&whole, "source", &at("whole"), None).unwrap();
        train(&parts, "source", &at("parts"), None).unwrap();
        for (a, b) in losses(&at("whole")).iter().zip(losses(&at("parts"))) {
            assert!((a - b).abs() < 1e-4 * a.abs(), "{name}: {a} in one pass, {b} in two");
        }
    }
}
