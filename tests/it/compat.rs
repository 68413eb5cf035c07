//! Data sets, runs and adapters that version 0.1.0 wrote open in this version and give its numbers (`tests/compat/`).

use crate::cli::{morec, ok};
use morec::model::ModelFolder;
use std::path::{Path, PathBuf};

/// A copy of the folders, since evaluation and resuming write into them.
fn copied(to: &Path) -> PathBuf {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for e in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            let target = to.join(e.file_name());
            if e.path().is_dir() {
                copy(&e.path(), &target)
            } else {
                std::fs::write(target, std::fs::read(e.path()).unwrap()).unwrap()
            }
        }
    }
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat/0.1.0"), to);
    to.into()
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

fn near(name: &str, got: &serde_json::Value, old: &serde_json::Value, tolerance: f64) {
    let (got, old) = (got.as_object().unwrap(), old.as_object().unwrap());
    assert_eq!(got.keys().collect::<Vec<_>>(), old.keys().collect::<Vec<_>>(), "{name}");
    for (key, value) in old {
        let difference = (got[key].as_f64().unwrap() - value.as_f64().unwrap()).abs();
        assert!(difference <= tolerance, "{name}: {key} {} was {value}", got[key]);
    }
}

#[test]
fn old_runs_and_adapters_open_with_the_same_numbers() {
    let tmp = tempfile::tempdir().unwrap();
    let old = copied(tmp.path());
    let expected = json(&std::fs::read_to_string(old.join("expected.json")).unwrap());
    for (name, expected) in expected.as_object().unwrap() {
        let run = format!("runs/{name}");
        let rows = json(&ok(morec().current_dir(&old).args(["evaluate", &run, "--json"])));
        // Sums in another order on another processor may move a rank by one.
        near(name, &rows[0]["test"]["all"], &expected["test"], 0.02);
        let d = if name.starts_with("moved") { "b" } else { "a" };
        let history = format!("{d}0,{d}1,{d}2");
        let top =
            json(&ok(morec().current_dir(&old).args(["recommend", &run, "--history", &history, "-k", "5", "--json"])));
        let (top, was) = (top.as_array().unwrap(), expected["recommend"].as_array().unwrap());
        assert_eq!(top.len(), was.len());
        for (a, b) in top.iter().zip(was) {
            assert_eq!((&a["item"], &a["title"]), (&b["item"], &b["title"]), "{name}");
            assert!((a["score"].as_f64().unwrap() - b["score"].as_f64().unwrap()).abs() < 1e-4, "{name}: {a} was {b}");
        }
        let adapter = ["moved/lora", "moved/houlsby", "moved/side"].contains(&name.as_str());
        assert_eq!(ModelFolder::open(&old.join(&run)).unwrap().base.is_some(), adapter, "{name}");
    }
}

#[test]
fn an_old_run_that_was_stopped_goes_on_to_its_end() {
    let tmp = tempfile::tempdir().unwrap();
    let old = copied(tmp.path());
    let settings = ["-c", "runs/stopped/config.toml", "--out", "runs/stopped", "--resume", "--json"];
    let done = json(&ok(morec().current_dir(&old).arg("train").args(settings)));
    let whole = json(&std::fs::read_to_string(old.join("runs/whole/result.json")).unwrap());
    assert_eq!((&done["epochs"], &done["steps"]), (&whole["epochs"], &whole["steps"]));
    near("stopped", &done["test"]["all"], &whole["test"]["all"], 0.05);
    let open = |run: &str| ModelFolder::open(&old.join(run)).unwrap();
    let (rows, equal) = morec::model::merge::difference(&open("runs/stopped"), &open("runs/whole")).unwrap();
    assert!(equal > 0 || !rows.is_empty());
    for row in rows {
        assert!(row.distance.unwrap() < 1e-3 * row.norms[1].unwrap().max(1e-3), "{row:?}");
    }
}

#[test]
fn an_old_run_is_a_source() {
    let tmp = tempfile::tempdir().unwrap();
    let old = copied(tmp.path());
    let args =
        ["transfer", "--source", "runs/source", "-d", "datasets/b", "-s", "train.epochs=1", "--preset", "full,lora"];
    let rows = json(&ok(morec().current_dir(&old).args(args).args(["--out", "runs/again", "--json"])));
    assert!(rows.to_string().contains("lora"));
    assert!(old.join("runs/again/lora/best/text/adapter_model.safetensors").exists());
}
