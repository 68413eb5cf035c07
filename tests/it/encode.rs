//! `morec encode` and `morec bench`: files of vectors, stopped and resumed; both sides of a comparison.

use crate::cli::{fails, morec, ok, saved};
use crate::support::shared;
use morec::Error;
use morec::eval::vectors::{Export, Format, export, ids_file};
use morec::nn::weights::{Precision, Weights};
use std::cell::Cell;
use std::path::Path;

/// Reads `vector` of a Parquet file back: ids, width, values.
fn parquet(path: &Path) -> (Vec<String>, Vec<Vec<f32>>) {
    use arrow::array::{Array, FixedSizeListArray, Float16Array, Float32Array, StringArray};
    let file = std::fs::File::open(path).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let (mut ids, mut rows) = (vec![], vec![]);
    for batch in reader {
        let batch = batch.unwrap();
        let names = batch.column(0).as_any().downcast_ref::<StringArray>().unwrap();
        let lists = batch.column(1).as_any().downcast_ref::<FixedSizeListArray>().unwrap();
        for i in 0..batch.num_rows() {
            ids.push(names.value(i).to_string());
            let v = lists.value(i);
            rows.push(match v.as_any().downcast_ref::<Float32Array>() {
                Some(f) => f.values().to_vec(),
                None => {
                    let f = v.as_any().downcast_ref::<Float16Array>().unwrap();
                    f.values().iter().map(|v| v.to_f32()).collect()
                }
            });
        }
    }
    (ids, rows)
}

/// Stopped after the first part, the same export goes on; another one does not take its parts.
#[test]
fn an_export_resumes_and_knows_what_it_resumes() {
    let tmp = tempfile::tempdir().unwrap();
    let ids: Vec<String> = (0..5000).map(|i| format!("item{i}")).collect();
    let vector = |i: u32| [i as f32, 0.5, -(i as f32) / 8.0];
    for (format, name) in [(Format::Parquet, "v.parquet"), (Format::Safetensors, "v.safetensors")] {
        let out = tmp.path().join(name);
        let computed = Cell::new(0);
        let run = |identity: &str, precision, normalize, fail_from: u32| {
            computed.set(0);
            export(&Export {
                ids: &ids,
                width: 3,
                identity,
                out: &out,
                format,
                precision,
                normalize,
                compute: &|part| {
                    if part.iter().any(|&i| i >= fail_from) {
                        return Err(Error::Usage("stopped by the test".into()));
                    }
                    computed.set(computed.get() + part.len());
                    Ok(part.iter().flat_map(|&i| vector(i)).collect())
                },
                on_progress: &|_, _| {},
            })
        };
        let read = || match format {
            Format::Parquet => {
                let (names, rows) = parquet(&out);
                assert_eq!(names, ids);
                rows
            }
            Format::Safetensors => {
                let names: Vec<String> =
                    serde_json::from_str(&std::fs::read_to_string(ids_file(&out)).unwrap()).unwrap();
                assert_eq!(names, ids);
                let w = Weights::open(&out).unwrap();
                assert_eq!(w.shape("vectors"), Some(&[5000, 3][..]));
                w.read("vectors").unwrap().chunks(3).map(<[f32]>::to_vec).collect()
            }
        };
        run("a", Precision::F32, false, 2500).unwrap_err();
        assert!(!out.exists(), "nothing half-written");
        assert_eq!(run("a", Precision::F32, false, u32::MAX).unwrap(), 2048);
        assert_eq!(computed.get(), 5000 - 2048);
        assert!(read().iter().enumerate().all(|(i, row)| row[..] == vector(i as u32)));
        assert_eq!(
            std::fs::read_dir(tmp.path())
                .unwrap()
                .filter(|e| { e.as_ref().unwrap().file_name().to_string_lossy().contains("partial") })
                .count(),
            0
        );
        run("a", Precision::F16, true, 2500).unwrap_err();
        assert_eq!(run("b", Precision::F16, true, u32::MAX).unwrap(), 0, "parts of something else");
        for (i, row) in read().iter().enumerate() {
            let want = vector(i as u32);
            let norm = want.iter().map(|v| v * v).sum::<f32>().sqrt();
            assert!(row.iter().zip(want).all(|(a, b)| (a - b / norm).abs() < 1e-3), "{i} {row:?}");
        }
    }
}

/// Tokens are kept, found again, and made again where the file is damaged or the texts are others.
#[test]
fn tokens_are_kept_beside_the_data() {
    use morec::item::{Tokens, text::TextFolder, token_cache::tokens};
    let tmp = tempfile::tempdir().unwrap();
    let f = TextFolder::open(&shared("models/bert-tiny-splade"), false).unwrap();
    let texts = ["Guitar strap", "", "A Fender Stratocaster, used"];
    let all = |t: &Tokens| (0..t.len()).map(|i| t.row(i).to_vec()).collect::<Vec<_>>();
    let get = |texts: &[&str], max: usize| {
        tokens(Some(tmp.path()), &f.tokenizer, &f.tokenizer_json, texts, max, true).unwrap()
    };
    let files = || {
        let dir = std::fs::read_dir(tmp.path().join(".cache")).unwrap();
        dir.map(|e| e.unwrap().path()).collect::<Vec<_>>()
    };
    let want = all(&Tokens::new(&f.tokenizer, &texts, 6, true).unwrap());
    assert_eq!(all(&get(&texts, 6)), want);
    // What is read is the file: ids changed in it are seen.
    let file = files().remove(0);
    let whole = std::fs::read(&file).unwrap();
    let mut other = whole.clone();
    let at = other.len() - 4 * 3 - 4 * want.iter().map(Vec::len).sum::<usize>();
    other[at] ^= 1;
    std::fs::write(&file, &other).unwrap();
    assert_eq!(get(&texts, 6).row(0)[0], want[0][0] ^ 1);
    for bad in [&whole[..whole.len() - 4], b"", b"not a file"] {
        std::fs::write(&file, bad).unwrap();
        assert_eq!(all(&get(&texts, 6)), want);
    }
    assert_eq!(files().len(), 1);
    assert_eq!(get(&texts[..2], 6).len(), 2);
    assert!(get(&texts, 4).row(2).len() <= 4);
    assert_eq!(files().len(), 3);
}

#[test]
fn the_command_encodes_with_runs_and_encoders() {
    let tmp = tempfile::tempdir().unwrap();
    let data = saved("source", tmp.path());
    let bert = shared("models/bert-tiny-splade");
    let file = |n: &str| tmp.path().join(n);
    let encode = |model: &Path, out: &str| {
        let mut c = morec();
        c.arg("encode").arg(model).arg("-d").arg(&data).arg("-o").arg(file(out));
        c
    };
    let said = ok(encode(&bert, "a.parquet").args(["--normalize", "--json"]));
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((said["items"].as_u64(), said["width"].as_u64()), (Some(60), Some(128)));
    let (_, rows) = parquet(&file("a.parquet"));
    assert!(rows.iter().all(|r| (r.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-4));
    assert!(fails(&mut encode(&bert, "a.parquet"), 2).contains("--force"));
    assert!(fails(&mut encode(&bert, "a.csv"), 2).contains(".parquet"));
    // A run's vectors are those its users are compared with.
    let run = file("run");
    let mut train = morec();
    train.args(["train", "-s", "train.epochs=1", "-s", "user.dim=8", "-s", "train.patience=0"]).arg("-d").arg(&data);
    ok(train.arg("-s").arg(format!("item.model={}", bert.display())).arg("--out").arg(&run));
    ok(&mut encode(&run, "run.safetensors"));
    let got = Weights::open(&file("run.safetensors")).unwrap().read("vectors").unwrap();
    let model = morec::model::ModelFolder::open(&run).unwrap().build(&candle_core::Device::Cpu).unwrap();
    let features = model.features(&morec::data::Dataset::open(&data).unwrap().items.text).unwrap();
    let want = morec::eval::encode::catalogue(&model, &features, &morec::eval::encode::no_progress).unwrap();
    assert_eq!(got.len(), want.len());
    assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-5));
}

#[test]
fn the_bench_runs_alone_and_says_what_is_missing() {
    let text = ok(morec().args(["bench", "speed", "--list"]));
    assert!(text.contains("minilm") && text.contains("rank"));
    let json = ok(morec().args(["bench", "speed", "sasrec-d64-l20", "--no-peer", "--rounds", "1", "--json"]));
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(rows["cases"][0]["morec"]["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(rows["machine"]["rounds"], 1);
    assert!(rows["cases"][0]["peer"].is_null() && rows["cases"][0]["ratio"].is_null());
    assert!(fails(morec().args(["bench", "speed", "sasrec"]), 2).contains("sasrec-d64-l20"));
    assert!(fails(morec().args(["bench", "speed", "rank", "--python", "/nonexistent"]), 2).contains("torch"));
    let real = ["bench", "speed", "encode", "--no-peer", "--model", "no-such-model"];
    assert!(fails(morec().args(real), 6).contains("no-such-model"));
}

/// A peer that answers as the script does: turns, ratios, memory and versions are put together; one that dies is named.
#[cfg(unix)]
#[test]
fn the_bench_compares_with_a_peer() {
    use std::os::unix::fs::PermissionsExt;
    let tmp = tempfile::tempdir().unwrap();
    let peer = |name: &str, answer: &str| {
        let path = tmp.path().join(name);
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = -c ] && exit 0\nread spec\n\
             echo '{{\"ready\":true,\"versions\":{{\"torch\":\"9.9\"}}}}'\n\
             while read cmd n; do [ \"$cmd\" = run ] || break; {answer}; done\necho '{{\"peak_memory\":1000000000000}}'\n"
        );
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let bench = |python: &Path| {
        let mut c = morec();
        c.args(["bench", "speed", "sasrec-d64-l20", "--rounds", "2", "--threads", "1", "--python"]).arg(python);
        c
    };
    let works = peer("works", "echo '{\"seconds\":[1000.0, 1000.0],\"values\":[null, null]}'");
    let said: serde_json::Value = serde_json::from_str(&ok(bench(&works).arg("--json"))).unwrap();
    let case = &said["cases"][0];
    assert_eq!(case["peer"]["seconds"], 1000.0);
    let (ratio, ours) = (case["ratio"].as_f64().unwrap(), case["morec"]["seconds"].as_f64().unwrap());
    assert!((ratio - ours / 1000.0).abs() < 1e-12);
    let memory = case["memory_ratio"].as_f64().unwrap();
    assert!(memory > 0.0 && memory < 1e-2, "{memory}");
    assert_eq!(case["peer_versions"]["torch"], "9.9");
    assert!(ok(&mut bench(&works)).contains("torch 9.9"));
    assert!(fails(&mut bench(&peer("dies", "exit 3")), 2).contains("ended early"));
}
