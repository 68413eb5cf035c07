//! Every command block of GUIDE.md runs on small data, in order; every option that README.md and GUIDE.md name exists.

use crate::cli::{morec, ok};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// The blocks fenced as ```sh, with the word behind `sh` on the fence.
fn blocks(page: &str) -> Vec<(String, String)> {
    let (mut out, mut open) = (vec![], None::<(String, String)>);
    for line in page.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(fence)) => open = Some((fence.to_string(), String::new())),
            (Some(_), Some("")) => out.extend(open.take().filter(|(fence, _)| fence.starts_with("sh"))),
            (Some((_, text)), _) => writeln!(text, "{line}").unwrap(),
            (None, None) => {}
        }
    }
    out
}

/// Clicks of `users` users over `items` items, their titles, and covers of one colour each.
fn platform(dir: &Path, prefix: &str, id: &str, users: usize, items: usize) {
    const WORDS: [&str; 8] = ["red", "blue", "steel", "wooden", "mouse", "lamp", "desk", "cable"];
    let (mut titles, mut clicks) = (String::from("id,title,description\n"), String::from("user,item,ts\n"));
    for i in 0..items {
        let (a, b) = (WORDS[i % 4], WORDS[4 + i / 4 % 4]);
        writeln!(titles, "{id}{i},{a} {b} {i},a {a} {b} for the house").unwrap();
    }
    for u in 0..users {
        for t in 0..7 {
            writeln!(clicks, "u{u},{id}{},{}", (u * 3 + t * t + t) % items, 1_600_000_000 + 100 * t + u).unwrap();
        }
    }
    std::fs::write(dir.join(format!("{prefix}items.csv")), titles).unwrap();
    std::fs::write(dir.join(format!("{prefix}clicks.csv")), clicks).unwrap();
}

fn covers(dir: &Path, items: usize) {
    std::fs::create_dir(dir.join("covers")).unwrap();
    for i in 0..items {
        let colour = [(i * 37 % 256) as u8, (i * 91 % 256) as u8, (i * 53 % 256) as u8];
        let png = morec::picture::encode_png(&morec::picture::Rgb::filled(32, 32, colour));
        std::fs::write(dir.join(format!("covers/i{i}.png")), png).unwrap();
    }
}

#[test]
fn every_block_of_the_guide_runs() {
    let tmp = tempfile::tempdir().unwrap();
    platform(tmp.path(), "", "i", 60, 40);
    platform(tmp.path(), "other-", "o", 50, 30);
    covers(tmp.path(), 40);
    std::fs::write(tmp.path().join("users.txt"), "ann\ti1 i2 i3\nbob\ti5 i8\n").unwrap();
    let bin = Path::new(env!("CARGO_BIN_EXE_morec")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let (mut ran, mut skipped) = (0, vec![]);
    for (fence, text) in blocks(include_str!("../../GUIDE.md")) {
        if fence != "sh" {
            assert_eq!(fence, "sh no-run");
            skipped.push(text);
            continue;
        }
        let mut c = Command::new("bash");
        c.args(["-euo", "pipefail", "-c", &text]).current_dir(tmp.path()).env("PATH", &path).env("HF_HUB_OFFLINE", "1");
        let out = c.output().unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(out.status.success(), "{text}\n{}\n{}", said(&out.stdout), said(&out.stderr));
        ran += 1;
    }
    assert_eq!(ran, 14, "a block is new, or lost");
    // What needs a network or a compiler: the PyTorch peer with other features, and a pull from the hub.
    assert_eq!(skipped.len(), 2, "{skipped:?}");
    assert!(skipped[0].contains("pip install") && skipped[1].starts_with("morec models pull"));
}

/// `--options` in a text.
fn options(text: &str) -> BTreeSet<String> {
    let word = |t: &str| t.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect::<String>();
    let starts = text.match_indices("--").filter(|(i, _)| *i == 0 || b" `[(\n".contains(&text.as_bytes()[i - 1]));
    starts.map(|(i, _)| word(&text[i..])).filter(|o| o.len() > 3).collect()
}

#[test]
fn every_option_that_the_pages_name_exists() {
    let mut known = BTreeSet::new();
    let verbs = "quickstart|data import|data synth|data describe|data validate|train|transfer|adapters list|adapters merge|\
                 adapters import|adapters export|adapters diff|evaluate|compare|recommend|encode|settings|models list|models pull|\
                 distill|doctor|bench speed|completions|man";
    for verb in verbs.split('|') {
        known.extend(options(&ok(morec().args(verb.trim().split(' ')).arg("--help"))));
    }
    // Options of cargo.
    known.extend(["--release", "--features", "--example", "--open", "--path"].map(String::from));
    for page in [include_str!("../../README.md"), include_str!("../../GUIDE.md")] {
        let unknown: Vec<String> = options(page).into_iter().filter(|o| !known.contains(o) && o != "--small").collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}
