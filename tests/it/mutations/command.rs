//! The command ends in the documented exit codes on damaged folders, with a message that names what is damaged.

use super::encoders::bert;
use crate::cli::{fails, morec, ok, saved};
use std::path::{Path, PathBuf};

/// Damaged in four ways, each a file that was there.
fn damaged(path: &Path, check: impl Fn(&str)) {
    let sound = std::fs::read(path).unwrap();
    let half = sound[..sound.len() / 2].to_vec();
    for (state, bytes) in
        [("cut", half), ("empty", vec![]), ("not text", b"\xff\xfe{\xc3}".to_vec()), ("a list", b"[]".to_vec())]
    {
        std::fs::write(path, bytes).unwrap();
        check(state);
    }
    std::fs::remove_file(path).unwrap();
    std::fs::create_dir(path).unwrap();
    check("a folder");
    std::fs::remove_dir(path).unwrap();
    check("missing");
    std::fs::write(path, sound).unwrap();
}

fn refuses(c: &mut std::process::Command, code: i32, file: &str) {
    let said = fails(c, code);
    assert!(said.contains(file) && !said.contains("panicked"), "{said}");
}

#[test]
fn damaged_folders_end_the_command_with_the_documented_code() {
    let tmp = tempfile::tempdir().unwrap();
    let at = |n: &str| -> PathBuf { tmp.path().join(n) };
    let (data, model, run) = (saved("source", tmp.path()), bert(&at("bert")), at("run"));
    let train = ["train", "-s", "item.max_tokens=8", "-s", "user.dim=8", "-s", "train.epochs=1"];
    let setting = format!("item.model={}", model.display());
    ok(morec().args(train).args(["-s", &setting]).arg("-d").arg(&data).arg("--out").arg(&run));
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        damaged(&model.join(name), |state| {
            // A model without a tokenizer may be one of pictures.
            if name != "tokenizer.json" || !["missing", "a folder"].contains(&state) {
                refuses(morec().args(["models", "verify"]).arg(&model), 4, name);
            }
            refuses(
                morec().arg("encode").arg(&model).arg("-d").arg(&data).arg("--out").arg(at("x.parquet")),
                4,
                "bert",
            );
        });
    }
    for name in ["manifest.json", "config.toml", "model.safetensors", "encoder/config.json", "encoder/tokenizer.json"] {
        damaged(&run.join("best").join(name), |state| {
            // A folder without its manifest or its values is no model's, and the run's last model is taken.
            if state != "missing" || !["manifest.json", "model.safetensors"].contains(&name) {
                refuses(morec().arg("recommend").arg(&run).args(["--title", "red guitar"]), 4, "best");
            }
        });
    }
    for name in ["manifest.json", "items.parquet", "users.parquet", "interactions.parquet"] {
        damaged(&data.join(name), |_| {
            refuses(morec().args(["data", "describe"]).arg(&data), 3, "source");
            refuses(morec().arg("evaluate").arg(&run), 3, "source");
        });
    }
    for name in ["result.json", "ranks.parquet", "config.toml"] {
        damaged(&run.join(name), |_| refuses(morec().arg("compare").arg(&run), 4, "run"));
    }
    std::fs::write(at("bad.toml"), b"name = \"\xff\"\n").unwrap();
    refuses(morec().arg("train").arg("-c").arg(at("bad.toml")).arg("-d").arg(&data), 2, "bad.toml");
    refuses(morec().arg("train").arg("-c").arg(&data).arg("-d").arg(&data), 2, "source");
}
