//! Parity with PyTorch and Hugging Face: golden numbers under tests/golden (see the README there).

use candle_core::{Device, Tensor};
use morec::batch::Batch;
use morec::config::{Multiplicity, UserConfig};
use morec::item::text::{Bert, BertConfig, bert};
use morec::item::{Features, IdEncoder, ItemEncoder, ItemTable};
use morec::nn::ops::{self, Pooling};
use morec::nn::weights::Weights;
use morec::nn::{Params, Pass, Segments, Tape, TrainContext};
use morec::user::{SasRec, UserEncoder};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

pub fn close(what: &str, got: &[f32], want: &[f32], tol: f32) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= tol * w.abs().max(1.0), "{what}[{i}]: {g}, PyTorch has {w}");
    }
}

pub fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// A golden file's tensors below `group/`, as a folder of weights would hold them, in one of the layouts in the wild.
fn weights_of(g: &Weights, dir: &Path, prefix: &str, old_names: bool) -> Arc<Weights> {
    let tensors: Vec<_> = g
        .names()
        .filter_map(|n| {
            let short = n.strip_prefix("weight/")?;
            let mut name = format!("{prefix}{short}");
            if old_names && name.contains("LayerNorm") {
                name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
            }
            Some((name, g.shape(n)?.to_vec(), g.read(n).unwrap()))
        })
        .collect();
    let path = dir.join("model.safetensors");
    morec::nn::weights::save(&path, &tensors, Default::default()).unwrap();
    Arc::new(Weights::open(&path).unwrap())
}

fn text_encoder_parity(name: &str, prefix: &str, old_names: bool, composed: bool) {
    let g = Weights::open(&golden(&format!("{name}.safetensors"))).unwrap();
    let mut json = std::fs::read_to_string(golden(&format!("{name}_config.json"))).unwrap();
    for p in ["hidden_dropout_prob", "attention_probs_dropout_prob"] {
        json = json.replace(&format!("\"{p}\": 0.1"), &format!("\"{p}\": 0.0"));
    }
    let config = BertConfig::parse(&json).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = weights_of(&g, dir.path(), prefix, old_names);
    let (params, model) = Params::fresh(3, &Device::Cpu, |s| {
        Bert::new(&s.pp("m").encoder().pretrained(file.clone(), bert::file_names), &config)
    })
    .unwrap();

    let lengths: Vec<usize> = g.read_i64("lengths").unwrap().iter().map(|&l| l as usize).collect();
    let width = g.shape("ids").unwrap()[1];
    let all = g.read_i64("ids").unwrap();
    let ids: Vec<u32> = lengths
        .iter()
        .enumerate()
        .flat_map(|(i, &l)| all[i * width..i * width + l].iter().map(|&t| t as u32))
        .collect();
    let segments = Segments::from_lengths(lengths.iter().copied());

    let tape = Tape::new();
    let train = TrainContext::new(&tape, 0, 0);
    let mut pass = Pass::train(&train);
    if composed {
        pass = pass.composed();
    }
    let hidden = model.forward(ids.clone(), &segments, &pass).unwrap();
    let d = config.hidden_size;
    let want = g.read("hidden").unwrap();
    let packed: Vec<f32> =
        lengths.iter().enumerate().flat_map(|(i, &l)| want[i * width * d..(i * width + l) * d].to_vec()).collect();
    close("hidden", &flat(hidden.value()), &packed, 1e-5);
    let (mean, cls) = (
        ops::pool(&pass, &hidden, &segments, Pooling::Mean).unwrap(),
        ops::pool(&pass, &hidden, &segments, Pooling::Cls).unwrap(),
    );
    close("mean", &flat(mean.value()), &g.read("mean").unwrap(), 1e-5);
    close("cls", &flat(cls.value()), &g.read("cls").unwrap(), 1e-5);

    // In evaluation the same numbers, and nothing recorded.
    let again = model.forward(ids, &segments, &Pass::eval()).unwrap();
    assert!(!again.tracked());
    close("evaluation", &flat(again.value()), &flat(hidden.value()), 1e-6);

    let dev = Device::Cpu;
    let (pm, pc) = (g.tensor("probe_mean", &dev).unwrap(), g.tensor("probe_cls", &dev).unwrap());
    let loss = ops::composed::composed(&pass, &[&mean, &cls], &[], |a, _| {
        Ok(((&a[0] * &pm)?.sum_all()? + (&a[1] * &pc)?.sum_all()?)?)
    })
    .unwrap();
    tape.backward(&loss, 1.0).unwrap();
    assert!(params.without_grad().is_empty(), "{:?}", params.without_grad());
    for p in params.iter() {
        let short = p.name().strip_prefix("m.").unwrap();
        close(short, &p.grad().dense(), &g.read(&format!("grad/{short}")).unwrap(), 1e-5);
    }
}

#[test]
fn bert_forward_and_gradients_are_hugging_faces() {
    text_encoder_parity("bert_small", "", false, false);
    text_encoder_parity("bert_small", "bert.", true, false);
}

#[test]
fn roberta_forward_and_gradients_are_hugging_faces() {
    text_encoder_parity("roberta_small", "roberta.", false, false);
}

#[test]
fn the_composed_path_is_hugging_faces_too() {
    text_encoder_parity("bert_small", "bert.", false, true);
    text_encoder_parity("roberta_small", "", false, true);
}

/// SASRec and the in-batch loss over distinct, unpadded items against the naive computation over every slot.
#[test]
fn sasrec_with_in_batch_softmax_equals_the_every_slot_computation() {
    let g = Weights::open(&golden("sasrec_inbatch.safetensors")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = weights_of(&g, dir.path(), "", false);
    let table = g.shape("weight/item_encoder.id.weight").unwrap().to_vec();
    let config = UserConfig { dim: table[1], heads: 2, layers: 2, dropout: 0.0, max_len: 5, ..Default::default() };
    let windows = g.read_i64("windows").unwrap();
    let windows: Vec<Vec<u32>> =
        windows.chunks(6).map(|w| w.iter().filter(|&&i| i >= 0).map(|&i| i as u32).collect()).collect();
    let log_p = g.read("log_p").unwrap();
    for composed in [false, true] {
        for (multiplicity, tag) in [(Multiplicity::Slots, "slots"), (Multiplicity::Once, "once")] {
            let (params, (item, user)) = Params::fresh(3, &Device::Cpu, |s| {
                let s = s.pretrained(file.clone(), |n| vec![n.into()]);
                Ok((
                    IdEncoder::new(&s.pp("item_encoder.id"), table[0], table[1])?,
                    SasRec::new(&s.pp("user_encoder"), &config)?,
                ))
            })
            .unwrap();
            let batch = Batch::new(windows.iter().map(Vec::as_slice), 5);
            let tape = Tape::new();
            let train = TrainContext::new(&tape, 0, 0);
            let mut pass = Pass::train(&train);
            if composed {
                pass = pass.composed();
            }
            let e = item.encode(&ItemTable { ids: &batch.items, features: &Features::default() }, &pass).unwrap();
            let x = ops::gather(&pass, &e, batch.inputs.clone()).unwrap();
            let h = user.encode(&x, &batch.histories, &pass).unwrap();
            let want = g.read("hidden").unwrap();
            let d = table[1];
            let packed: Vec<f32> = windows
                .iter()
                .enumerate()
                .flat_map(|(u, w)| want[(u * 5 + 6 - w.len()) * d..(u + 1) * 5 * d].to_vec())
                .collect();
            close("hidden", &flat(h.value()), &packed, 1e-5);
            let spec = Arc::new(batch.in_batch_targets(Some(&log_p), multiplicity));
            let loss = ops::in_batch_softmax(&pass, &h, &e, &spec).unwrap();
            close("loss", &flat(loss.value()), &g.read(&format!("loss_{tag}")).unwrap(), 1e-5);
            tape.backward(&loss, 1.0).unwrap();
            assert!(params.without_grad().is_empty());
            for p in params.iter() {
                close(p.name(), &p.grad().dense(), &g.read(&format!("grad_{tag}/{}", p.name())).unwrap(), 1e-5);
            }
        }
    }
}

#[test]
fn a_bad_config_json_is_refused_with_a_reason() {
    for (json, word) in [
        ("{", "JSON"),
        ("{}", "model_type"),
        (r#"{"model_type": "gpt2"}"#, "gpt2"),
        (r#"{"model_type": "bert"}"#, "vocab_size"),
    ] {
        let e = BertConfig::parse(json).unwrap_err();
        assert!(e.contains(word), "{e}");
    }
}
