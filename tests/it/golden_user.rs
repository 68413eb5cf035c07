//! User encoders and objectives against PyTorch: values and every gradient.

use crate::golden::{close, flat, golden};
use candle_core::{Device, Tensor};
use morec::batch::Batch;
use morec::config::{
    NormPosition, ObjectiveConfig, ObjectiveKind, Sampler, Similarity, SplitKind, UserConfig, UserKind,
};
use morec::data::{Csr, Split};
use morec::nn::weights::Weights;
use morec::nn::{Params, Pass, Tape, TrainContext, ops};
use morec::user::{self, Histories};
use std::sync::Arc;

fn cases() -> Vec<(&'static str, UserConfig)> {
    let base = UserConfig {
        dim: 8,
        heads: 2,
        layers: 2,
        dropout: 0.0,
        max_len: 6,
        kernel: 3,
        dilations: vec![1, 4],
        window: 3,
        horizontal: 3,
        vertical: 2,
        ..Default::default()
    };
    let of = |kind, norm, user_id| UserConfig { kind, norm, user_id, ..base.clone() };
    use NormPosition::{Original, Post, Pre};
    vec![
        ("sasrec_pre", of(UserKind::Sasrec, Pre, false)),
        ("sasrec_original", of(UserKind::Sasrec, Original, false)),
        ("bert4rec_post", of(UserKind::Bert4rec, Post, false)),
        ("bert4rec_pre", of(UserKind::Bert4rec, Pre, false)),
        ("gru4rec", of(UserKind::Gru4rec, Post, false)),
        ("nextitnet", of(UserKind::Nextitnet, Post, false)),
        ("caser", of(UserKind::Caser, Post, false)),
        ("caser_user", of(UserKind::Caser, Post, true)),
        ("mean", of(UserKind::Mean, Post, false)),
        ("dssm", of(UserKind::Dssm, Post, false)),
        ("dssm_user", of(UserKind::Dssm, Post, true)),
    ]
}

#[test]
fn user_encoders_are_pytorchs() {
    let g = Arc::new(Weights::open(&golden("user_encoders.safetensors")).unwrap());
    let matrix = |name: &str| Tensor::from_vec(g.read(name).unwrap(), (11, 8), &Device::Cpu).unwrap();
    for (name, config) in cases() {
        for composed in [false, true] {
            let prefix = format!("{name}/weight/");
            let (params, encoder) = Params::fresh(0, &Device::Cpu, |s| {
                let prefix = prefix.clone();
                user::build(&s.pretrained(g.clone(), move |n| vec![format!("{prefix}{n}")]), &config, 3)
            })
            .unwrap();
            assert!(params.iter().all(|p| p.origin() == morec::nn::Origin::Pretrained), "{name}: a weight is not ours");
            let h = Histories::new([4, 2, 5], config.slots()).of(vec![2, 0, 1]);
            let ids: Vec<u32> = (0..11)
                .map(|i| if encoder.mask().is_some() && [1, 5, 10].contains(&i) { ops::MASKED } else { i })
                .collect();
            let tape = Tape::new();
            let train = TrainContext::new(&tape, 0, 0);
            let mut pass = Pass::train(&train);
            if composed {
                pass = pass.composed();
            }
            let leaf = tape.leaf(matrix("x"));
            let x = ops::gather_or_fill(&pass, &leaf, Arc::new(ids), encoder.mask()).unwrap();
            let y = encoder.encode(&x, &h, &pass).unwrap();
            close(name, &flat(y.value()), &g.read(&format!("{name}/out")).unwrap(), 1e-5);
            let grads = tape.backward_from(&y, matrix("probe")).unwrap();
            match (grads.of(&leaf), g.shape(&format!("{name}/grad_x"))) {
                (Some(got), Some(_)) => {
                    close(&format!("{name} x"), &flat(got), &g.read(&format!("{name}/grad_x")).unwrap(), 1e-5);
                }
                (None, None) => {}
                (got, want) => panic!("{name}: gradient of x: {got:?}, PyTorch {want:?}"),
            }
            for p in params.iter() {
                let want = g.read(&format!("{name}/grad/{}", p.name())).unwrap();
                close(&format!("{name} {}", p.name()), &p.grad().dense(), &want, 1e-5);
            }
        }
    }
}

#[test]
fn objectives_are_pytorchs() {
    let g = Weights::open(&golden("losses.safetensors")).unwrap();
    let ints = |name: &str| g.read_i64(name).unwrap().iter().map(|&v| v as u32).collect::<Vec<u32>>();
    let split = Split {
        kind: SplitKind::LeaveOneOut,
        items: (0..10).collect(),
        users: vec![],
        seqs: Csr::default(),
        train_len: vec![],
        valid: vec![],
        test: vec![],
        counts: ints("counts"),
        ..Split::default()
    };
    let batch = Batch {
        items: Arc::new((0..10).collect()),
        inputs: Arc::new((0..7).collect()),
        histories: Histories::new([7], 7),
        rows: None,
        targets: ints("target"),
        owner: vec![0; 7],
        own: vec![vec![]],
        slots: vec![1; 10],
        negatives: Arc::new(ints("negatives")),
    };
    let base = ObjectiveConfig { negatives: 3, ..Default::default() };
    let of = |kind| ObjectiveConfig { kind, ..base.clone() };
    use ObjectiveKind::{Bce, Bpr, Full, Gbce, Sampled};
    let cases = [
        ("full", of(Full)),
        ("full_cosine", ObjectiveConfig { similarity: Similarity::Cosine, ..of(Full) }),
        ("sampled", ObjectiveConfig { sampler: Sampler::Popularity, ..of(Sampled) }),
        ("sampled_raw", ObjectiveConfig { sampler: Sampler::Popularity, debias: false, ..of(Sampled) }),
        ("sampled_raw", of(Sampled)),
        ("bce", of(Bce)),
        ("gbce", of(Gbce)),
        ("gbce_0", ObjectiveConfig { calibration: 0.0, ..of(Gbce) }),
        ("gbce_1", ObjectiveConfig { calibration: 1.0, ..of(Gbce) }),
        ("bpr", of(Bpr)),
        ("bpr_temperature", ObjectiveConfig { temperature: 0.5, ..of(Bpr) }),
    ];
    for (name, config) in cases {
        let objective = morec::objective::build(&config, &split).unwrap();
        for composed in [false, true] {
            let tape = Tape::new();
            let train = TrainContext::new(&tape, 0, 0);
            let mut pass = Pass::train(&train);
            if composed {
                pass = pass.composed();
            }
            let leaf =
                |n: &str, rows| tape.leaf(Tensor::from_vec(g.read(n).unwrap(), (rows, 8), &Device::Cpu).unwrap());
            let (h, e) = (leaf("h", 7), leaf("e", 10));
            let loss = objective.loss(&h, &e, &batch, &pass).unwrap();
            close(name, &flat(loss.value()), &g.read(&format!("{name}/loss")).unwrap(), 1e-5);
            let grads = tape.backward(&loss, 1.0).unwrap();
            for (what, leaf) in [("grad_h", &h), ("grad_e", &e)] {
                let want = g.read(&format!("{name}/{what}")).unwrap();
                close(&format!("{name} {what}"), &flat(grads.of(leaf).unwrap()), &want, 1e-5);
            }
        }
    }
}
