//! Each operation: fused = composed, and both = finite differences.

use crate::grad::{build, check, matrix};
use morec::nn::init::Init;
use morec::nn::kernels::Activation;
use morec::nn::ops::{self, AttentionSpec, InBatchTargets, Pooling};
use morec::nn::{LayerNorm, Linear, Segments};
use std::sync::Arc;

#[test]
fn linear_alone_and_side_by_side() {
    let (params, (a, b, c)) = build(|s| {
        Ok((
            Linear::new(&s.pp("a"), 5, 4, true, Init::XavierNormal)?,
            Linear::new(&s.pp("b"), 5, 3, false, Init::XavierNormal)?,
            Linear::new(&s.pp("c"), 5, 6, true, Init::XavierNormal)?,
        ))
    });
    check(&[matrix("x", 7, 5)], &params, |p, x| ops::linears(p, &x[0], &[&a, &b, &c]));
}

#[test]
fn activations() {
    let (params, ()) = build(|_| Ok(()));
    for f in [Activation::Gelu, Activation::GeluTanh, Activation::Tanh, Activation::QuickGelu, Activation::Silu] {
        check(&[matrix("x", 9, 11)], &params, |p, x| ops::activation(p, &x[0], f));
    }
    // Away from the kink, where differences mean something.
    let x = (matrix("x", 9, 11).sign().unwrap() + matrix("x", 9, 11)).unwrap();
    check(&[x], &params, |p, x| ops::activation(p, &x[0], Activation::Relu));
}

#[test]
fn feed_forward() {
    for (f, bias) in [(Activation::Gelu, true), (Activation::GeluTanh, false), (Activation::Tanh, true)] {
        let (params, (a, b)) = build(|s| {
            let init = Init::XavierNormal;
            Ok((Linear::new(&s.pp("a"), 5, 20, bias, init)?, Linear::new(&s.pp("b"), 20, 4, bias, init)?))
        });
        check(&[matrix("x", 9, 5)], &params, |p, x| ops::feed_forward(p, &x[0], &a, f, &b));
    }
}

/// More rows than one block holds, and ReLU: the same values and gradients as through single operations.
#[test]
fn feed_forward_in_blocks() {
    use morec::nn::{Pass, Tape, TrainContext};
    let (params, (a, b)) = build(|s| {
        let init = Init::XavierNormal;
        Ok((Linear::new(&s.pp("a"), 3, 8, true, init)?, Linear::new(&s.pp("b"), 8, 2, true, init)?))
    });
    let x = matrix("x", 4200, 3);
    let run = |fused: bool| {
        params.clear_grads();
        let tape = Tape::new();
        let train = TrainContext::new(&tape, 1, 0);
        let pass = Pass::train(&train);
        let leaf = tape.leaf(x.clone());
        let y = if fused {
            ops::feed_forward(&pass, &leaf, &a, Activation::Relu, &b).unwrap()
        } else {
            let z = ops::activation(&pass, &ops::linear(&pass, &leaf, &a).unwrap(), Activation::Relu).unwrap();
            ops::linear(&pass, &z, &b).unwrap()
        };
        let grads = tape.backward_from(&y, matrix("g", 4200, 2)).unwrap();
        let mut all = vec![y.value().flatten_all().unwrap().to_vec1::<f32>().unwrap()];
        all.push(grads.of(&leaf).unwrap().flatten_all().unwrap().to_vec1().unwrap());
        all.extend(params.iter().map(|p| p.grad().dense().to_vec()));
        all
    };
    let (one, other) = (run(true), run(false));
    for (a, b) in one.iter().zip(&other) {
        assert!(!a.is_empty() && a.len() == b.len());
        let scale = b.iter().fold(1f32, |m, v| m.max(v.abs()));
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5 * scale));
    }
    let quiet =
        ops::feed_forward(&Pass::eval(), &morec::nn::Act::constant(x.clone()), &a, Activation::Relu, &b).unwrap();
    assert_eq!(quiet.value().flatten_all().unwrap().to_vec1::<f32>().unwrap(), one[0]);
}

#[test]
fn norm_with_residual_and_dropout() {
    let (params, norm) = build(|s| LayerNorm::new(s, 6, 1e-6));
    let (x, r) = (matrix("x", 70, 6), matrix("r", 70, 6));
    check(std::slice::from_ref(&x), &params, |p, a| ops::add_norm(p, &a[0], None, &norm, 0.0));
    check(&[x.clone(), r.clone()], &params, |p, a| ops::add_norm(p, &a[0], Some(&a[1]), &norm, 0.0));
    check(&[x, r], &params, |p, a| ops::add_norm(p, &a[0], Some(&a[1]), &norm, 0.3));
}

#[test]
fn dropout_in_training() {
    let (params, ()) = build(|_| Ok(()));
    check(&[matrix("x", 40, 30)], &params, |p, a| ops::dropout(p, &a[0], 0.4));
}

#[test]
fn attention_in_all_its_modes() {
    let (params, ()) = build(|_| Ok(()));
    let segments = Segments::from_lengths([3, 1, 5, 2]);
    for causal in [false, true] {
        for dropout in [0.0, 0.3] {
            let spec = AttentionSpec { heads: 2, causal, dropout };
            check(&[matrix("qkv", 11, 24)], &params, |p, a| ops::attention(p, &a[0], &segments, spec));
        }
    }
}

#[test]
fn embedding_gather_pool() {
    let (params, (a, b)) =
        build(|s| Ok((s.weight("a", &[6, 4], Init::Normal(1.0))?, s.weight("b", &[3, 4], Init::Normal(1.0))?)));
    let (i, j) = (Arc::new(vec![5, 0, 5, 2, 1]), Arc::new(vec![0, 1, 2, 2, 2]));
    check(&[matrix("x", 5, 4)], &params, |p, x| ops::embed(p, Some(&x[0]), &[(&a, i.clone()), (&b, j.clone())]));
    let (none, ()) = build(|_| Ok(()));
    check(&[matrix("x", 6, 4)], &none, |p, x| ops::gather(p, &x[0], i.clone()));
    let segments = Segments::from_lengths([2, 3, 1]);
    for how in [Pooling::Cls, Pooling::Mean] {
        check(&[matrix("x", 6, 4)], &none, |p, x| ops::pool(p, &x[0], &segments, how));
    }
}

#[test]
fn in_batch_loss() {
    let (none, ()) = build(|_| Ok(()));
    let spec = Arc::new(InBatchTargets {
        target: vec![1, 2, 0, 4, 4],
        owner: vec![0, 0, 1, 1, 2],
        own: vec![vec![0, 1, 2], vec![3, 0, 4], vec![4]],
        negative_bias: vec![0.3, -0.2, 0.9, 1.1, 0.0, 0.4],
        label_bias: vec![0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
    });
    check(&[matrix("h", 5, 4), matrix("e", 6, 4)], &none, |p, a| ops::in_batch_softmax(p, &a[0], &a[1], &spec));
}

#[test]
fn embedding_gradients_of_two_backwards_add_up_and_clear() {
    let (params, w) = build(|s| s.weight("w", &[4, 2], Init::Zeros));
    w.add_grad_rows(&[1, 1, 3], 2, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    w.add_grad_rows(&[0], 2, &[1.0, 1.0]);
    assert_eq!(*w.grad().dense(), [1.0, 1.0, 4.0, 6.0, 0.0, 0.0, 5.0, 6.0]);
    params.clear_grads();
    assert_eq!(params.without_grad(), ["w"]);
    w.add_grad_rows(&[2], 2, &[7.0, 7.0]);
    assert_eq!(*w.grad().dense(), [0.0, 0.0, 0.0, 0.0, 7.0, 7.0, 0.0, 0.0]);
}

#[test]
fn gather_with_hidden_rows() {
    let (params, mask) = build(|s| s.weight("mask", &[4], Init::Normal(1.0)));
    let ids = Arc::new(vec![2, ops::MASKED, 0, 2, ops::MASKED]);
    check(&[matrix("x", 3, 4)], &params, |p, x| ops::gather_or_fill(p, &x[0], ids.clone(), Some(&mask)));
    let x = morec::nn::Act::constant(matrix("x", 3, 4));
    assert!(ops::gather(&morec::nn::Pass::eval(), &x, ids).unwrap_err().to_string().contains("gather"));
}

#[test]
fn joins() {
    let (none, ()) = build(|_| Ok(()));
    let (a, b) = (matrix("a", 40, 6), matrix("b", 40, 6));
    for p in [0.0, 0.4] {
        check(&[a.clone(), b.clone()], &none, |pass, x| ops::add(pass, &x[0], &x[1], p));
    }
    check(&[a.clone(), matrix("c", 40, 3)], &none, |p, x| ops::concat_columns(p, &[&x[0], &x[1]]));
    check(std::slice::from_ref(&a), &none, |p, x| ops::scale(p, &x[0], 0.3));
    check(&[a], &none, |p, x| ops::normalize_rows(p, &x[0], 2.5));
    let segments = Segments::from_lengths([3, 0, 1, 5]);
    check(&[matrix("x", 9, 4)], &none, |p, x| ops::running_mean(p, &x[0], &segments));
}

#[test]
fn gated_recurrent_unit() {
    let (params, w) = build(|s| s.weight("weight_hh", &[12, 4], Init::XavierNormal));
    let segments = Segments::from_lengths([3, 1, 5, 0, 2]);
    check(&[matrix("gates", 11, 12)], &params, |p, x| ops::gru(p, &x[0], &segments, &w));
}

#[test]
fn convolutions_that_look_back() {
    let segments = Segments::from_lengths([3, 1, 6, 2]);
    let x = || matrix("x", 12, 4);
    for (kernel, dilation, bias) in [(3, 1, true), (2, 4, false), (1, 1, true), (3, 2, true)] {
        let (params, l) = build(|s| Linear::new(s, kernel * 4, 5, bias, Init::XavierNormal));
        check(&[x()], &params, |p, x| ops::causal_conv(p, &x[0], &segments, &l, kernel, dilation));
    }
    let (params, l) = build(|s| Linear::new(s, 3, 2, true, Init::XavierNormal));
    check(&[x()], &params, |p, x| ops::vertical_conv(p, &x[0], &segments, &l));
    let (params, b) = build(|s| s.weight("bias", &[4], Init::Normal(1.0)));
    // Far enough apart that no difference changes which is largest.
    let apart = (x() * 20.0).unwrap().round().unwrap().affine(0.25, 0.1).unwrap();
    let apart = (apart + (matrix("nudge", 12, 4) * 0.02).unwrap()).unwrap();
    for k in [1, 3, 7] {
        check(std::slice::from_ref(&apart), &params, |p, x| ops::causal_max_pool(p, &x[0], &segments, k, &b));
    }
}

#[test]
fn losses_with_drawn_negatives() {
    use morec::nn::ops::{SampledLoss, SampledTargets};
    let (none, ()) = build(|_| Ok(()));
    for contrast in [
        SampledLoss::Softmax,
        SampledLoss::Binary { beta: 1.0 },
        SampledLoss::Binary { beta: 0.3 },
        SampledLoss::Pairwise,
    ] {
        let spec = Arc::new(SampledTargets {
            target: vec![1, 2, 0, 4, 4],
            negatives: Arc::new(vec![0, 3, 5, 3, 3, 4, 1, 2, 5, 0]),
            k: 2,
            bias: vec![0.3, -0.2, 0.9, 1.1, 0.0, 0.4],
            contrast,
        });
        check(&[matrix("h", 5, 4), matrix("e", 6, 4)], &none, |p, a| ops::sampled_loss(p, &a[0], &a[1], &spec));
    }
    let bad = Arc::new(SampledTargets {
        target: vec![7],
        negatives: Arc::new(vec![0]),
        k: 1,
        bias: vec![0.0; 6],
        contrast: SampledLoss::Pairwise,
    });
    let (h, e) = (matrix("h", 1, 4), matrix("e", 6, 4));
    let act = morec::nn::Act::constant;
    assert!(ops::sampled_loss(&morec::nn::Pass::eval(), &act(h), &act(e), &bad).is_err());
}

#[test]
fn stacking_and_gating() {
    let (params, ()) = build(|_| Ok(()));
    check(&[matrix("a", 3, 4), matrix("b", 5, 4)], &params, |p, x| ops::concat_rows(p, &x[0], &x[1]));
    check(&[matrix("a", 6, 5), matrix("b", 6, 5)], &params, |p, x| ops::sigmoid_gate(p, &x[0], &x[1]));
    check(&[matrix("x", 6, 8)], &params, |p, x| ops::swiglu(p, &x[0]));
}

#[test]
fn scaled_sums_and_mixed_rows() {
    let (params, (scale, table)) =
        build(|s| Ok((s.weight("scale", &[4], Init::Normal(1.0))?, s.weight("table", &[1, 5, 3], Init::Normal(1.0))?)));
    check(&[matrix("a", 6, 4), matrix("b", 6, 4)], &params, |p, x| {
        let y = ops::add_scaled(p, &x[0], &x[1], &scale)?;
        let m = Arc::new((0..30).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<f32>>());
        ops::concat_columns(p, &[&y, &ops::interpolate_rows(p, &table, &m)?])
    });
}

#[test]
fn attention_over_others() {
    let (params, ()) = build(|_| Ok(()));
    let (asks, told) = (Segments::from_lengths([3, 1, 2]), Segments::from_lengths([2, 4, 1]));
    check(&[matrix("q", 6, 4), matrix("kv", 7, 8)], &params, |p, x| {
        ops::cross_attention(p, &x[0], &x[1], &asks, &told, 2)
    });
}

#[test]
fn attention_over_long_sequences() {
    let (params, ()) = build(|_| Ok(()));
    let spec = AttentionSpec { heads: 2, causal: false, dropout: 0.0 };
    let segments = Segments::from_lengths([140, 3]);
    check(&[matrix("qkv", 143, 12)], &params, |p, x| ops::attention(p, &x[0], &segments, spec));
}

#[test]
fn convolutions_and_pools() {
    use morec::nn::ops::Grid;
    let grid = Grid { n: 2, h: 6, w: 5 };
    for (k, stride, pad) in [(3, 1, 1), (3, 2, 1), (1, 1, 0), (1, 2, 0), (5, 2, 2)] {
        let (params, w) = build(|s| s.weight("w", &[4, 3, k, k], Init::Normal(0.3)));
        check(&[matrix("x", grid.rows(), 3)], &params, |p, x| Ok(ops::conv2d(p, &x[0], grid, &w, stride, pad)?.0));
    }
    let (params, ()) = build(|_| Ok(()));
    check(&[matrix("x", grid.rows(), 3)], &params, |p, x| Ok(ops::max_pool(p, &x[0], grid, 3, 2, 1)?.0));
    check(&[matrix("x", grid.rows(), 3)], &params, |p, x| Ok(ops::subsample(p, &x[0], grid, 2)?.0));
}

#[test]
fn adapters_operations() {
    use morec::nn::ops::Kronecker;
    let (params, (a, b, p)) = build(|s| {
        Ok((
            s.weight("a", &[3, 1], Init::Normal(1.0))?,
            s.weight("b", &[1, 2], Init::Normal(1.0))?,
            s.weight("p", &[1], Init::Normal(0.1))?,
        ))
    });
    // Columns before, between and behind the vectors.
    check(&[matrix("x", 70, 9)], &params, |pass, x| {
        let y = ops::scale_columns(pass, &x[0], &[(1, &a), (6, &b)])?;
        let other = ops::slice_columns(pass, &x[0], 2, 5)?;
        let y = ops::gated_sum(pass, &ops::slice_columns(pass, &y, 0, 5)?, &other, &p, 0.5)?;
        let y = ops::add_to_columns(pass, &y, &ops::slice_columns(pass, &x[0], 7, 2)?, 2)?;
        // At either end.
        let y = ops::add_to_columns(pass, &y, &ops::slice_columns(pass, &x[0], 0, 3)?, 0)?;
        ops::append_zero_row(pass, &ops::add_to_columns(pass, &y, &ops::slice_columns(pass, &x[0], 4, 5)?, 0)?)
    });
    let (params, map) = build(|s| {
        let init = Init::Normal(0.7);
        Ok(Kronecker {
            rule: s.weight("rule", &[2, 2, 2], init)?,
            left: s.weight("left", &[2, 3, 1], init)?,
            right: s.weight("right", &[2, 1, 4], init)?,
            bias: s.weight("bias", &[8], init)?,
        })
    });
    check(&[matrix("x", 7, 6)], &params, |p, x| ops::kronecker(p, &x[0], &map));
}
