//! Raw files of every import format, read without writing a data set.

use super::damage::Format;
use super::{DATA, Runner};
use crate::support::domain;
use flate2::write::GzEncoder;
use morec::data::import::feed::EventColumns;
use morec::data::import::generic::{ColumnMap, Generic};
use morec::data::import::morec::MoRec;
use morec::data::import::ninerec::{Language, NineRec};
use morec::data::import::recbole::{Options, RecBole};
use morec::data::import::table::Layout;
use morec::data::import::{InputFiles, Source, read};
use morec::data::{DatasetParts, Policy};
use std::io::Write;
use std::path::Path;

/// Reads a source that is found anew each time: what its header says may have changed.
fn take(source: morec::Result<impl Source>) -> morec::Result<()> {
    read(&source?, &Policy::default(), Box::new(|_, _, _| {})).map(|_| ())
}

fn rows(separator: &str, header: &str) -> String {
    let mut text = format!("{header}\n");
    for (u, i) in (0..12).flat_map(|u| (0..4).map(move |i| (u, (u * 3 + i * 5) % 9))) {
        let fields =
            [format!("u{u}"), format!("i{i}"), format!("{}", 978_300_760 + u * 100 + i), format!("{}.5", i % 5)];
        text += &(fields.join(separator) + "\n");
    }
    text
}

fn items(separator: &str, header: &str) -> String {
    let one = |i: usize| format!("i{i}{separator}Title {i} &amp; café{separator}word {i}\n");
    header.to_string() + &(0..9).map(one).collect::<String>()
}

fn generic(r: &mut Runner, tmp: &Path) {
    let map = || ColumnMap {
        events: EventColumns {
            user: "user".into(),
            item: "item".into(),
            time: Some("ts".into()),
            rating: Some("rating".into()),
        },
        min_rating: Some(1.0),
        item_id: Some("id".into()),
        text: vec!["title".into()],
        ..Default::default()
    };
    let csv = tmp.join("csv");
    std::fs::create_dir_all(&csv).unwrap();
    let given = |dir: &Path| InputFiles { inputs: vec![dir.into()], ..Default::default() };
    std::fs::write(csv.join("interactions.csv"), rows(",", "user,item,ts,rating")).unwrap();
    let plain = items(",", "id,title,genre\n").replace("Title 3 &amp; café", "\"Quoted, \"\"title\"\"\nof two lines\"");
    std::fs::write(csv.join("items.csv"), plain).unwrap();
    let read_csv = || take(Generic::new(&given(&csv), Layout::csv(true), map()));
    r.parser("interactions.csv", 120, DATA, Format::Text, &csv.join("interactions.csv"), read_csv);
    r.parser("items.csv", 80, DATA, Format::Text, &csv.join("items.csv"), read_csv);

    let gz = tmp.join("gz");
    std::fs::create_dir_all(&gz).unwrap();
    let mut packed = GzEncoder::new(vec![], flate2::Compression::fast());
    packed.write_all(rows("\t", "user\titem\tts\trating").as_bytes()).unwrap();
    std::fs::write(gz.join("interactions.tsv.gz"), packed.finish().unwrap()).unwrap();
    let read_gz = || take(Generic::new(&given(&gz), Layout::tsv(true), map()));
    r.parser("interactions.tsv.gz", 80, DATA, Format::Bytes, &gz.join("interactions.tsv.gz"), read_gz);

    let jsonl = tmp.join("jsonl");
    std::fs::create_dir_all(&jsonl).unwrap();
    let line = |l: &str| {
        let f: Vec<&str> = l.split(',').collect();
        format!(
            "{{\"user\":\"{}\",\"item\":\"{}\",\"ts\":{},\"rating\":{},\"tags\":[\"a\",1]}}\n",
            f[0], f[1], f[2], f[3]
        )
    };
    let all: String = rows(",", "").lines().skip(1).map(line).collect();
    std::fs::write(jsonl.join("interactions.jsonl"), all).unwrap();
    let read_jsonl = || take(Generic::new(&given(&jsonl), Layout::Jsonl, map()));
    r.parser("interactions.jsonl", 120, DATA, Format::Text, &jsonl.join("interactions.jsonl"), read_jsonl);

    // The tables of a data set of ours are Parquet files like others.
    let set = tmp.join("set");
    let mut data = domain("small", 12, 10);
    data.times = Some((0..data.seqs.values.len() as i64).map(|i| 1_000_000_000 + i).collect());
    data.save(&set, DatasetParts::default()).unwrap();
    let parquet = tmp.join("parquet");
    std::fs::create_dir_all(&parquet).unwrap();
    std::fs::copy(set.join("interactions.parquet"), parquet.join("interactions.parquet")).unwrap();
    let columns = || ColumnMap {
        events: EventColumns { user: "user".into(), item: "item".into(), time: Some("timestamp".into()), rating: None },
        ..Default::default()
    };
    let read_parquet = || take(Generic::new(&given(&parquet), Layout::Parquet, columns()));
    let path = parquet.join("interactions.parquet");
    r.parser("interactions.parquet, imported", 120, DATA, Format::Bytes, &path, read_parquet);
}

fn named(r: &mut Runner, tmp: &Path) {
    let dir = |name: &str, files: &[(&str, String)]| {
        let dir = tmp.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        files.iter().for_each(|(n, text)| std::fs::write(dir.join(n), text).unwrap());
        (InputFiles { inputs: vec![dir.clone()], ..Default::default() }, dir)
    };
    let inter = rows("\t", "user_id:token\titem_id:token\ttimestamp:float\trating:float");
    let item = items("\t", "item_id:token\ttitle:token_seq\tgenre:token\n");
    let (given, at) = dir("recbole", &[("d.inter", inter), ("d.item", item)]);
    let read = || take(RecBole::new(&given, Options::default()));
    r.parser("d.inter", 100, DATA, Format::Text, &at.join("d.inter"), read);
    r.parser("d.item", 60, DATA, Format::Text, &at.join("d.item"), read);

    let pairs: String =
        rows(",", "").lines().skip(1).map(|l| l.rsplit_once(',').unwrap().0.to_string() + "\n").collect();
    let (given, at) = dir("ninerec", &[("x_pair.csv", pairs), ("x_item.csv", items(",", ""))]);
    let order = ["user", "item", "timestamp"].map(String::from);
    let read = || take(NineRec::new(&given, &order, Language::En));
    r.parser("x_pair.csv", 80, DATA, Format::Text, &at.join("x_pair.csv"), read);
    r.parser("x_item.csv", 60, DATA, Format::Text, &at.join("x_item.csv"), read);

    let behaviours: String = (0..12).map(|u| format!("u{u}\ti{} i{} i{}\n", u % 9, (u + 3) % 9, (u + 5) % 9)).collect();
    let (given, at) = dir("morec", &[("users.tsv", behaviours), ("items.tsv", items("\t", ""))]);
    let read = || take(MoRec::new(&given, &[]));
    r.parser("users.tsv", 80, DATA, Format::Text, &at.join("users.tsv"), read);
    r.parser("items.tsv", 60, DATA, Format::Text, &at.join("items.tsv"), read);
}

pub fn run(r: &mut Runner) {
    let tmp = tempfile::tempdir().unwrap();
    generic(r, tmp.path());
    named(r, tmp.path());
}
