//! Full ranking: independent of batch size and threads, equal to a plain computation, honest about NaN and ties.

use crate::grad::random;
use morec::config::{EvalConfig, Ties};
use morec::eval::{Rank, RankQuery, Report, rank_dense, rank_scores};
use morec::rng::Stream;

struct Case {
    states: Vec<f32>,
    items: Vec<f32>,
    dim: usize,
    targets: Vec<u32>,
    masks: Vec<Vec<u32>>,
}

fn made(seed: u64, users: usize, items: usize, dim: usize) -> Case {
    let mut s = Stream::new(seed, "ranking");
    // Few distinct values, so that ties abound.
    let mut v = |n: usize| (0..n).map(|_| s.below(3) as f32 - 1.0).collect::<Vec<f32>>();
    let (states, items_v) = (v(users * dim), v(items * dim));
    let targets: Vec<u32> = (0..users).map(|_| s.below(items as u64) as u32).collect();
    let masks = (0..users).map(|_| (0..s.below(9)).map(|_| s.below(items as u64) as u32).collect()).collect();
    Case { states, items: items_v, dim, targets, masks }
}

fn queries(c: &Case) -> Vec<RankQuery<'_>> {
    c.targets.iter().zip(&c.masks).map(|(&target, masked)| RankQuery { target, masked }).collect()
}

#[test]
fn equal_to_a_plain_computation() {
    for (seed, users, items, dim) in [(1, 1, 1, 1), (2, 3, 700, 4), (3, 150, 40, 8), (4, 65, 513, 3), (5, 64, 512, 16)]
    {
        let c = made(seed, users, items, dim);
        let got = rank_dense(&c.states, &c.items, dim, &queries(&c)).unwrap();
        for (u, q) in queries(&c).iter().enumerate() {
            let scores: Vec<f64> = (0..items)
                .map(|i| (0..dim).map(|k| f64::from(c.states[u * dim + k] * c.items[i * dim + k])).sum())
                .collect();
            assert_eq!(got[u], rank_scores(&scores, q).unwrap(), "seed {seed} user {u}");
        }
    }
}

#[test]
fn independent_of_batch_size_and_threads() {
    for seed in 0..6 {
        let mut c = made(seed, 200, 1100, 24);
        c.states = random(&format!("states{seed}"), c.states.len());
        c.items = random(&format!("items{seed}"), c.items.len());
        let q = queries(&c);
        let whole = rank_dense(&c.states, &c.items, c.dim, &q).unwrap();
        for batch in [1, 7, 64, 130] {
            let parts: Vec<Rank> = q
                .chunks(batch)
                .zip(c.states.chunks(batch * c.dim))
                .flat_map(|(q, s)| rank_dense(s, &c.items, c.dim, q).unwrap())
                .collect();
            assert_eq!(parts, whole, "batch {batch}");
        }
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| rank_dense(&c.states, &c.items, c.dim, &q).unwrap()), whole);
        }
    }
}

#[test]
fn nan_is_refused() {
    let mut c = made(1, 4, 9, 2);
    c.items[5] = f32::NAN;
    let e = rank_dense(&c.states, &c.items, 2, &queries(&c)).unwrap_err();
    assert!(e.to_string().contains("item vector 2"), "{e}");
    let mut c = made(1, 4, 9, 2);
    c.states[7] = f32::INFINITY;
    assert!(rank_dense(&c.states, &c.items, 2, &queries(&c)).is_err());
    // Finite vectors whose products overflow against each other.
    let q = [RankQuery { target: 0, masked: &[] }];
    assert!(rank_dense(&[f32::MAX, f32::MAX], &[f32::MAX, f32::MIN, 1.0, 1.0], 2, &q).is_err());
    assert!(rank_scores(&[1.0, f64::NAN], &q[0]).is_err());
}

#[test]
fn constant_scores_are_at_chance() {
    let (users, items) = (37, 400);
    let c = Case { states: vec![1.0; users], items: vec![0.5; items], dim: 1, ..made(9, users, items, 1) };
    let q: Vec<RankQuery> = c.targets.iter().map(|&target| RankQuery { target, masked: &[] }).collect();
    let ranks = rank_dense(&c.states, &c.items, 1, &q).unwrap();
    let config = EvalConfig::default();
    let report = Report::new(&ranks, &vec![vec!["warm"]; users], items, &config, "test");
    assert!((report.get("hr@10") - 10.0 / items as f64).abs() < 1e-12);
    let worst = EvalConfig { ties: Ties::Pessimistic, ..config };
    assert_eq!(Report::new(&ranks, &vec![vec!["warm"]; users], items, &worst, "test").get("hr@10"), 0.0);
}

#[test]
fn lists_are_the_sorted_scores_beginning() {
    use morec::eval::ranking::{Catalogue, list_scores};
    let (d, n, users, k) = (3, 1200, 70, 7);
    // Few distinct values, so that ties are many.
    let coarse = |v: Vec<f32>| v.into_iter().map(f32::round).collect::<Vec<_>>();
    let (items, states) = (coarse(random("list items", n * d)), coarse(random("list states", users * d)));
    let masked: Vec<Vec<u32>> =
        (0..users as u32).map(|u| (0..u % 9).map(|i| (u * 31 + i * 7) % n as u32).collect()).collect();
    let queries: Vec<RankQuery> = masked.iter().map(|m| RankQuery { target: 3, masked: m }).collect();
    let catalogue = Catalogue::new(&items, d).unwrap();
    let (ranks, lists) = catalogue.rank_and_list(&states, &queries, k).unwrap();
    assert_eq!(ranks, catalogue.rank(&states, &queries).unwrap());
    for (u, list) in lists.iter().enumerate() {
        let score = |i: usize| (0..d).map(|j| f64::from(states[u * d + j] * items[i * d + j])).sum::<f64>() + 0.0;
        let scores: Vec<f64> = (0..n).map(score).collect();
        let mut all: Vec<u32> = (0..n as u32).filter(|i| !masked[u].contains(i)).collect();
        all.sort_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b)));
        assert_eq!(*list, all[..k], "user {u}");
        assert_eq!(list_scores(&scores, &masked[u], k), all[..k], "user {u}, by scores");
    }
    assert_eq!(list_scores(&[1.0, 2.0], &[1], 5), [0]);
}
