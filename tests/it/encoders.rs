//! Whole encoders: finite differences, contracts, the forward oracle, real weights, real tokenizers.

use crate::golden::{close, flat, golden};
use crate::grad::{build, check, matrix, perturb, random};
use crate::support::{minilm, shared, tiny_bert};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use morec::batch::Batch;
use morec::config::{ItemConfig, Multiplicity, UserConfig};
use morec::item::text::{Bert, BertConfig, SentenceEncoder, TextEncoder, TextFolder, bert};
use morec::item::{Features, ItemEncoder, ItemTable, ModalityContent, Tokens};
use morec::nn::ops::{self, Pooling};
use morec::nn::weights::Weights;
use morec::nn::{Act, Params, Pass, Segments};
use morec::user::{Histories, SasRec, UserEncoder};
use std::path::Path;
use std::sync::Arc;

#[test]
fn sasrec_with_dropout_passes_finite_differences() {
    let config = UserConfig { dim: 8, heads: 2, layers: 2, dropout: 0.2, max_len: 5, ..Default::default() };
    let (params, user) = build(|s| SasRec::new(s, &config));
    let h = Histories::new([3, 5, 1], 5);
    check(&[matrix("x", 9, 8)], &params, |p, a| user.encode(&a[0], &h, p));
}

#[test]
fn text_encoder_with_dropout_passes_finite_differences() {
    let dir = tempfile::tempdir().unwrap();
    let folder = TextFolder::open(&tiny_bert(dir.path(), 0.2), false).unwrap();
    for pooling in [Pooling::Cls, Pooling::Mean] {
        let config = ItemConfig { pooling, pretrained: false, max_tokens: 8, ..Default::default() };
        let (params, (text, user)) = Params::fresh(1, &Device::Cpu, |s| {
            let user = UserConfig { dim: 6, heads: 2, layers: 1, dropout: 0.2, max_len: 4, ..Default::default() };
            Ok((TextEncoder::new(&s.pp("t"), &folder, &config, 6)?, SasRec::new(&s.pp("u"), &user)?))
        })
        .unwrap();
        perturb(&params, 0.3);
        let texts = ["red guitar", "old blue drum stick", "horn", "violin case stand", "lamp"];
        let tokens = Tokens::new(&folder.tokenizer, &texts, 8, true).unwrap();
        let features = Features::of(5, ModalityContent::Tokens(tokens));
        let windows: [&[u32]; 3] = [&[0, 1, 2], &[3, 0], &[4, 1, 3, 2]];
        let batch = Batch::new(windows, 4);
        let spec = Arc::new(batch.in_batch_targets(None, Multiplicity::Slots));
        // The whole model, from tokens to loss.
        check(&[], &params, |p, _| {
            let e = text.encode(&ItemTable { ids: &batch.items, features: &features }, p)?;
            let x = ops::gather(p, &e, batch.inputs.clone())?;
            let h = user.encode(&x, &batch.histories, p)?;
            ops::in_batch_softmax(p, &h, &e, &spec)
        });
    }
}

/// Later items do not change earlier outputs, and no other history changes anything.
#[test]
fn sasrec_is_causal_and_knows_no_padding() {
    let config = UserConfig { dim: 8, heads: 2, layers: 2, dropout: 0.5, max_len: 6, ..Default::default() };
    let (_params, user) = build(|s| SasRec::new(s, &config));
    let x = matrix("x", 4, 8);
    let run = |x: &Tensor, lengths: &[usize], max_len| {
        let h = Histories::new(lengths.iter().copied(), max_len);
        flat(user.encode(&Act::constant(x.clone()), &h, &Pass::eval()).unwrap().value())
    };
    let whole = run(&x, &[4], 6);
    let changed = Tensor::cat(&[&x.narrow(0, 0, 3).unwrap(), &matrix("other", 1, 8)], 0).unwrap();
    assert_eq!(run(&changed, &[4], 6)[..24], whole[..24]);
    assert_ne!(run(&changed, &[4], 6)[24..], whole[24..]);
    let with_others = Tensor::cat(&[&matrix("a", 6, 8), &x, &matrix("b", 1, 8)], 0).unwrap();
    close("alone = in company", &run(&with_others, &[6, 4, 1], 6)[48..80], &whole, 1e-6);
}

#[test]
fn one_item_alone_equals_itself_in_a_batch() {
    let dir = tempfile::tempdir().unwrap();
    let folder = TextFolder::open(&tiny_bert(dir.path(), 0.1), false).unwrap();
    let config = ItemConfig { pretrained: false, max_tokens: 8, ..Default::default() };
    let (_params, text) = build(|s| TextEncoder::new(s, &folder, &config, 6));
    let tokens = Tokens::new(&folder.tokenizer, &["red", "old blue drum stick", "horn lamp", ""], 8, true).unwrap();
    let features = Features::of(4, ModalityContent::Tokens(tokens));
    let run = |ids: Vec<u32>| {
        flat(text.encode(&ItemTable { ids: &Arc::new(ids), features: &features }, &Pass::eval()).unwrap().value())
    };
    let all = run(vec![0, 1, 2, 3]);
    for i in 0..4 {
        close("single", &run(vec![i]), &all[i as usize * 6..(i as usize + 1) * 6], 1e-6);
    }
}

/// candle-transformers' BERT on the real small model: the same forward, from old-style names behind a prefix.
#[test]
fn the_forward_oracle_agrees_on_real_weights() {
    use candle_transformers::models::bert as oracle;
    let dir = shared("models/bert-tiny-splade");
    let json = std::fs::read_to_string(dir.join("config.json")).unwrap();
    let config: oracle::Config = serde_json::from_str(&json).unwrap();
    // SAFETY: the file is not changed while mapped.
    let vb = unsafe { VarBuilder::from_mmaped_safetensors(&[dir.join("model.safetensors")], DType::F32, &Device::Cpu) };
    let theirs = oracle::BertModel::load(vb.unwrap(), &config).unwrap();
    let folder = TextFolder::open(&dir, true).unwrap();
    let weights = folder.weights.clone().unwrap();
    let (_, ours) =
        Params::fresh(0, &Device::Cpu, |s| Bert::new(&s.pretrained(weights.clone(), bert::file_names), &folder.config))
            .unwrap();
    let texts = ["fire emblem: the sacred stones", "x", "gba 6-pak care case - game boy advance, red & blue"];
    let tokens = Tokens::new(&folder.tokenizer, &texts, 30, true).unwrap();
    for i in 0..texts.len() {
        let ids = Tensor::new(tokens.row(i), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let want = theirs.forward(&ids, &ids.zeros_like().unwrap(), None).unwrap();
        let (ids, segments) = tokens.pack(&[i as u32]);
        let got = ours.forward(ids, &segments, &Pass::eval()).unwrap();
        close(texts[i], &flat(got.value()), &flat(&want), 1e-5);
    }
}

#[test]
fn the_real_minilm_gives_its_reference_embeddings() {
    let folder = TextFolder::open(&minilm(), true).unwrap();
    let weights = folder.weights.clone().unwrap();
    let (params, model) =
        Params::fresh(0, &Device::Cpu, |s| Bert::new(&s.pretrained(weights.clone(), bert::file_names), &folder.config))
            .unwrap();
    assert_eq!(params.iter().map(|p| p.numel()).sum::<usize>(), 22_713_216 - 384 * 385);
    let g = Weights::open(&golden("minilm_reference.safetensors")).unwrap();
    let texts: Vec<String> =
        serde_json::from_str(&std::fs::read_to_string(golden("minilm_reference.json")).unwrap()).unwrap();
    let tokens = Tokens::new(&folder.tokenizer, &texts, 128, true).unwrap();
    let (ids, segments) = tokens.pack(&[0, 1, 2]);
    let lengths: Vec<i64> = segments.iter().map(|(_, l)| l as i64).collect();
    assert_eq!(lengths, g.read_i64("lengths").unwrap());
    let hidden = model.forward(ids, &segments, &Pass::eval()).unwrap();
    let mean = ops::pool(&Pass::eval(), &hidden, &segments, Pooling::Mean).unwrap();
    close("mean", &flat(mean.value()), &g.read("mean").unwrap(), 1e-5);
    let normalised: Vec<f32> = flat(mean.value())
        .chunks(384)
        .flat_map(|r| {
            let n = r.iter().map(|v| v * v).sum::<f32>().sqrt();
            r.iter().map(move |v| v / n).collect::<Vec<_>>()
        })
        .collect();
    close("normalised", &normalised, &g.read("normalised").unwrap(), 1e-6);
}

#[test]
fn our_own_title_mini_is_what_transformers_reads() {
    let folder = TextFolder::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/title-mini"), true).unwrap();
    let g = Weights::open(&golden("title_mini.safetensors")).unwrap();
    let texts: Vec<String> =
        serde_json::from_str(&std::fs::read_to_string(golden("title_mini.json")).unwrap()).unwrap();
    let tokens = Tokens::new(&folder.tokenizer, &texts, 48, true).unwrap();
    let (ids, longest) = (g.read_i64("ids").unwrap(), g.shape("ids").unwrap()[1]);
    for (i, length) in g.read_i64("lengths").unwrap().into_iter().enumerate() {
        let row: Vec<u32> = ids[i * longest..i * longest + length as usize].iter().map(|&t| t as u32).collect();
        assert_eq!(tokens.row(i), row, "{}", texts[i]);
    }
    let mean = SentenceEncoder::new(&folder, Pooling::Mean).unwrap().encode(&tokens, &|_, _| {}).unwrap();
    close("mean", &mean, &g.read("mean").unwrap(), 1e-5);
}

#[test]
fn tokens_are_those_of_transformers() {
    let golden: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(golden("tokenize.json")).unwrap()).unwrap();
    let titles = golden["titles"].as_array().unwrap();
    assert_eq!(titles.len(), 20);
    for name in ["bert-tiny-splade", "roberta-base-tokenizer"] {
        let file = shared("models").join(name).join("tokenizer.json");
        let tokenizer: tokenizers::Tokenizer = std::fs::read_to_string(file).unwrap().parse().unwrap();
        let texts: Vec<&str> = titles.iter().map(|t| t["text"].as_str().unwrap()).collect();
        let tokens = Tokens::new(&tokenizer, &texts, 30, true).unwrap();
        for (i, t) in titles.iter().enumerate() {
            let want: Vec<u32> =
                t["ids"][name].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect();
            assert_eq!(tokens.row(i), want, "{name}: {:?}", texts[i]);
        }
    }
}

/// F16 and BF16 files, and an index over shards, load as f32.
#[test]
fn half_precision_and_shards() {
    use safetensors::{Dtype, tensor::TensorView};
    let dir = tempfile::tempdir().unwrap();
    let values = random("half", 12);
    let half: Vec<u8> = values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect();
    let brain: Vec<u8> = values.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect();
    let write = |name: &str, tensor: &str, dtype, bytes: &[u8]| {
        let view = TensorView::new(dtype, vec![3, 4], bytes).unwrap();
        std::fs::write(dir.path().join(name), safetensors::serialize([(tensor, view)], None).unwrap()).unwrap();
    };
    write("model-1.safetensors", "a", Dtype::F16, &half);
    write("model-2.safetensors", "b", Dtype::BF16, &brain);
    let index = serde_json::json!({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}});
    std::fs::write(dir.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    let w = Weights::open_dir(dir.path()).unwrap();
    close("f16", &w.read("a").unwrap(), &values, 1e-3);
    close("bf16", &w.read("b").unwrap(), &values, 1e-2);
    std::fs::remove_file(dir.path().join("model-2.safetensors")).unwrap();
    assert!(Weights::open_dir(dir.path()).err().unwrap().to_string().contains("model-2"));
}

#[test]
fn a_frozen_bottom_runs_as_in_evaluation_and_records_nothing() {
    let config = BertConfig::parse(&std::fs::read_to_string(golden("bert_small_config.json")).unwrap()).unwrap();
    let specs = Params::declare(|s| Bert::new(s, &config)).unwrap();
    let actions = specs
        .into_iter()
        .map(|s| {
            let train = s.name.contains("layer.1.");
            (s.name, morec::nn::Action { origin: morec::nn::Origin::Init, train, lr: None })
        })
        .collect();
    let (params, model) = Params::build(1, &Device::Cpu, &actions, None, |s| Bert::new(s, &config)).unwrap();
    let tape = morec::nn::Tape::new();
    let train = morec::nn::TrainContext::new(&tape, 1, 1);
    let segments = Segments::from_lengths([2, 3]);
    let y = model.forward(vec![1, 2, 3, 4, 5], &segments, &Pass::train(&train)).unwrap();
    tape.backward_from(&y, y.value().ones_like().unwrap()).unwrap();
    assert!(params.without_grad().is_empty());
    let filled = params.iter().filter(|p| p.grad().has_gradient()).count();
    assert_eq!(filled, params.trainable().count());
}
