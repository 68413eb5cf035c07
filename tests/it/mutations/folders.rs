//! Our own folders (models, adapters, runs), adapters of other packages, settings, ranks.

use super::damage::Format;
use super::encoders::bert;
use super::{DATA, MODEL, RUN, Runner, SETTINGS};
use crate::support::{domain, small_config};
use candle_core::Device;
use morec::config::{Config, ItemKind, load};
use morec::eval::candidates::{Candidates, IdNames};
use morec::eval::encode::no_progress;
use morec::eval::ranks_file;
use morec::experiment::compare::{Method, compare};
use morec::experiment::{self, ExistingRun, Prepared};
use morec::fsio::{FileEntry, MANIFEST, Manifest, sha256_bytes};
use morec::model::{ModelFolder, merge};
use std::path::{Path, PathBuf};

/// Writes down the files as they are now: damage then meets the parsers, not only the check of digests. A file that is missing
/// or a folder keeps its entry.
pub fn reseal(dir: &Path) {
    let path = dir.join(MANIFEST);
    let mut m: Manifest = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    for (name, entry) in &mut m.files {
        let Ok(bytes) = std::fs::read(dir.join(name)) else { continue };
        *entry = FileEntry { bytes: bytes.len() as u64, sha256: sha256_bytes(&bytes) };
    }
    std::fs::write(path, serde_json::to_string(&m).unwrap()).unwrap();
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        match path.is_dir() {
            true => copy_tree(&path, &to),
            false => drop(std::fs::copy(&path, &to).unwrap()),
        }
    }
}

fn replace_tree(from: &Path, to: &Path) {
    if to.exists() {
        std::fs::remove_dir_all(to).unwrap();
    }
    copy_tree(from, to);
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/adapters").join(name)
}

/// Opens a model's folder, makes the model and encodes with it.
fn open(dir: &Path) -> morec::Result<()> {
    let folder = ModelFolder::open(dir)?;
    let model = folder.build(&Device::Cpu)?;
    if folder.config.item.kind == ItemKind::Text {
        let features = model.features(&["red guitar strap".into(), "blue drum".into()])?;
        morec::eval::encode::catalogue(&model, &features, &no_progress)?;
    }
    Ok(())
}

fn settings(kind: ItemKind, text: &Path) -> Config {
    let mut c = small_config(kind, text);
    c.item.pretrained = true;
    (c.user.dim, c.train.batch_size, c.eval.ks) = (8, 32, vec![5, 10]);
    c
}

fn prepared(c: &Config) -> Prepared {
    Prepared::new(domain("source", 60, 30), c).unwrap()
}

fn models(r: &mut Runner, model: &Path, ids: &Path, adapter: &Path) {
    let p = |dir: &Path, name: &str| dir.join(name);
    r.parser("model manifest.json", 120, MODEL, Format::Json, &p(model, MANIFEST), || open(model));
    r.parser("adapter manifest.json", 80, MODEL, Format::Json, &p(adapter, MANIFEST), || open(adapter));
    let sealed = |dir: &Path| {
        reseal(dir);
        open(dir)
    };
    for (dir, name, n, format) in [
        (model, "config.toml", 150, Format::Text),
        (model, "model.safetensors", 80, Format::Safetensors),
        (model, "encoder/config.json", 60, Format::Json),
        (model, "encoder/tokenizer.json", 40, Format::Json),
        (ids, "items.json", 50, Format::Json),
        (ids, "config.toml", 60, Format::Text),
    ] {
        let of = if dir == ids { "ID model" } else { "model" };
        r.parser(&format!("{of} {name}"), n, MODEL, format, &p(dir, name), || sealed(dir));
    }
    let merged = adapter.with_file_name("merged");
    let merging = || {
        reseal(adapter);
        let _ = std::fs::remove_dir_all(&merged);
        merge::merge(&ModelFolder::open(adapter)?, &merged).map(|_| ())
    };
    for (name, n, format) in [
        ("config.toml", 40, Format::Text),
        ("text/adapter_model.safetensors", 60, Format::Safetensors),
        ("adapter.safetensors", 30, Format::Safetensors),
    ] {
        r.parser(&format!("adapter {name}"), n, MODEL, format, &p(adapter, name), merging);
    }
}

fn foreign(r: &mut Runner, base: &Path, tmp: &Path) {
    let base = ModelFolder::open(base).unwrap();
    for (name, weights, n) in [("lora", "adapter_model", 60), ("ia3", "adapter_model", 40), ("houlsby", "adapter", 60)]
    {
        let (dir, out) = (tmp.join(format!("foreign-{name}")), tmp.join("imported"));
        copy_tree(&golden(name), &dir);
        let import = || {
            let _ = std::fs::remove_dir_all(&out);
            merge::import(&dir, &base, morec::config::Modality::Text, &out).map(|_| ())
        };
        let config = dir.join("adapter_config.json");
        r.parser(&format!("{name} adapter_config.json"), n, MODEL, Format::Json, &config, import);
        let file = dir.join(format!("{weights}.safetensors"));
        r.parser(&format!("{name} {weights}.safetensors"), 40, MODEL, Format::Safetensors, &file, import);
    }
}

fn runs(r: &mut Runner, run: &Path, c: &Config, tmp: &Path) {
    let methods = [Method { label: "a".into(), runs: vec![run.into()] }];
    let comparing = || compare(&methods, &[5, 10], "ndcg@10", "a", 1).map(|_| ());
    r.parser("result.json", 80, MODEL, Format::Json, &run.join("result.json"), comparing);
    r.parser("ranks.parquet of a run", 60, MODEL, Format::Bytes, &run.join("ranks.parquet"), comparing);
    r.parser("config.toml of a run", 60, MODEL, Format::Text, &run.join("config.toml"), comparing);
    let ranks = tmp.join("ranks.parquet");
    std::fs::copy(run.join("ranks.parquet"), &ranks).unwrap();
    r.parser("ranks.parquet", 120, MODEL, Format::Bytes, &ranks, || ranks_file::read(&ranks).map(|_| ()));
    // A run that has ended and is gone on with: every part of its checkpoint is read.
    let data = prepared(c);
    let (work, at) = (tmp.join("work"), tmp.join("part"));
    std::fs::create_dir_all(&at).unwrap();
    for (name, n, format) in [
        ("manifest.json", 30, Format::Json),
        ("config.toml", 40, Format::Text),
        ("last/manifest.json", 30, Format::Json),
        ("last/cursor.json", 40, Format::Json),
        ("last/optimizer.safetensors", 30, Format::Safetensors),
        ("last/model/manifest.json", 30, Format::Json),
        ("last/model/model.safetensors", 30, Format::Safetensors),
        ("best/model.safetensors", 30, Format::Safetensors),
    ] {
        let (from, part) = (run.join(name), at.join(Path::new(name).file_name().unwrap()));
        std::fs::copy(&from, &part).unwrap();
        let resume = || {
            replace_tree(run, &work);
            std::fs::remove_file(work.join(name)).unwrap();
            match part.is_dir() {
                true => std::fs::create_dir(work.join(name)).unwrap(),
                false if part.exists() => drop(std::fs::copy(&part, work.join(name)).unwrap()),
                false => {}
            }
            let folder = work.join(name).parent().unwrap().to_path_buf();
            if !name.ends_with(MANIFEST) && folder.join(MANIFEST).exists() && folder != work {
                reseal(&folder);
            }
            experiment::execute(c, &data, None, &work, ExistingRun::Resume, vec![], &no_progress).map(|_| ())
        };
        r.parser(&format!("resumed run {name}"), n, RUN, format, &part, resume);
    }
}

fn other_files(r: &mut Runner, c: &Config, tmp: &Path) {
    let path = tmp.join("settings.toml");
    std::fs::write(&path, morec::config::to_toml(c).unwrap()).unwrap();
    let read = || load(&Config::default(), &[&path], &[]).and_then(|c| c.check());
    // Messages of settings name the key, and the file's name is one of its values.
    r.parser("settings.toml", 200, SETTINGS, Format::Text, &path, read);

    let data = prepared(c);
    let path = tmp.join("uni5.tsv");
    let (user, item) = (|u: u32| data.user_ids[u as usize].as_str(), |i: u32| data.item_ids[i as usize].as_str());
    let open = || {
        let names = IdNames { user: &user, item: &item };
        Candidates::open(&path, &data.split, &data.split.test, "uni5", names, false).map(|_| ())
    };
    open().unwrap();
    r.parser("candidates", 100, DATA, Format::Text, &path, open);
}

pub fn run(r: &mut Runner) {
    let tmp = tempfile::tempdir().unwrap();
    let at = |n: &str| tmp.path().join(n);
    let text = bert(&at("bert"));
    let c = settings(ItemKind::Text, &text);
    let id = settings(ItemKind::Id, &text);
    for (c, name) in [(&c, "text-run"), (&id, "id-run")] {
        experiment::execute(c, &prepared(c), None, &at(name), ExistingRun::New, vec![], &no_progress).unwrap();
    }
    let (model, ids) = (at("text-run").join("best"), at("id-run").join("best"));
    merge::import(&golden("lora"), &ModelFolder::open(&model).unwrap(), morec::config::Modality::Text, &at("adapter"))
        .unwrap();
    // The adapter's base is a copy: what happens to the model concerns the model alone.
    copy_tree(&model, &at("alone"));
    models(r, &at("alone"), &ids, &at("adapter"));
    foreign(r, &model, tmp.path());
    runs(r, &at("id-run"), &id, tmp.path());
    other_files(r, &id, tmp.path());
}
