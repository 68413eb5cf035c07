//! The command in places that are not as one expects: data with control characters, few items, no home, variables of jobs.

use crate::cli::{fails, morec, ok};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A data set of `items` items and eight users with six events each; `title(i)` is an item's title.
fn small(dir: &Path, items: usize, title: impl Fn(usize) -> String) -> PathBuf {
    let mut events = "user_id,item_id,ts\n".to_string();
    for u in 0..8 {
        for t in 0..6 {
            events += &format!("u{u},i{},{}\n", (u * 5 + t * (1 + u % 3)) % items, 1_700_000_000 + t);
        }
    }
    let quote = |i: usize| format!("i{i},\"{}\"\n", title(i));
    std::fs::write(dir.join("events.csv"), events).unwrap();
    std::fs::write(dir.join("items.csv"), "item_id,title\n".to_string() + &(0..items).map(quote).collect::<String>())
        .unwrap();
    let out = dir.join("data");
    let mut c = morec();
    c.args(["data", "import", "--format", "csv", "--text-cols", "title", "--time-col", "ts", "--raw-text"]);
    ok(c.arg("--interactions")
        .arg(dir.join("events.csv"))
        .arg("--items")
        .arg(dir.join("items.csv"))
        .arg("--out")
        .arg(&out));
    out
}

/// A quick ID model.
fn train(data: &Path, out: &Path, more: &[&str]) -> Command {
    let mut c = morec();
    c.args(["train", "-s", "item.kind=id", "-s", "user.dim=8", "-s", "train.epochs=1", "-s", "data.min_user_items=3"]);
    c.args(more).arg("-d").arg(data).arg("--out").arg(out);
    c
}

/// Both outputs, which hold no character that acts on a terminal.
fn shown(c: &mut Command) -> String {
    let Output { stdout, stderr, .. } = c.output().unwrap();
    let text = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    let acts = |c: char| (c.is_control() && !"\n\t".contains(c)) || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!text.contains(acts), "{c:?}: {text:?}");
    text
}

#[test]
fn control_characters_are_shown_and_do_not_act() {
    let tmp = tempfile::tempdir().unwrap();
    let evil = "\u{1b}[2J\u{1b}[31mred\u{7} \u{9b}1m\u{7f}\u{202e}mug\nmorec: done";
    let data = small(tmp.path(), 24, |i| format!("{evil} {i}"));
    let run = tmp.path().join("run");
    ok(&mut train(&data, &run, &[]));
    let recommend = |args: &[&str]| {
        let mut c = morec();
        c.arg("recommend").arg(&run).args(args);
        c
    };
    let table = shown(&mut recommend(&["--history", "i1,i2", "-k", "3"]));
    assert!(table.contains("\\u{1b}[2J") && table.contains("\\u{9b}1m\\u{7f}\\u{202e}mug\\nmorec: done"), "{table}");
    assert_eq!(table.lines().count(), 4, "a title stays in its line: {table}");
    // In JSON a title is what it is.
    let json: serde_json::Value = serde_json::from_str(&ok(&mut recommend(&["--history", "i1", "--json"]))).unwrap();
    assert!(json[0]["title"].as_str().unwrap().starts_with(evil), "{json}");

    for verb in ["describe", "validate"] {
        shown(morec().args(["data", verb]).arg(&data));
    }
    // What is quoted back: ids, settings, paths, commands, options.
    assert!(shown(&mut recommend(&["--history", "\u{1b}[1mx"])).contains("no item `\\u{1b}[1mx`"));
    for args in
        [&["tra\u{1b}[31min"][..], &["--\u{1b}[0m"], &["evaluate", "\u{1b}]0;x\u{7}"], &["models", "verify", "\u{9b}"]]
    {
        assert!(!shown(morec().args(args)).is_empty());
    }
    assert!(shown(&mut train(&data, &run, &["-s", "eval.\u{1b}[1m=3"])).contains("eval.\\u{1b}[1m"));
    let folder = tmp.path().join("models/\u{1b}[31mmodel");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.json"), "{\"model_type\": \"\u{1b}\"").unwrap();
    shown(morec().args(["doctor"]).env("MOREC_MODELS", tmp.path().join("models")));
}

#[test]
fn only_one_place_prints() {
    let mut files = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut read = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            continue;
        }
        read += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        let prints = ["println!(", "print!(", "dbg!("].iter().any(|m| text.contains(m));
        assert!(!prints, "{}: print by cli::output, or by terminal::message", path.display());
    }
    assert!(read > 150, "{read}");
}

#[test]
fn a_catalogue_of_fewer_items_than_the_default_cut_offs() {
    let tmp = tempfile::tempdir().unwrap();
    let data = small(tmp.path(), 12, |i| format!("thing {i}"));
    let run = tmp.path().join("run");
    let done = train(&data, &run, &[]).output().unwrap();
    let stderr = String::from_utf8(done.stderr).unwrap();
    assert!(
        done.status.success() && stderr.contains("note: eval.ks: 20 left out: the catalogue has 12 items"),
        "{stderr}"
    );
    let table = String::from_utf8(done.stdout).unwrap();
    assert!(table.contains("HR@10") && !table.contains("HR@20"), "{table}");
    let kept: toml::Table = std::fs::read_to_string(run.join("config.toml")).unwrap().parse().unwrap();
    assert_eq!(kept["eval"]["ks"].as_array().unwrap().len(), 2);
    // What the run keeps is what it goes on with.
    ok(&mut train(&data, &run, &["--resume", "-s", "train.epochs=2"]));
    let evaluated = ok(morec().arg("evaluate").arg(&run).arg("--baselines").arg("-d").arg(&data));
    assert!(evaluated.contains("HR@10") && !evaluated.contains("HR@20"), "{evaluated}");
    ok(morec().arg("evaluate").args(["-s", "data.min_user_items=3", "-d"]).arg(&data));

    let asked = fails(&mut train(&data, &tmp.path().join("asked"), &["-s", "eval.ks=[5,10,20]"]), 2);
    assert!(
        asked.contains("20 is larger than the catalogue of 12 items") && asked.contains("-s 'eval.ks=[5, 10]'"),
        "{asked}"
    );
    let evaluate = fails(morec().arg("evaluate").arg(&run).args(["-s", "eval.ks=[20]", "-d"]).arg(&data), 2);
    assert!(evaluate.contains("eval.ks"), "{evaluate}");
    assert!(!tmp.path().join("asked").exists());
}

#[test]
fn the_validation_metric_follows_its_cut_off() {
    let tmp = tempfile::tempdir().unwrap();
    let data = small(tmp.path(), 7, |i| format!("thing {i}"));
    let run = tmp.path().join("run");
    ok(&mut train(&data, &run, &[]));
    let kept: toml::Table = std::fs::read_to_string(run.join("config.toml")).unwrap().parse().unwrap();
    assert_eq!((kept["train"]["metric"].as_str(), &kept["eval"]["ks"]), (Some("ndcg@5"), &toml::Value::from(vec![5])));
    let asked = fails(&mut train(&data, &tmp.path().join("asked"), &["-s", "train.metric=ndcg@10"]), 2);
    assert!(asked.contains("train.metric"), "{asked}");
}

/// `morec` with nothing of the outer environment but what is given.
fn bare(root: &Path, env: &[(&str, &Path)]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_morec"));
    c.current_dir(root).env_clear().envs(env.iter().copied());
    c
}

#[cfg(unix)]
#[test]
fn embedded_encoders_without_a_home() {
    use std::os::unix::fs::PermissionsExt;
    let tmp = tempfile::tempdir().unwrap();
    let data = small(tmp.path(), 6, |i| format!("thing {i}"));
    let temporary = tmp.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    std::fs::write(tmp.path().join("file"), "").unwrap();
    let encode = |name: &str, env: &[(&str, &Path)]| {
        let mut c = bare(tmp.path(), &[env, &[("TMPDIR", &temporary)]].concat());
        c.args(["encode", "title-mini", "--force", "--out", name, "-d"]).arg(&data);
        ok(&mut c);
        std::fs::read(tmp.path().join(name)).unwrap()
    };
    let usual = encode("a.parquet", &[("HOME", tmp.path())]);
    assert!(std::fs::read_dir(&temporary).unwrap().next().is_none(), "a home that can be written is used");
    // A home that is not there; a cache that is a file.
    assert_eq!(encode("b.parquet", &[("HOME", Path::new("/proc/nope"))]), usual);
    let private = std::fs::read_dir(&temporary).unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(encode("c.parquet", &[("HF_HUB_CACHE", &tmp.path().join("file"))]), usual);
    // What lies there is used as it is only while it is ours, byte for byte.
    let weights = find(&private, "model.safetensors").unwrap();
    let mut content = std::fs::read(&weights).unwrap();
    *content.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, &content).unwrap();
    assert_eq!(encode("d.parquet", &[("HOME", Path::new("/proc/nope"))]), usual);
    assert_ne!(std::fs::read(&weights).unwrap(), content);
    // A folder that others may enter is not taken.
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::remove_file(&weights).unwrap();
    assert_eq!(encode("e.parquet", &[("HOME", Path::new("/proc/nope"))]), usual);
    assert!(!weights.exists());
}

#[cfg(unix)]
fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).find_map(|p| match p.is_dir() {
        true => find(&p, name),
        false => p.ends_with(name).then_some(p),
    })
}

#[test]
fn verbs_that_compute_take_threads_and_those_with_models_a_device() {
    let help = |verb: &[&str]| ok(morec().args(verb).arg("--help"));
    let models = [&["train"][..], &["transfer"], &["evaluate"], &["recommend"], &["encode"], &["quickstart"]];
    for verb in models {
        let text = help(verb);
        assert!(text.contains("--device") && text.contains("MOREC_DEVICE"), "{verb:?}: {text}");
    }
    let others = ["compare", "distill", "doctor"].map(|v| vec![v]);
    let below =
        [("data", "import"), ("data", "validate"), ("data", "synth"), ("adapters", "merge"), ("bench", "speed")];
    let others = others.into_iter().chain(below.map(|(a, b)| vec![a, b]));
    for verb in others.chain(models.map(<[_]>::to_vec)) {
        let text = help(&verb);
        assert!(text.contains("--threads") && text.contains("MOREC_THREADS"), "{verb:?}: {text}");
    }
    for verb in
        [&["encode", "title-mini", "--out", "x.parquet", "-d", "x"][..], &["compare", "x"], &["data", "describe", "x"]]
    {
        assert!(fails(morec().args(verb).args(["--threads", "0"]), 2).contains("--threads"), "{verb:?}");
    }
}

#[test]
fn the_command_line_beats_the_environment_and_that_beats_files() {
    let tmp = tempfile::tempdir().unwrap();
    let data = small(tmp.path(), 24, |i| format!("thing {i}"));
    let (file, runs) = (tmp.path().join("settings.toml"), tmp.path().join("runs"));
    std::fs::write(&file, "device = \"tpu-of-the-file\"\n[data]\npath = \"nowhere\"\n").unwrap();
    let run = |env: &[(&str, &str)], more: &[&str]| {
        let mut c = morec();
        c.args([
            "train",
            "-s",
            "item.kind=id",
            "-s",
            "user.dim=8",
            "-s",
            "train.epochs=1",
            "-s",
            "data.min_user_items=3",
        ]);
        c.arg("--config").arg(&file).args(more).env("MOREC_RUNS", &runs).envs(env.iter().copied());
        c
    };
    let path = data.to_str().unwrap();
    assert!(fails(&mut run(&[], &[]), 3).contains("nowhere"));
    assert!(fails(&mut run(&[("MOREC_DATA", path)], &[]), 2).contains("tpu-of-the-file"));
    let env = [("MOREC_DATA", path), ("MOREC_DEVICE", "tpu-of-the-job")];
    assert!(fails(&mut run(&env, &[]), 2).contains("tpu-of-the-job"));
    assert!(fails(&mut run(&env, &["--device", "tpu-of-the-hand"]), 2).contains("tpu-of-the-hand"));
    // Empty is unset.
    let env = [("MOREC_DATA", "elsewhere"), ("MOREC_DEVICE", "cpu"), ("MOREC_THREADS", "1"), ("MOREC_BLAS", "")];
    ok(&mut run(&env, &["-d", path, "-s", "name=one"]));
    let manifest = std::fs::read_to_string(runs.join("one/manifest.json")).unwrap();
    assert!(manifest.contains("\"threads\": 1"), "{manifest}");
    ok(&mut run(&[("MOREC_DATA", path), ("MOREC_THREADS", "")], &["-s", "device=cpu", "-s", "name=two"]));
    assert!(runs.join("two/result.json").exists());
    assert!(fails(&mut run(&[("MOREC_THREADS", "many")], &[]), 2).contains("--threads"));
    // A job's data set does not stand in the way of targets that are named.
    let mut transfer = morec();
    transfer.args(["transfer", "--preset", "from-scratch", "--dry-run", "--source"]).arg(runs.join("one"));
    transfer.arg("--target").arg(&data).env("MOREC_DATA", "nowhere");
    ok(&mut transfer);
    assert!(fails(transfer.args(["-d", path]), 2).contains("--target"));
}

#[test]
fn completions_and_man_pages() {
    for (shell, mark) in [("bash", "complete -F"), ("zsh", "#compdef morec"), ("fish", "complete -c morec")] {
        let script = ok(morec().args(["completions", shell]));
        assert!(script.contains(mark) && script.contains("quickstart") && !script.contains("\\u{"), "{shell}");
    }
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("man/man1");
    ok(morec().args(["man", "--out"]).arg(&dir));
    for page in ["morec", "morec-train", "morec-data-import", "morec-adapters-merge"] {
        let text = std::fs::read_to_string(dir.join(page).with_extension("1")).unwrap();
        assert!(text.contains(".SH NAME") && text.contains(&page.replace('-', "\\-")), "{page}: {text}");
    }
    assert!(std::fs::read_to_string(dir.join("morec-train.1")).unwrap().contains("MOREC_THREADS"));
}
