//! `morec compare`: tests equal to scipy's, tables in four formats, runs that must not be compared.

use crate::cli::{fails, morec, ok, saved};
use crate::golden::golden;
use morec::eval::significance::{t_test, wilcoxon};
use std::path::Path;

#[test]
fn the_tests_are_scipys() {
    #[derive(serde::Deserialize)]
    struct Case {
        this: Vec<f64>,
        reference: Vec<f64>,
        t: f64,
        wilcoxon: f64,
    }
    let cases: Vec<Case> =
        serde_json::from_str(&std::fs::read_to_string(golden("significance.json")).unwrap()).unwrap();
    assert_eq!(cases.len(), 3);
    for c in cases {
        let d: Vec<f64> = c.this.iter().zip(&c.reference).map(|(a, b)| a - b).collect();
        assert!((t_test(&d) - c.t).abs() < 1e-9, "{} {}", t_test(&d), c.t);
        assert!((wilcoxon(&d) - c.wilcoxon).abs() < 1e-9, "{} {}", wilcoxon(&d), c.wilcoxon);
    }
}

#[test]
fn runs_side_by_side() {
    let tmp = tempfile::tempdir().unwrap();
    let (data, other) = (saved("source", tmp.path()), saved("target", tmp.path()));
    let at = |n: &str| tmp.path().join(n);
    let train = |data: &Path, name: &str, more: &[&str]| {
        let mut c = morec();
        c.args(["train", "-s", "item.kind=id", "-s", "user.dim=8", "-s", "train.patience=0"]).args(more);
        ok(c.arg("-d").arg(data).arg("--out").arg(at(name)));
    };
    train(&data, "a1", &["-s", "train.epochs=4"]);
    train(&data, "a2", &["-s", "train.epochs=4", "-s", "seed=7"]);
    train(&data, "b", &["-s", "train.epochs=1", "-s", "train.lr=1e-5"]);
    train(&other, "c", &["-s", "train.epochs=1"]);
    train(&data, "d", &["-s", "train.epochs=1", "-s", "eval.mask_history=false"]);
    let arg = |label: &str, names: &[&str]| {
        let dirs: Vec<String> = names.iter().map(|n| at(n).display().to_string()).collect();
        format!("{label}={}", dirs.join(","))
    };
    let (a, b) = (arg("trained", &["a1", "a2"]), arg("un_trained", &["b"]));
    let compare = |methods: &[&str]| {
        let mut c = morec();
        c.arg("compare").args(methods);
        c
    };
    let json = ok(compare(&[&b, &a]).args(["--json", "--ks", "3,10", "--metric", "NDCG@10"]));
    let said: serde_json::Value = serde_json::from_str(&json).unwrap();
    let (first, second) = (&said["lines"][0], &said["lines"][1]);
    assert_eq!((first["runs"].as_u64(), second["runs"].as_u64()), (Some(1), Some(2)));
    assert!(first["against"].is_null() && first["deviation"].is_null());
    // What the runs said of themselves, averaged.
    let of = |n: &str, m: &str| {
        let r: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(at(n).join("result.json")).unwrap()).unwrap();
        r["test"]["all"][m].as_f64().unwrap()
    };
    let want = (of("a1", "ndcg@10") + of("a2", "ndcg@10")) / 2.0;
    assert!((second["metrics"]["ndcg@10"].as_f64().unwrap() - want).abs() < 1e-12);
    let spread = (of("a1", "ndcg@10") - of("a2", "ndcg@10")).abs() / 2f64.sqrt();
    assert!((second["deviation"]["ndcg@10"].as_f64().unwrap() - spread).abs() < 1e-12);
    let difference = second["against"]["difference"].as_f64().unwrap();
    assert!((difference - (want - of("b", "ndcg@10"))).abs() < 1e-12);
    assert_eq!(said["users"], second["against"]["users"]);
    assert!(second["metrics"]["hr@3"].as_f64().is_some());
    // Two comparisons: the smaller p counts twice.
    let three = ok(compare(&[&b, &a, &arg("again", &["a1"])]).arg("--json"));
    let three: serde_json::Value = serde_json::from_str(&three).unwrap();
    let p = |i: usize| {
        (three["lines"][i]["against"]["p_t"].as_f64().unwrap(), three["lines"][i]["holm"][0].as_f64().unwrap())
    };
    let small = if p(1).0 < p(2).0 { p(1) } else { p(2) };
    assert!((small.1 - (2.0 * small.0).min(1.0)).abs() < 1e-12);
    for (format, needle) in
        [("terminal", "p after Holm"), ("markdown", "|---|"), ("csv", "method,runs,HR@5"), ("latex", "un\\_trained")]
    {
        let text = ok(compare(&[&b, &a]).args(["--format", format]));
        assert!(text.contains(needle) && text.contains("full ranking over"), "{text}");
    }
    assert!(fails(&mut compare(&[&a, &arg("c", &["c"])]), 2).contains("item"));
    assert!(fails(&mut compare(&[&a, &arg("d", &["d"])]), 2).contains("same way"));
    assert!(fails(compare(&[&a, &b]).args(["--reference", "x"]), 2).contains("un_trained"));
    assert!(fails(compare(&[&a, &b]).args(["--metric", "ndcg@7"]), 2).contains("7"));
    assert!(fails(&mut compare(&[&a, &a]), 2).contains("two methods"));
    assert!(fails(&mut compare(&[&arg("x", &["nothing"])]), 4).contains("result.json"));
}
