//! The direction of dependence between the rooms of `src/`, and what every configuration file must be.

use crate::source_graph::{circles, functions, tokens};
use morec::config::{self, Config};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Lowest first; rooms of one line do not know each other.
const LAYERS: [&[&str]; 16] = [
    &["error", "report", "rng", "terminal"],
    &["fsio", "picture"],
    &["hub"],
    &["nn"],
    &["config"],
    &["data"],
    &["item", "user"],
    &["batch"],
    &["objective"],
    &["model"],
    &["eval"],
    &["baseline", "train", "transfer"],
    &["experiment"],
    &["distill"],
    &["bench"],
    &["cli"],
];

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for e in std::fs::read_dir(dir).unwrap() {
        let p = e.unwrap().path();
        if p.is_dir() {
            sources(&p, out);
        } else if p.extension().is_some_and(|e| e == "rs") {
            out.push(p);
        }
    }
}

fn rank(room: &str) -> Option<usize> {
    LAYERS.iter().position(|l| l.contains(&room))
}

#[test]
fn dependence_runs_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![];
    sources(&src, &mut files);
    let mut checked = 0;
    for file in files {
        let inside = file.strip_prefix(&src).unwrap();
        let first = inside.components().next().unwrap().as_os_str().to_string_lossy();
        let room = first.trim_end_matches(".rs").to_string();
        if ["lib", "main"].contains(&room.as_str()) {
            continue;
        }
        let own = rank(&room).unwrap_or_else(|| panic!("room `{room}` is in no layer: give it a place above"));
        let text = std::fs::read_to_string(&file).unwrap();
        for (n, line) in text.lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//")) {
            for piece in line.split("crate::").skip(1) {
                let used: String = piece.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                // `crate::Error` and `crate::Result` are re-exports of the lowest layer.
                let Some(other) = rank(&used) else { continue };
                checked += 1;
                let fine = used == room || other < own;
                assert!(fine, "{}:{}: room `{room}` uses `{used}`, which is not below it", inside.display(), n + 1);
            }
        }
    }
    assert!(checked > 200, "only {checked} uses found: does this test still read the sources?");
}

/// Files on circles, by room: what is still to be mended. The numbers only fall.
const FILES_ON_CIRCLES: [(&str, usize); 7] =
    [("bench", 6), ("config", 3), ("data", 3), ("hub", 5), ("item", 4), ("model", 2), ("nn", 8)];

#[test]
fn no_circle_between_files() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![];
    sources(&src, &mut files);
    let (circles, uses) = circles(&src, &files);
    assert!(uses > 800, "only {uses} uses found: does this test still read the sources?");
    let room = |file: &str| file.split('/').next().unwrap_or_default().to_string();
    let mut found: BTreeMap<String, (usize, Vec<&str>)> = BTreeMap::new();
    for c in &circles {
        let entry = found.entry(room(&c.files[0])).or_default();
        entry.0 += c.files.len();
        entry.1.push(&c.example);
    }
    for (room, (n, examples)) in &found {
        let known = FILES_ON_CIRCLES.iter().find(|(r, _)| r == room).map_or(0, |k| k.1);
        let shown = examples.join("\n");
        assert!(*n <= known, "`{room}`: {n} files use each other in circles, {known} are known:\n{shown}");
    }
    for (room, known) in FILES_ON_CIRCLES {
        let n = found.get(room).map_or(0, |f| f.0);
        assert!(n == known, "`{room}`: only {n} files are on circles; write {n} for {known} (or nothing for 0) above");
    }
}

#[test]
fn functions_fit_on_a_screen_or_two() {
    let mut files = vec![];
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut n = 0;
    for f in files {
        for (name, line, length) in functions(&tokens(&std::fs::read_to_string(&f).unwrap())) {
            assert!(length <= 100, "{}:{line}: `{name}` has {length} lines; split it", f.display());
            n += 1;
        }
    }
    assert!(n > 1000, "only {n} functions found: does this test still read the sources?");
}

#[test]
fn files_keep_to_one_idea() {
    let mut files = vec![];
    for d in ["src", "tests", "benches"] {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(d), &mut files);
    }
    for f in files {
        let lines = std::fs::read_to_string(&f).unwrap().lines().count();
        assert!(lines <= 620, "{}: {lines} lines; split it", f.display());
    }
}

#[test]
fn every_configuration_parses_and_makes_sense() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut n = 0;
    for e in std::fs::read_dir(dir).unwrap() {
        let path = e.unwrap().path();
        let mut c = config::load(&Config::default(), std::slice::from_ref(&path), &[]).unwrap();
        if c.item.model.is_empty() && path.file_name().unwrap() != "games-pretrain.toml" {
            c.item.model = "given by the source run".into();
        }
        c.check().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        n += 1;
    }
    assert!(n >= 2);
}

#[test]
fn the_reference_lists_every_setting_with_its_default() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/reference.toml")).unwrap();
    assert_eq!(toml::from_str::<Config>(&text).unwrap(), Config::default());
    let listed: toml::Table = text.parse().unwrap();
    let all: toml::Table = config::to_toml(&Config::default()).unwrap().parse().unwrap();
    for (section, values) in &all {
        if let toml::Value::Table(values) = values {
            for key in values.keys() {
                assert!(listed[section].get(key).is_some(), "configs/reference.toml lacks {section}.{key}");
            }
        }
    }
}
