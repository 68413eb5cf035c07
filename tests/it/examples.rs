//! The examples run on small invented data; the first is the front page of the documentation.

use crate::cli::{morec, ok};
use std::path::{Path, PathBuf};
use std::process::Command;

/// An example's program, which cargo builds beside the tests.
fn example(name: &str) -> Command {
    let path = Path::new(env!("CARGO_BIN_EXE_morec")).with_file_name("examples").join(name);
    assert!(path.exists(), "{}: build it with `cargo build --release --examples`", path.display());
    let mut c = Command::new(path);
    c.env("HF_HUB_OFFLINE", "1");
    c
}

/// Two domains below `datasets/` of a temporary folder.
fn invented() -> (tempfile::TempDir, PathBuf) {
    let tmp = tempfile::tempdir().unwrap();
    let at = tmp.path().join("invented");
    let sizes = ["--users", "60", "--items", "110", "--target-users", "50", "--target-items", "100"];
    ok(morec().args(["data", "synth", "--out"]).arg(&at).args(sizes));
    std::fs::create_dir(tmp.path().join("datasets")).unwrap();
    std::fs::rename(at.join("source"), tmp.path().join("datasets/games")).unwrap();
    std::fs::rename(at.join("target"), tmp.path().join("datasets/instruments")).unwrap();
    let root = tmp.path().to_path_buf();
    (tmp, root)
}

#[test]
fn the_front_page_trains_transfers_and_recommends() {
    let page = include_str!("../../examples/tour.rs");
    assert!(page.lines().count() <= 29, "the front page of the documentation is to be short");
    let (_tmp, root) = invented();
    let said = ok(example("tour").current_dir(&root));
    assert!(said.starts_with("NDCG@10 0."), "{said}");
    assert_eq!(said.lines().count(), 11, "{said}");
}

#[test]
fn train_transfer_and_a_custom_user_encoder() {
    let (_tmp, root) = invented();
    let said = ok(example("train").current_dir(&root).args(["datasets/games", "title-mini", "runs/source"]));
    assert!(said.contains("epoch 1: loss") && said.contains("test HR@10"), "{said}");
    let args = ["runs/source", "datasets/instruments", "runs/moved", "lora"];
    let said = ok(example("transfer_adapter").current_dir(&root).args(args));
    assert_eq!(said.lines().count(), 4, "{said}");
    let said = ok(example("library").current_dir(&root).args(["runs/moved/lora", "datasets/instruments"]));
    assert!(said.lines().count() > 10, "{said}");
    let mut own = example("custom_user_encoder");
    let said = ok(own.current_dir(&root).args(["datasets/games", "title-mini", "runs/own"]));
    assert_eq!(said.lines().count(), 4, "{said}");
    // The command does not have that encoder, and says so.
    let refused = morec().current_dir(&root).args(["evaluate", "runs/own"]).output().unwrap();
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{message}");
    assert!(message.contains("custom_user_encoder"), "{message}");
}
