//! The binary from outside: known answers on real data, kill −9 and resume, the whole way on a made-up pair of domains.

use crate::support::{domain, shared, tiny_bert};
use morec::data::{Dataset, DatasetParts};
use morec::nn::weights::Weights;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub fn morec() -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_morec"));
    c.env("HF_HUB_OFFLINE", "1");
    c
}

pub fn ok(c: &mut Command) -> String {
    let Output { status, stdout, stderr } = c.output().unwrap();
    assert!(status.success(), "{c:?}\n{}\n{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

pub fn fails(c: &mut Command, code: i32) -> String {
    let Output { status, stderr, .. } = c.output().unwrap();
    let text = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(code), "{text}");
    assert!(text.starts_with("morec: ") || text.starts_with("error: "), "{text}");
    text
}

pub fn saved(name: &str, dir: &Path) -> PathBuf {
    let path = dir.join(name);
    domain(name, 150, 60).save(&path, DatasetParts::default()).unwrap();
    path
}

fn bits(model: &Path) -> Vec<Vec<u32>> {
    let w = Weights::open(&model.join("model.safetensors")).unwrap();
    w.names().map(|n| w.read(n).unwrap().iter().map(|v| v.to_bits()).collect()).collect()
}

fn metrics(json: &str) -> Vec<(String, [f64; 3])> {
    let rows: serde_json::Value = serde_json::from_str(json).unwrap();
    let get = |r: &serde_json::Value, m: &str| r["test"]["all"][format!("{m}@10")].as_f64().unwrap();
    rows.as_array()
        .unwrap()
        .iter()
        .map(|r| (r["name"].as_str().unwrap().to_string(), [get(r, "hr"), get(r, "ndcg"), get(r, "mrr")]))
        .collect()
}

fn import(args: &[&str], files: &[(&str, PathBuf)], out: &Path) {
    let mut c = morec();
    c.args(["data", "import"]).args(args);
    for (flag, path) in files {
        c.arg(flag).arg(path);
    }
    ok(c.arg("--out").arg(out));
}

#[test]
fn a_matrix_library_that_cannot_be_had_is_an_error_and_ours_can_be_asked_for() {
    let told = fails(morec().env("MOREC_BLAS", "/nonexistent/libblas.so").arg("settings"), 2);
    assert!(told.contains("MOREC_BLAS") && told.contains("/nonexistent/libblas.so"), "{told}");
    assert!(ok(morec().env("MOREC_BLAS", "rust").arg("doctor")).contains("pure Rust"));
}

/// REFERENCE: exact answers on ML-100K, leave-one-out, full ranking.
#[test]
fn most_popular_and_markov_on_ml100k_are_exact() {
    let tmp = tempfile::tempdir().unwrap();
    let out = tmp.path().join("ml");
    let raw = shared("data/ml-100k");
    let files = [("--interactions", raw.join("ml-100k.inter")), ("--items", raw.join("ml-100k.item"))];
    import(&["--format", "recbole"], &files, &out);
    let run = |set: &[&str]| {
        let mut c = morec();
        c.args(["evaluate", "--json", "-s", "data.split=leave-one-out", "-d"]).arg(&out);
        set.iter().for_each(|s| {
            c.args(["-s", s]);
        });
        metrics(&ok(&mut c))
    };
    let same = |got: &[f64; 3], want: [f64; 3]| {
        for (g, w) in got.iter().zip(want) {
            assert!((g - w).abs() < 5e-7, "{got:?} {want:?}");
        }
    };
    let by_id = run(&["eval.ties=by-id"]);
    same(&by_id[0].1, [0.085896, 0.044885, 0.032555]);
    same(&by_id[2].1, [0.144221, 0.076632, 0.056226]);
    // item-kNN, the same in numpy: cosine of binary columns, 100 neighbours, equal ones by popularity.
    same(&by_id[3].1, [0.108165, 0.057748, 0.042543]);
    let pessimistic = run(&["eval.ties=pessimistic"]);
    same(&pessimistic[0].1, [0.083775, 0.043211, 0.030929]);
    // Recent popular, the same in numpy: events of the latest tenth of the training part, equal ones by all events.
    same(&pessimistic[1].1, [0.086957, 0.039885, 0.025836]);
    same(&run(&["eval.ties=by-id", "eval.mask_history=false"])[0].1, [0.049841, 0.022409, 0.014153]);

    use morec::baseline::Markov;
    use morec::config::{DataConfig, SplitKind};
    use morec::data::Split;
    let data = Dataset::open(&out).unwrap();
    let config = DataConfig { split: SplitKind::LeaveOneOut, ..Default::default() };
    let split = Split::new(&data, &config, 50).unwrap();
    assert_eq!((split.train_events(), Markov::new(&split).bigrams()), (98_114, 97_171));
}

/// Floors on Instruments, MoRec's preprocessing, L = 10.
#[test]
fn floors_on_instruments() {
    let tmp = tempfile::tempdir().unwrap();
    let out = tmp.path().join("instruments");
    let raw = shared("data/amazon-instruments");
    import(
        &["--format", "morec"],
        &[("--interactions", raw.join("users.tsv")), ("--items", raw.join("items.tsv"))],
        &out,
    );
    let rows = metrics(&ok(morec().args(["evaluate", "--json", "-s", "eval.ties=by-id", "-d"]).arg(&out)));
    let pc = |v: f64| (v * 1e4).round() / 100.0;
    assert_eq!((pc(rows[0].1[0]), pc(rows[0].1[1])), (4.87, 3.29));
    // Which of the tied items comes first depends on the order of ids, here the catalogue's: the last digit may differ.
    assert_eq!(pc(rows[1].1[0]), 6.05);
    assert!((rows[1].1[1] - 0.0515).abs() < 1.5e-4, "{}", rows[1].1[1]);
}

#[test]
fn killed_at_any_moment_it_resumes_to_the_same_weights() {
    let tmp = tempfile::tempdir().unwrap();
    let (data, bert) = (saved("source", tmp.path()), tiny_bert(&tmp.path().join("bert"), 0.1));
    let train = |out: &str, flag: Option<&str>| {
        let mut c = morec();
        c.args(["train", "-s", "item.pretrained=false", "-s", "item.max_tokens=8", "-s", "user.dim=16"]);
        c.args([
            "-s",
            "train.epochs=30",
            "-s",
            "train.patience=0",
            "-s",
            "train.batch_size=8",
            "-s",
            "train.checkpoint_steps=4",
        ]);
        c.arg("-s").arg(format!("item.model={}", bert.display())).arg("-d").arg(&data);
        c.args(flag).arg("--out").arg(tmp.path().join(out));
        c
    };
    ok(&mut train("straight", None));
    let dir = tmp.path().join("killed");
    let mut kills = 0;
    for wait in [60u64, 190, 310, 120, 240] {
        let mut child = train("killed", dir.exists().then_some("--resume"))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(wait));
        child.kill().unwrap(); // SIGKILL
        kills += usize::from(!child.wait().unwrap().success());
    }
    assert!(kills > 0, "every run ended before it could be killed: make them longer");
    ok(&mut train("killed", Some("--resume")));
    for part in ["best", "last/model"] {
        assert_eq!(bits(&dir.join(part)), bits(&tmp.path().join("straight").join(part)), "{part}");
    }
    // Nothing half-made stays behind once the run has ended.
    let left: Vec<_> =
        std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|n| !n.starts_with('.') || n == ".lock"), "{left:?}");
}

#[test]
fn the_whole_way_from_source_to_recommendations() {
    let tmp = tempfile::tempdir().unwrap();
    let (source, target) = (saved("source", tmp.path()), saved("target", tmp.path()));
    let bert = tiny_bert(&tmp.path().join("bert"), 0.1);
    let at = |name: &str| tmp.path().join(name);
    let mut c = morec();
    c.args([
        "train",
        "--json",
        "-s",
        "item.pretrained=false",
        "-s",
        "item.max_tokens=8",
        "-s",
        "user.dim=16",
        "-s",
        "train.epochs=2",
    ]);
    c.arg("-s").arg(format!("item.model={}", bert.display())).arg("-d").arg(&source).arg("--out").arg(at("run"));
    let result: serde_json::Value = serde_json::from_str(&ok(&mut c)).unwrap();
    assert_eq!(result["epochs"], 2);
    for file in [
        "config.toml",
        "manifest.json",
        "metrics.jsonl",
        "result.json",
        "ranks.parquet",
        "best/manifest.json",
        "last/cursor.json",
    ] {
        assert!(at("run").join(file).exists(), "{file}");
    }
    // The encoder's own folder is not needed any more.
    std::fs::remove_dir_all(&bert).unwrap();

    let transfer = |extra: &[&str]| {
        let mut c = morec();
        c.args(["transfer", "-s", "train.epochs=1", "--source"]).arg(at("run")).arg("-d").arg(&target).args(extra);
        c
    };
    let plan = ok(&mut transfer(&["--dry-run", "--preset", "frozen"]));
    assert!(plan.contains("item_encoder.text.model.embeddings.word_embeddings.weight") && plan.contains("frozen"));
    assert!(!at("t").exists());
    let e = fails(&mut transfer(&["--rule", "user_encodr.*=freeze", "--dry-run"]), 2);
    assert!(e.contains("matches no parameter"), "{e}");
    let rows =
        metrics(&ok(transfer(&["--preset", "full,frozen,zero-shot", "--baselines", "--json", "--out"]).arg(at("t"))));
    let names: Vec<_> = rows.iter().map(|r| r.0.as_str()).collect();
    assert_eq!(names, ["most popular", "Markov", "item-kNN", "full", "frozen", "zero-shot"]);

    // `evaluate` gives what the run reported, from the model folder alone.
    let again =
        metrics(&ok(morec().args(["evaluate", "--json"]).arg(at("t/full")).arg("--ranks").arg(at("ranks.parquet"))));
    assert_eq!(again[0].1, rows[3].1);
    assert!(at("ranks.parquet").exists());

    let recommend = |args: &[&str]| {
        let mut c = morec();
        c.arg("recommend").arg(at("t/full")).args(args);
        c
    };
    let hits: serde_json::Value = serde_json::from_str(&ok(&mut recommend(&[
        "--history",
        "target-1,target-2",
        "--title",
        "red guitar",
        "-k",
        "7",
        "--json",
    ])))
    .unwrap();
    let hits = hits.as_array().unwrap();
    assert_eq!(hits.len(), 7);
    assert!(
        hits.iter()
            .all(|h| h["item"] != "target-1" && h["item"] != "target-2" && h["title"].as_str().unwrap().contains(' '))
    );
    assert!(fails(&mut recommend(&["--history", "target-999"]), 2).contains("nearest"));

    std::fs::write(at("users.tsv"), "ann\ttarget-1 target-5\nbob\ttarget-9\n").unwrap();
    ok(recommend(&["-k", "3", "--users"]).arg(at("users.tsv")).arg("--out").arg(at("recs.jsonl")));
    let lines = std::fs::read_to_string(at("recs.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 2);
    assert!(lines.starts_with("{\"user\":\"ann\""), "{lines}");
    std::fs::write(at("users.tsv"), "ann\ttarget-1\nbob\tnothing\n").unwrap();
    let e = fails(recommend(&["--users"]).arg(at("users.tsv")).arg("--out").arg(at("recs2.jsonl")), 3);
    assert!(e.contains("users.tsv:2") && !at("recs2.jsonl").exists(), "{e}");
    ok(recommend(&["--all-users", "--out"]).arg(at("recs.parquet")));
    assert!(std::fs::metadata(at("recs.parquet")).unwrap().len() > 1000);
}

#[test]
fn mistakes_on_the_command_line_are_answered_before_any_work() {
    let tmp = tempfile::tempdir().unwrap();
    let data = saved("source", tmp.path());
    let train = |set: &[&str]| {
        let mut c = morec();
        c.args(["train", "-s", "item.kind=id", "--out"]).arg(tmp.path().join("run")).arg("-d").arg(&data);
        set.iter().for_each(|s| {
            c.args(["-s", s]);
        });
        c
    };
    assert!(fails(&mut train(&["train.epoch=3"]), 2).contains("did you mean `train.epochs`"));
    assert!(fails(&mut train(&["user.heads=5"]), 2).contains("user.heads"));
    assert!(fails(&mut train(&["eval.ks=[5,10,20000]"]), 2).contains("catalogue"));
    assert!(fails(&mut train(&["data.split=temporal"]), 2).contains("timestamps"));
    assert!(fails(&mut train(&["device=tpu"]), 2).contains("cuda"));
    assert!(fails(&mut train(&["data.min_user_items=5000"]), 2).contains("5000"));
    assert!(!tmp.path().join("run").exists());
    let missing = fails(morec().args(["train", "-s", "item.kind=id", "-d"]).arg(tmp.path().join("no")), 3);
    assert!(missing.contains("import"), "{missing}");
    assert!(fails(morec().arg("evaluate").arg(tmp.path()), 4).contains("best/"));
}
