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
    let models = [
        &["train"][..],
        &["transfer"],
        &["evaluate"],
        &["recommend"],
        &["encode"],
        &["quickstart"],
        &["distill"],
        &["bench", "speed"],
    ];
    for verb in models {
        let text = help(verb);
        assert!(text.contains("--device") && text.contains("MOREC_DEVICE"), "{verb:?}: {text}");
    }
    let others = ["compare", "doctor"].map(|v| vec![v]);
    let below = [("data", "import"), ("data", "validate"), ("data", "synth"), ("adapters", "merge")];
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
    // Work that exists for the CPU only is not done there in silence.
    for verb in [&["distill", "--teacher", "title-mini", "-d", "x", "--out", "y"][..], &["bench", "speed"]] {
        assert!(fails(morec().args(verb).env("MOREC_DEVICE", "cuda"), 2).contains("CPU only"), "{verb:?}");
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

/// Imports `events` (a CSV file's text) and returns the command's JSON.
fn imported(dir: &Path, name: &str, events: &str, more: &[&str]) -> serde_json::Value {
    let file = dir.join(format!("{name}.csv"));
    std::fs::write(&file, events).unwrap();
    let mut c = morec();
    c.args(["data", "import", "--format", "csv", "--time-col", "ts", "--json", "--interactions"]).arg(&file).args(more);
    serde_json::from_str(&ok(c.arg("--out").arg(dir.join(name)))).unwrap()
}

/// Trains an ID model for an epoch in `dir`, on the data set `data`, into `run`.
fn id_run(dir: &Path, data: &str) -> Command {
    let mut c = morec();
    c.current_dir(dir).args(["train", "-d", data, "--out", "run", "-s", "item.kind=id", "-s", "user.dim=8"]);
    c.args(["-s", "train.epochs=1"]);
    c
}

#[test]
fn columns_without_a_name_are_not_read() {
    let tmp = tempfile::tempdir().unwrap();
    let rows: String = (0..9).map(|i| format!("u{},i{},{},,\n", i % 3, i, 100 + i)).collect();
    imported(tmp.path(), "unnamed", &format!("user_id,item_id,ts,,\n{rows}"), &[]);
    let data = morec::data::Dataset::open(&tmp.path().join("unnamed")).unwrap();
    assert_eq!((data.users.len(), data.items.ids.len(), data.seqs.values.len()), (3, 9, 9));
    // Two columns of one name are still an error, which names it.
    std::fs::write(tmp.path().join("twice.csv"), "user_id,item_id,ts,ts\nu,i,1,2\n").unwrap();
    let mut c = morec();
    c.args(["data", "import", "--format", "csv", "--time-col", "ts", "--interactions"])
        .arg(tmp.path().join("twice.csv"));
    assert!(fails(c.arg("--out").arg(tmp.path().join("no")), 3).contains("`ts`"));
}

#[test]
fn markers_of_missing_ids_are_counted_and_dropped_on_demand() {
    let tmp = tempfile::tempdir().unwrap();
    let markers = ["nan", "NaN", "None", "null", "NULL", "\\N", "<NA>", "NA"];
    let rows: String = markers.iter().enumerate().map(|(t, m)| format!("{m},i{t},{t}\nann,j{t},{t}\n")).collect();
    let events = format!("user_id,item_id,ts\n{rows}");
    let users = |name: &str| morec::data::Dataset::open(&tmp.path().join(name)).unwrap().users;
    let said = imported(tmp.path(), "kept", &events, &[]).to_string();
    assert!(said.contains("null_ids") && said.contains("--drop-null-ids"), "{said}");
    assert_eq!(users("kept").len(), 9);
    let said = imported(tmp.path(), "dropped", &events, &["--drop-null-ids"]).to_string();
    assert!(said.contains("null_ids"), "{said}");
    assert_eq!(users("dropped"), ["ann"]);
}

#[test]
fn a_run_is_resumed_under_another_spelling_of_its_paths() {
    let tmp = tempfile::tempdir().unwrap();
    small(tmp.path(), 24, |i| format!("mug {i}"));
    let train = |data: &str| {
        let mut c = id_run(tmp.path(), data);
        c.arg("--json");
        c
    };
    let first = ok(&mut train("data"));
    let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["test"]["all"].clone();
    for spelling in ["./data", "data/"] {
        assert_eq!(read(&ok(train(spelling).arg("--resume"))), read(&first));
    }
    // Another data set is another matter.
    let other = tempfile::tempdir().unwrap();
    small(other.path(), 30, |i| format!("cup {i}"));
    let message = fails(train(&other.path().join("data").display().to_string()).arg("--resume"), 2);
    assert!(message.contains("input `data`"), "{message}");
}

#[test]
fn a_file_of_users_is_read_as_imports_read_files() {
    use std::io::Write;
    let tmp = tempfile::tempdir().unwrap();
    let rows: String = (0..60).map(|i| format!("u{},\"a, {} b\",{i}\n", i % 6, i % 24)).collect();
    imported(tmp.path(), "data", &format!("user_id,item_id,ts\n{rows}"), &[]);
    let at = |name: &str| tmp.path().join(name);
    ok(&mut id_run(tmp.path(), "data"));
    let ask = |more: &[&str]| {
        let mut c = morec();
        c.current_dir(tmp.path()).args(["recommend", "run", "-k", "3"]).args(more);
        c
    };
    // Ids with commas and spaces: as they are, or as JSON lines.
    let alone: serde_json::Value =
        serde_json::from_str(&ok(&mut ask(&["--item", "a, 1 b", "--item", "a, 2 b", "--json"]))).unwrap();
    let lines = "\u{feff}{\"user\": \"ann\", \"items\": [\"a, 1 b\", \"a, 2 b\"]}\n\n{\"user\": \"bob\", \"items\": [\"a, 3 b\"]}\n";
    std::fs::write(at("users.jsonl"), lines).unwrap();
    let mut gz =
        flate2::write::GzEncoder::new(std::fs::File::create(at("users.gz")).unwrap(), flate2::Compression::fast());
    gz.write_all(lines.as_bytes()).unwrap();
    gz.finish().unwrap();
    for users in ["users.jsonl", "users.gz"] {
        ok(&mut ask(&["--users", users, "--out", "out.jsonl"]));
        let said = std::fs::read_to_string(at("out.jsonl")).unwrap();
        let first: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
        assert_eq!((first["user"].as_str(), said.lines().count()), (Some("ann"), 2), "{said}");
        assert_eq!(first["items"][0]["item"], alone[0]["item"]);
    }
    std::fs::write(at("latin1.txt"), b"ann\tcaf\xe9\n").unwrap();
    assert!(fails(&mut ask(&["--users", "latin1.txt", "--out", "out.jsonl"]), 3).contains("not UTF-8"));
}

#[test]
fn files_that_are_no_text_are_told_by_their_first_bytes() {
    let tmp = tempfile::tempdir().unwrap();
    let cases: [(&[u8], &str); 7] = [
        (b"PK\x03\x04rest", "zip"),
        (b"BZh91AY", "bzip2"),
        (b"\xfd7zXZ\0\0", "xz"),
        (b"\x28\xb5\x2f\xfd....", "zstd"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"PAR1....", "--format parquet"),
        (b"SQLite format 3\0", "SQLite"),
    ];
    for (bytes, named) in cases {
        std::fs::write(tmp.path().join("x.csv"), bytes).unwrap();
        let mut c = morec();
        c.args(["data", "import", "--format", "csv", "--interactions"]).arg(tmp.path().join("x.csv"));
        let message = fails(c.arg("--out").arg(tmp.path().join("no")), 3);
        assert!(message.contains(named), "{message}");
    }
}

#[test]
fn another_delimiter_is_named_with_what_to_do() {
    let tmp = tempfile::tempdir().unwrap();
    let cases = [
        ("csv", "user_id;item_id;ts\nu;i;1\n", "semicolons"),
        ("csv", "user_id::item_id::ts\nu::i::1\n", "sed 's/::/,/g'"),
        ("csv", "user_id\titem_id\tts\nu\ti\t1\n", "--format tsv"),
        ("tsv", "user_id,item_id,ts\nu,i,1\n", "--format csv"),
        ("csv", "user_id\rnext\r", "carriage returns"),
    ];
    for (format, text, named) in cases {
        let file = tmp.path().join(format!("x.{format}"));
        std::fs::write(&file, text).unwrap();
        let mut c = morec();
        c.args(["data", "import", "--format", format, "--interactions"]).arg(&file);
        let message = fails(c.arg("--out").arg(tmp.path().join("no")), 3);
        assert!(message.contains(named), "{message}");
    }
}

#[test]
fn an_evaluation_says_that_the_data_changed_under_the_run() {
    let tmp = tempfile::tempdir().unwrap();
    small(tmp.path(), 24, |i| format!("mug {i}"));
    let said = |args: &[&str]| {
        let out = morec().current_dir(tmp.path()).args(args).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stderr).unwrap()
    };
    let model =
        ["-s", "item.model=title-mini", "-s", "user.dim=8", "-s", "train.epochs=1", "-s", "item.train_layers=0"];
    said(&[&["train", "-d", "data", "--out", "run"], &model[..]].concat());
    assert!(!said(&["evaluate", "run"]).contains("other data"));
    std::fs::remove_dir_all(tmp.path().join("data")).unwrap();
    small(tmp.path(), 24, |i| format!("cup {i}"));
    assert!(said(&["evaluate", "run"]).contains("holds other data now"));
}
