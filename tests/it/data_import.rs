//! Every import format, the policies, the stable sort, and the folder.

use crate::data_support::{Sublayer, dataset, raw, rows};
use arrow::array::{Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use flate2::write::GzEncoder;
use morec::data::import::Outcome;
use morec::data::{Dataset, DatasetParts, validate};
use morec::rng::Stream;
use std::fs;
use std::io::Write;
use std::sync::Arc;

const INTER: &str = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n\
    a\tx\t5\t881250949\nb\ty\t1\t881250950.0\na\ty\t3\t881250940\na\tz\t4\t881250949\n";
const ITEM: &str = "item_id:token\tmovie_title:token_seq\tclass:token_seq\n\
    z\tZ &amp; co\tdrama\nx\t  X  one \t\ny\tY\tcomedy war\n";
const USER: &str = "user_id:token\tage:token\nb\t30\na\t20\nc\t40\n";

#[test]
fn recbole_interactions() {
    let p = Sublayer::new();
    p.file("raw/d.inter", INTER).file("raw/d.item", ITEM).file("raw/d.user", USER);
    let (done, d) = p.import("--format recbole @/raw");
    assert_eq!(done.outcome, Outcome::Built);
    assert_eq!(d.items.ids, ["z", "x", "y"], "order of the items file");
    assert_eq!(d.items.text, ["Z & co", "X one", "Y"]);
    assert_eq!(d.items.attributes["class"], ["drama", "", "comedy war"]);
    assert_eq!(d.user_attributes["age"], ["20", "30"]);
    assert_eq!(raw(&d), rows("a y x z; b y"), "by time, then by file order");
    assert_eq!(d.times, Some(vec![881250940, 881250949, 881250949, 881250950]));
    assert_eq!(done.notes.count("idle_users"), 1);
    assert_eq!(d.name, "out");

    let (done, d) = p.import("--format recbole @/raw --min-rating 4 --raw-text");
    assert_eq!(done.outcome, Outcome::Rebuilt, "other settings");
    assert_eq!(raw(&d), rows("a x z"));
    assert_eq!(d.items.text[1], "  X  one ");
    assert_eq!(done.notes.count("below_min_rating"), 2);
}

#[test]
fn recbole_sequences() {
    let p = Sublayer::new();
    p.file("raw/d.test.inter", "user_id:token\titem_id_list:token_seq\titem_id:token\n0\t1 2\t3\n1\t\t2\n");
    p.file("raw/d.item", "item_id:token\ttitle:token_seq\n1\tA\n2\tB\n3\tC\n");
    let (_, d) = p.import("--format recbole @/raw");
    assert_eq!(raw(&d), rows("0 1 2 3; 1 2"));
    assert_eq!(d.times, None);
}

#[test]
fn morec() {
    let p = Sublayer::new();
    p.file("raw/users.tsv", "u\tb a b\nv\tc\n")
        .file("raw/items.tsv", "a\tA \"quoted\tlong\nb\tB\t\nc\t&quot;C&quot;\tx\n");
    let (_, d) = p.import("--format morec @/raw");
    assert_eq!(raw(&d), rows("u b a b; v c"));
    assert_eq!(d.items.text, ["A \"quoted", "B", "\"C\""]);
    assert_eq!(d.items.attributes["abstract"], ["long", "", "x"]);
    let (_, d) = p.import("--format morec @/raw --text-fields title,abstract");
    assert_eq!(d.items.text, ["A \"quoted long", "B", "\"C\" x"]);
}

#[test]
fn ninerec() {
    let p = Sublayer::new();
    p.file("raw/m_pair.csv", "u1,v1,1000000002\nu1,v2,1000000001\n").file("raw/m_behaviour.tsv", "u1\tv2 v1\n");
    p.file("raw/m_item.csv", "v1,\u{4e00},\"One, the \"\"first\"\"\"\nv2,\u{4e8c},Two\n");
    p.file("raw/m_user.csv", "user_id,age\nu1,7\n");
    let (_, d) = p.import("--format ninerec @/raw --pair-columns user,item,timestamp");
    assert_eq!(raw(&d), rows("u1 v2 v1"));
    assert_eq!(d.items.text, ["One, the \"first\"", "Two"]);
    assert_eq!(d.user_attributes["age"], ["7"]);
    let (_, d) = p.import("--format ninerec @/raw --pair-columns user,item,_ --language zh");
    assert_eq!(raw(&d), rows("u1 v1 v2"), "without time, the order of the file");
    assert_eq!((d.times.is_none(), d.items.text[0].as_str()), (true, "\u{4e00}"));
    let (_, d) = p.import("--format ninerec @/raw --interactions m_behaviour.tsv");
    assert_eq!(raw(&d), rows("u1 v2 v1"));
}

#[test]
fn generic_text_formats_agree() {
    let table = [("u", "x", "1000000005"), ("u", "y", "1000000001"), ("v", "x", "1000000001")];
    let lines = |sep: &str| table.map(|(a, b, c)| [a, b, c].join(sep)).join("\n");
    let json =
        table.map(|(a, b, c)| format!("{{\"ts\":{c},\"uid\":\"{a}\",\"iid\":\"{b}\",\"nested\":{{}}}}")).join("\n");
    let p = Sublayer::new();
    p.file("a/interactions.csv", format!("\u{feff}uid,iid,ts\r\n{}\r\n", lines(",").replace('\n', "\r\n")));
    p.file("a/items.csv", "id,title,description,year\r\nx,X,\"two\nlines\",1999\r\n\r\ny,Y,,\r\n");
    p.file("b/interactions.tsv", format!("uid\tiid\tts\n{}", lines("\t")));
    p.file("b/items.tsv", "id\ttitle\tdescription\tyear\nx\tX\ttwo lines\t1999\ny\tY\t\t\n");
    p.file("c/interactions.jsonl", json);
    p.file(
        "c/items.jsonl",
        "{\"id\":\"x\",\"title\":\"X\",\"description\":[\"two\",\"lines\"]}\n\n{\"id\":\"y\",\"title\":\"Y\",\"year\":null,\"description\":null}\n",
    );
    let mut gz = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(format!("uid,iid,ts\n{}\n", lines(",")).as_bytes()).expect("gz");
    p.file("d/interactions.csv.gz", gz.finish().expect("gz"));
    p.file("d/items.csv", "id,title,description\nx,X,two lines\ny,Y,\n");
    for (dir, format) in [("a", "csv"), ("b", "tsv"), ("c", "jsonl"), ("d", "csv")] {
        let flags = "--user-col uid --item-col iid --time-col ts --item-id-col id --text-cols title,description";
        let (_, d) = p.import(&format!("--format {format} @/{dir} {flags}"));
        assert_eq!(raw(&d), rows("u y x; v x"), "{dir}");
        assert_eq!(d.items.text, ["X two lines", "Y"], "{dir}");
        if dir < "c" {
            assert_eq!(d.items.attributes["year"], ["1999", ""]);
        }
    }
    p.file("plain.csv", lines(","));
    let (_, d) = p.import("--format csv --interactions @/plain.csv --no-header --user-col 1 --item-col 2 --time-col 3");
    assert_eq!(raw(&d), rows("u y x; v x"));
}

#[test]
fn generic_parquet() {
    let p = Sublayer::new();
    let batch = RecordBatch::try_from_iter([
        ("user_id", Arc::new(Int64Array::from(vec![7, 7, 8])) as _),
        ("item_id", Arc::new(StringArray::from(vec!["x", "y", "x"])) as _),
        (
            "ts",
            Arc::new(TimestampMillisecondArray::from(vec![1_000_000_000_900, 1_000_000_000_100, 1_000_000_000_000]))
                as _,
        ),
    ])
    .expect("batch");
    let file = fs::File::create(p.path("interactions.parquet")).expect("file");
    let mut w = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).expect("writer");
    w.write(&batch).expect("write");
    w.close().expect("close");
    let (done, d) = p.import("--format parquet @/interactions.parquet --time-col ts");
    assert_eq!(raw(&d), rows("7 y x; 8 x"), "sorted by the milliseconds that the seconds lose");
    assert_eq!(d.times, Some(vec![1_000_000_000; 3]));
    assert_eq!(done.notes.count("converted_timestamps"), 3);
    assert_eq!(done.notes.count("items_without_row"), 2);
}

#[test]
fn counted_warnings() {
    let p = Sublayer::new();
    p.file(
        "interactions.csv",
        "user_id,item_id,ts\nu,x,1000000000.5\nu,q,1000000001\nu,x,1000000000\nu,x,1000000001\nu,x,1000000000\n",
    );
    p.file("items.csv", "item_id,title\nx,X\nx,X \nx,Other\ny,\n");
    let flags = "--format csv @ --time-col ts --text-cols title";
    let (done, d) = p.import(flags);
    let counts = [
        "fractional_timestamps",
        "unknown_items",
        "duplicate_items",
        "conflicting_items",
        "empty_text",
        "duplicate_interactions",
    ];
    assert_eq!(counts.map(|c| done.notes.count(c)), [1, 1, 1, 1, 1, 2], "{:?}", done.notes);
    assert_eq!(raw(&d), rows("u x x x q x"));
    assert_eq!((d.items.ids.join(" "), d.items.text.join("|")), ("x y q".into(), "X||".into()));
    assert!(
        done.notes.iter().any(|n| n.examples.iter().any(|e| e.contains("items.csv:4 x: `X` kept, `Other` left out")))
    );
    let (_, d) = p.import(&format!("{flags} --dedup --unknown-items drop"));
    assert_eq!(raw(&d), rows("u x x"));
    assert_eq!(d.times, Some(vec![1000000000, 1000000001]));
}

#[test]
fn latin1_and_skipped_rows() {
    let p = Sublayer::new();
    p.file("users.tsv", "u\ta\nv\tb\tc\nw\ta\n").file("items.tsv", b"a\tCaf\xe9\n");
    let (done, d) = p.import("--format morec @/users.tsv @/items.tsv --encoding latin1 --skip-malformed 1");
    assert_eq!((d.items.text[0].as_str(), d.users.join(" ")), ("Café", "u w".into()));
    let note = done.notes.iter().find(|n| n.kind == "malformed_rows").expect("note");
    assert!(note.count == 1 && note.examples[0].contains("users.tsv:2"), "{note}");
}

#[test]
fn units_of_time() {
    for (unit, k) in [("s", 1i64), ("ms", 1_000), ("us", 1_000_000), ("ns", 1_000_000_000)] {
        let p = Sublayer::new();
        let t = 1_000_000_000 * k;
        p.file("i.csv", format!("user_id,item_id,t\nu,b,{}\nu,a,{t}\n", t + k));
        for flag in ["auto", unit] {
            let args = format!("--format csv --interactions @/i.csv --time-col t --time-unit {flag}");
            let (done, d) = p.import(&args);
            assert_eq!(d.times, Some(vec![1_000_000_000, 1_000_000_001]), "{unit}");
            assert_eq!(raw(&d), rows("u a b"));
            assert_eq!(done.notes.count("converted_timestamps"), if k == 1 { 0 } else { 2 });
        }
    }
    let p = Sublayer::new();
    p.file("i.csv", "user_id,item_id,t\nu,b,3\nu,a,1\n");
    let (done, d) = p.import("--format csv --interactions @/i.csv --time-col t");
    assert_eq!((raw(&d), done.notes.count("odd_timestamps")), (rows("u a b"), 2));
}

#[test]
fn reused_rebuilt_and_card_kept() {
    let p = Sublayer::new();
    p.file("users.tsv", "u\ta b\n").file("items.tsv", "a\tA\nb\tB\n").file("out/dataset.toml", "name = 'x'\n");
    let args = "--format morec @/users.tsv @/items.tsv";
    let (first, d) = p.import(args);
    assert_eq!(first.outcome, Outcome::Built);
    assert!(!d.digest.is_empty());
    let written = || fs::metadata(p.path("out/manifest.json")).and_then(|m| m.modified()).expect("manifest");
    let before = written();
    assert_eq!(p.import(args).0.outcome, Outcome::UpToDate);
    assert_eq!(written(), before, "not touched");
    let (forced, again) = p.import(&format!("{args} --force"));
    assert_eq!((forced.outcome, &again.digest), (Outcome::Rebuilt, &d.digest), "the same bytes again");
    p.file("out/notes/mine.txt", "keep").file("items.tsv", "a\tA\nb\tBB\n");
    let (changed, d2) = p.import(args);
    assert_eq!(changed.outcome, Outcome::Rebuilt);
    assert_ne!(d2.digest, d.digest);
    fs::write(p.path("out/items.parquet"), "x").expect("damage");
    assert_eq!(p.import(args).0.outcome, Outcome::Rebuilt, "damaged");
    assert_eq!(fs::read_to_string(p.path("out/dataset.toml")).expect("card"), "name = 'x'\n");
    assert_eq!(fs::read_to_string(p.path("out/notes/mine.txt")).expect("notes"), "keep");
}

#[test]
fn damage_is_found() {
    let d = dataset(3, &[(&[0, 1], &[5, 6]), (&[], &[]), (&[2, 2, 0], &[1, 1, 2])]);
    let p = Sublayer::new();
    let out = p.path("out");
    let save = || d.save(&out, DatasetParts::default()).expect("save");
    save();
    let back = Dataset::open(&out).expect("open");
    assert_eq!((back.seqs, back.times), (d.seqs.clone(), d.times.clone()), "with an empty user in between");
    for file in ["items.parquet", "users.parquet", "interactions.parquet"] {
        let path = out.join(file);
        let bytes = fs::read(&path).expect("read");
        fs::remove_file(&path).expect("remove");
        let missing = Dataset::open(&out).expect_err("missing").to_string();
        assert!(missing.contains(file) && missing.contains("morec data import"), "{missing}");
        fs::write(&path, &bytes[..bytes.len() - 1]).expect("cut");
        let cut = Dataset::open(&out).expect_err("cut");
        assert!(cut.exit_code() == 3 && cut.to_string().contains("import the data set again"), "{cut}");
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 3] ^= 1;
        fs::write(&path, flipped).expect("flip");
        assert!(validate::validate(&out).expect_err("flipped").to_string().contains(file));
        fs::write(&path, bytes).expect("restore");
    }
    let (_, notes) = validate::validate(&out).expect("sound again");
    assert_eq!(notes.count("empty_users"), 1);
    // An index out of range, and rows out of order, with sizes that fit.
    for (bad, what) in
        [(dataset(3, &[(&[0, 9], &[5, 6])]), "out of range"), (dataset(3, &[(&[0, 1], &[6, 5])]), "not in order")]
    {
        bad.save(&out, DatasetParts::default()).expect("save");
        let e = Dataset::open(&out).expect_err(what).to_string();
        assert!(e.contains(what), "{e}");
    }
    let manifest = out.join("manifest.json");
    save();
    let text = fs::read_to_string(&manifest).expect("manifest");
    fs::write(&manifest, text.replace("\"users\": 3", "\"users\": 4")).expect("edit");
    assert!(Dataset::open(&out).expect_err("count").to_string().contains("users.parquet"));
    assert_eq!(Dataset::open(&p.path("nowhere")).expect_err("missing").exit_code(), 3);
}

/// Whatever byte of a table is wrong, opening it is an error or gives a data set, never a panic.
#[test]
fn any_flipped_byte() {
    let d = dataset(3, &[(&[0, 1], &[5, 6]), (&[2, 2, 0], &[1, 1, 2])]);
    let p = Sublayer::new();
    let out = p.path("out");
    d.save(&out, DatasetParts::default()).expect("save");
    for file in ["items.parquet", "interactions.parquet"] {
        let bytes = fs::read(out.join(file)).expect("read");
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(out.join(file), bad).expect("write");
            if let Err(e) = Dataset::open(&out) {
                assert_eq!(e.exit_code(), 3, "{file} byte {at}: {e}");
            }
        }
        fs::write(out.join(file), bytes).expect("restore");
    }
}

/// Random interactions against the obvious way to sort them.
#[test]
fn random_round_trips() {
    for seed in 0..20 {
        let mut rng = Stream::new(seed, "import");
        let mut below = |n: u64| rng.below(n) as usize;
        let (users, items) = (1 + below(20), 1 + below(30));
        let n = 1 + below(400);
        let events: Vec<(usize, usize, i64)> =
            (0..n).map(|_| (below(users as u64), below(items as u64), 1_000_000_000 + below(5) as i64)).collect();
        let mut csv = String::from("user_id,item_id,t\n");
        for (u, i, t) in &events {
            csv += &format!("u{u},\"i,{i}\",{t}.0\n");
        }
        let p = Sublayer::new();
        p.file("i.csv", csv);
        let (_, d) = p.import("--format csv --interactions @/i.csv --time-col t");
        let mut order: Vec<usize> = Vec::new();
        for (u, ..) in &events {
            if !order.contains(u) {
                order.push(*u);
            }
        }
        let expected: Vec<(String, Vec<String>)> = order
            .iter()
            .map(|u| {
                let mut mine: Vec<_> = events.iter().filter(|e| e.0 == *u).collect();
                mine.sort_by_key(|e| e.2);
                (format!("u{u}"), mine.iter().map(|e| format!("i,{}", e.1)).collect())
            })
            .collect();
        assert_eq!(raw(&d), expected, "seed {seed}");
        d.save(&p.path("again"), DatasetParts::default()).expect("save");
        assert_eq!(Dataset::open(&p.path("again")).expect("open").digest, d.digest, "seed {seed}");
    }
}
