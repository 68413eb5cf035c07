//! Every kind of bad input: the message names file, line, field and remedy, and nothing is left at the target.

use crate::data_support::Sublayer;
use flate2::write::GzEncoder;
use morec::rng::Stream;
use std::fs;
use std::io::Write;

const CSV: &str = "--format csv --interactions @/i.csv --time-col ts";

fn csv(body: &str) -> Sublayer {
    let p = Sublayer::new();
    p.file("i.csv", format!("user_id,item_id,ts\n{body}"));
    p
}

#[test]
fn malformed_rows() {
    csv("u,x,1000000000\nu,x\n").refuses(CSV, 3, &["i.csv:3", "field `3`", "2 fields where 3", "--skip-malformed"]);
    csv("u,x,1,2\n").refuses(CSV, 3, &["i.csv:2", "4 fields where 3"]);
    csv(",x,1000000000\n").refuses(CSV, 3, &["i.csv:2", "field `user id`", "is empty", "--skip-malformed"]);
    csv("u, ,1000000000\n").refuses(CSV, 3, &["i.csv:2", "field `item id`", "is empty"]);
    csv("u,x,soon\n").refuses(CSV, 3, &["i.csv:2", "field `ts`", "`soon` is not a number", "convert dates"]);
    csv("u,x,\n").refuses(CSV, 3, &["i.csv:2", "field `ts`", "not a number"]);
    csv("u,x,99999999999999999999\n").refuses(CSV, 3, &["i.csv:2", "does not fit in 64 bits"]);
    csv("\"u\"x,x,1\n").refuses(CSV, 3, &["i.csv:2", "field `1`", "follows a closing quote", "--no-quotes"]);
    let p = csv("u,a,1\nu,b,x\nu,c,x\nu,d,x\n");
    p.refuses(&format!("{CSV} --skip-malformed 2"), 3, &["i.csv:5", "after 2 malformed rows skipped"]);
    let (done, d) = p.import(&format!("{CSV} --skip-malformed 3"));
    assert_eq!((d.seqs.values.len(), done.notes.count("malformed_rows")), (1, 3));
}

#[test]
fn an_open_quote_never_swallows_a_file() {
    let p = csv("u,a,1000000000\n\"u,b,1000000000\nu,c,1000000000\nu,d,1000000000\n");
    for flags in [CSV.to_string(), format!("{CSV} --skip-malformed 9")] {
        p.refuses(&flags, 3, &["i.csv:3", "field `1`", "never closed", "--no-quotes"]);
    }
    let (_, d) = p.import(&format!("{CSV} --no-quotes"));
    assert_eq!(d.users, ["u", "\"u"]);
}

#[test]
fn bytes() {
    let p = Sublayer::new();
    p.file("users.tsv", "u\ta\n").file("items.tsv", b"b\tB\na\tCaf\xe9\n");
    let args = "--format morec @/users.tsv @/items.tsv";
    p.refuses(args, 3, &["items.tsv:2", "byte 0xe9 at column 6", "--encoding latin1"]);
    p.file("items.tsv", b"\xff\xfea\0\t\0");
    p.refuses(args, 3, &["items.tsv:1", "UTF-16", "iconv"]);
    let mut gz = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&b"u\ta\n".repeat(1000)).expect("gz");
    let gz = gz.finish().expect("gz");
    p.file("users.tsv.gz", &gz[..gz.len() - 12]).file("items.tsv", "a\tA\n");
    let args = "--format morec @/users.tsv.gz @/items.tsv --skip-malformed 1000";
    p.refuses(args, 3, &["users.tsv.gz", "damaged or cut off", "fetch the file again"]);
    p.file("i.csv", "");
    p.refuses(CSV, 3, &["i.csv", "is empty"]);
    p.file("i.csv", "user_id,item_id,ts\n");
    p.refuses(CSV, 3, &["i.csv", "no interaction"]);
}

#[test]
fn units_mixed() {
    let p = csv("u,a,1000000000\nu,b,1000000001\nu,c,1000000002000\n");
    p.refuses(
        CSV,
        3,
        &["i.csv:4", "field `timestamp`", "looks like milliseconds", "look like seconds", "i.csv:2", "--time-unit"],
    );
    let (done, _) = p.import(&format!("{CSV} --time-unit s"));
    assert_eq!(done.notes.count("odd_timestamps"), 1);
}

#[test]
fn columns() {
    let p = csv("u,x,1000000000\n");
    p.refuses(
        &format!("{CSV} --user-col userid"),
        3,
        &["i.csv:1", "field `userid`", "the file has: user_id, item_id, ts", "`user_id`", "--user-col user_id"],
    );
    p.refuses("--format csv --interactions @/i.csv --time-col zzz", 3, &["field `zzz`", "--time-col"]);
    p.refuses(&format!("{CSV} --min-rating 3"), 2, &["--rating-col"]);
    p.refuses(&format!("{CSV} --min-rating 3 --rating-col stars"), 3, &["i.csv:1", "field `stars`"]);
    p.refuses(&format!("{CSV} --pair-columns user,item"), 2, &["--pair-columns", "--format csv"]);
    p.file("d.csv", "user_id,item_id,item_id\nu,a,b\n");
    p.refuses("--format csv --interactions @/d.csv", 3, &["d.csv:1", "field `item_id`", "twice"]);
    p.file("items.csv", "item_id,title\nx,X\n");
    p.refuses(&format!("{CSV} --items @/items.csv"), 2, &["items.csv", "--text-cols", "item_id, title"]);
    p.refuses(&format!("{CSV} --items @/items.csv --text-cols titel"), 3, &["items.csv:1", "`title`"]);
    p.file("n.csv", "u,x\n");
    p.refuses("--format csv --interactions @/n.csv --no-header --user-col 1 --item-col 3", 3, &["field `3`", "1, 2"]);
}

#[test]
fn ratings() {
    let p = Sublayer::new();
    p.file("i.csv", "user_id,item_id,r\nu,x,good\n");
    let args = "--format csv --interactions @/i.csv --rating-col r --min-rating 3";
    p.refuses(args, 3, &["i.csv:2", "field `r`", "`good` is not a rating"]);
}

#[test]
fn recbole() {
    let p = Sublayer::new();
    p.file("d.inter", "user_id\titem_id:token\nu\tx\n");
    p.refuses("--format recbole @", 3, &["d.inter:1", "field `user_id`", "no type", "--format tsv"]);
    p.file("d.inter", "user_id:token\titem_id:token\nu\tx\n").file("d.item", "item_id:token\tlabel:token\nx\tX\n");
    p.refuses("--format recbole @", 3, &["d.item:1", "which column is the text", "item_id, label", "--text-cols"]);
    p.file("e.inter", "");
    p.refuses("--format recbole @", 2, &["d.inter", "e.inter", "choose with --interactions"]);
    p.refuses("--format recbole @/d.item", 2, &["no `.inter` file", "d.item", "--interactions FILE"]);
    p.refuses("--format recbole @/nowhere", 1, &["nowhere"]);
    p.refuses("--format recbole @ --no-header", 2, &["--no-header", "recbole"]);
    p.file("f.inter", "user_id:token\titem_id_list:token_seq\titem_id:token\nu\tx y\tz\nu\tx y z\tw\n");
    let args = "--format recbole --interactions @/f.inter";
    p.refuses(args, 3, &["f.inter:3", "`u` has a sequence already", "one row a user"]);
    p.file("f.inter", "user_id:token\titem_id_list:token_seq\titem_id:token\nu\tx y\t\n");
    p.refuses(args, 3, &["f.inter:2", "field `item_id`", "not one item id"]);
}

#[test]
fn morec_and_ninerec() {
    let p = Sublayer::new();
    p.file("users.tsv", "u\ta\tb\n");
    p.refuses("--format morec @/users.tsv", 3, &["users.tsv:1", "3 columns where 2"]);
    p.file("n/x_pair.csv", "u,a,1\n").file("n/x_item.csv", "a,b\n");
    p.refuses("--format ninerec @/n", 2, &["x_pair.csv", "disagree", "--pair-columns user,item,timestamp"]);
    p.refuses("--format ninerec @/n --pair-columns user,thing", 2, &["`thing`", "timestamp"]);
    p.refuses("--format ninerec @/n --pair-columns user,timestamp", 2, &["`item` 0 times"]);
    let args = "--format ninerec @/n --pair-columns user,item,timestamp";
    p.refuses(args, 3, &["x_item.csv:1", "2 columns where 3", "Chinese"]);
    p.file("n/x_item.csv", "a,,A\n");
    p.refuses("--format ninerec @/n --pair-columns user,item", 3, &["x_pair.csv:1", "3 columns where 2", "`_`"]);
    p.refuses("--format ninerec @/n --pair-columns item,user,timestamp", 3, &["none of its item ids", "swapped"]);
}

#[test]
fn jsonl_and_parquet() {
    let p = Sublayer::new();
    p.file("i.jsonl", "{\"user_id\":1,\"item_id\":2}\n{\"user_id\":1\n");
    p.refuses("--format jsonl --interactions @/i.jsonl", 3, &["i.jsonl:2", "not a JSON object", "--skip-malformed"]);
    let (_, d) = p.import("--format jsonl --interactions @/i.jsonl --skip-malformed 1");
    assert_eq!(d.items.ids, ["2"]);
    let p = Sublayer::new();
    p.file("i.jsonl", "{\"user_id\":1,\"item_id\":2}\n{\"user_id\":1}\n");
    p.refuses("--format jsonl --interactions @/i.jsonl", 3, &["i.jsonl:2", "field `item id`", "is empty"]);
    p.file("i.parquet", "PAR1 not really");
    p.refuses("--format parquet --interactions @/i.parquet", 3, &["i.parquet", "cannot be read as Parquet"]);
}

#[test]
fn unknown_items_refused() {
    let p = csv("u,x,1000000000\nu,q,1000000000\n");
    p.file("items.csv", "item_id,title\nx,X\n");
    let args = format!("{CSV} --items @/items.csv --text-cols title --unknown-items error");
    p.refuses(&args, 3, &["i.csv:3", "`q` is not in the items file", "--unknown-items keep"]);
}

#[test]
fn what_stands_at_the_target_is_safe() {
    for (file, force) in [("out/precious.txt", ""), ("out/manifest.json", "--force"), ("out", "--force")] {
        let p = csv("u,x,1000000000\n");
        p.file(file, "{\"kind\": \"other\"}");
        let e = p.try_import(&format!("{CSV} {force}")).expect_err(file);
        assert!(e.exit_code() == 2 && e.to_string().contains("not overwritten"), "{e}");
        assert_eq!(fs::read_to_string(p.path(file)).expect("still there"), "{\"kind\": \"other\"}");
    }
    // A failed import leaves the data set that was there.
    let p = csv("u,x,1000000000\n");
    let (_, before) = p.import(CSV);
    p.file("i.csv", "user_id,item_id,ts\nu,x,never\n");
    assert!(p.try_import(CSV).is_err());
    assert_eq!(morec::data::Dataset::open(&p.path("out")).expect("open").digest, before.digest);
}

/// Random bytes never panic, and never leave anything behind when they are refused.
#[test]
fn random_bytes() {
    let alphabet = b"u,x\"1\n\t \r\xe9{}:0.e-";
    for seed in 0..300 {
        let mut s = Stream::new(seed, "bytes");
        let body: Vec<u8> = (0..s.below(60)).map(|_| alphabet[s.below(alphabet.len() as u64) as usize]).collect();
        let p = Sublayer::new();
        p.file("i.csv", [b"user_id,item_id,ts\n".as_slice(), &body].concat())
            .file("i.inter", &body)
            .file("i.jsonl", &body);
        for args in [
            CSV,
            "--format csv --interactions @/i.csv --no-header --user-col 1 --item-col 2 --skip-malformed 9",
            "--format recbole --interactions @/i.inter",
            "--format morec --interactions @/i.inter",
            "--format jsonl --interactions @/i.jsonl",
        ] {
            if p.try_import(args).is_ok() {
                morec::data::Dataset::open(&p.path("out")).unwrap_or_else(|e| panic!("seed {seed} {args}: {e}"));
                fs::remove_dir_all(p.path("out")).expect("remove");
            } else {
                assert!(!p.path("out").exists(), "seed {seed} {args}");
            }
        }
    }
}
