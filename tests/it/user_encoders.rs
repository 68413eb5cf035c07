//! Every user encoder: finite differences, and what each promises about time, padding and company.

use crate::golden::{close, flat};
use crate::grad::{build, check, matrix};
use crate::support::USER_KINDS;
use candle_core::Tensor;
use morec::config::{NormPosition, UserConfig, UserKind};
use morec::nn::{Act, Pass, ops};
use morec::user::{self, Histories, UserEncoder};
use std::sync::Arc;

fn config(kind: UserKind) -> UserConfig {
    UserConfig {
        kind,
        dim: 8,
        heads: 2,
        layers: 2,
        dropout: 0.2,
        max_len: 6,
        window: 3,
        horizontal: 3,
        vertical: 2,
        ..Default::default()
    }
}

/// Every encoder in each of its forms, with a name.
fn all() -> Vec<(String, UserConfig)> {
    let mut all: Vec<UserConfig> = USER_KINDS.into_iter().map(config).collect();
    all.push(UserConfig { norm: NormPosition::Pre, ..config(UserKind::Sasrec) });
    all.push(UserConfig { norm: NormPosition::Original, ..config(UserKind::Sasrec) });
    all.push(UserConfig { norm: NormPosition::Pre, ..config(UserKind::Bert4rec) });
    all.push(UserConfig { user_id: true, ..config(UserKind::Caser) });
    all.push(UserConfig { user_id: true, ..config(UserKind::Dssm) });
    all.into_iter().map(|c| (format!("{:?} {:?} user_id={}", c.kind, c.norm, c.user_id), c)).collect()
}

fn histories(lengths: &[usize], c: &UserConfig) -> Histories {
    Histories::new(lengths.iter().copied(), c.slots()).of((0..lengths.len() as u32).map(|u| u % 3).collect())
}

#[test]
fn gradients() {
    for (name, c) in all() {
        let (params, user) = build(|s| user::build(s, &c, 3));
        let h = histories(&[3, 5, 1], &c);
        eprintln!("{name}");
        let x = matrix("x", 9, 8);
        if c.kind == UserKind::Dssm && c.user_id {
            check(&[], &params, |p, _| user.encode(&Act::constant(x.clone()), &h, p));
            continue;
        }
        let hidden = |i: u32| if user.mask().is_some() && i % 4 == 1 { ops::MASKED } else { i };
        let ids = Arc::new((0..9).map(hidden).collect::<Vec<u32>>());
        check(&[x], &params, |p, a| user.encode(&ops::gather_or_fill(p, &a[0], ids.clone(), user.mask())?, &h, p));
    }
}

/// Later items change no earlier state (except where both directions are read), and no other history changes anything.
#[test]
fn time_runs_one_way_and_nobody_sees_another() {
    for (name, c) in all() {
        let (_params, user) = build(|s| user::build(s, &c, 3));
        let x = matrix("x", 4, 8);
        let run = |x: &Tensor, lengths: &[usize], who: &[u32]| {
            let h = Histories::new(lengths.iter().copied(), c.slots()).of(who.to_vec());
            flat(user.encode(&Act::constant(x.clone()), &h, &Pass::eval()).unwrap().value())
        };
        let whole = run(&x, &[4], &[1]);
        let changed = Tensor::cat(&[&x.narrow(0, 0, 3).unwrap(), &matrix("other", 1, 8)], 0).unwrap();
        let after = run(&changed, &[4], &[1]);
        let id_only = c.kind == UserKind::Dssm && c.user_id;
        assert_eq!(after[..24] == whole[..24], c.kind != UserKind::Bert4rec, "{name}: earlier states");
        assert_eq!(after[24..] == whole[24..], id_only, "{name}: the last state");
        let with_others = Tensor::cat(&[&matrix("a", 6, 8), &x, &matrix("b", 1, 8)], 0).unwrap();
        let company = run(&with_others, &[6, 4, 1], &[0, 1, 2]);
        close(&format!("{name}: alone = in company"), &company[48..80], &whole, 5e-6);
        // The first events alone have the states they have with more behind them: what counts positions from the
        // end (learned ones) is asked with the slots moved along.
        if !matches!(c.kind, UserKind::Sasrec | UserKind::Bert4rec) {
            close(&format!("{name}: a beginning"), &run(&x.narrow(0, 0, 2).unwrap(), &[2], &[1]), &whole[..16], 5e-6);
        }
    }
}

/// States depend on the history alone, not on how much room there would be for more.
#[test]
fn room_for_more_events_changes_nothing() {
    for (name, c) in all().into_iter().filter(|(_, c)| !matches!(c.kind, UserKind::Sasrec | UserKind::Bert4rec)) {
        let wide = UserConfig { max_len: 20, ..c.clone() };
        let ((_p, a), (_q, b)) = (build(|s| user::build(s, &c, 3)), build(|s| user::build(s, &wide, 3)));
        let x = Act::constant(matrix("x", 4, 8));
        let run = |u: &dyn UserEncoder, c: &UserConfig| {
            flat(u.encode(&x, &histories(&[4], c), &Pass::eval()).unwrap().value())
        };
        assert_eq!(run(a.as_ref(), &c), run(b.as_ref(), &wide), "{name}");
    }
}

#[test]
fn who_asks_matters_where_users_are_known() {
    for kind in [UserKind::Caser, UserKind::Dssm] {
        let c = UserConfig { user_id: true, ..config(kind) };
        let (_params, user) = build(|s| user::build(s, &c, 3));
        assert!(user.knows_users());
        let x = Act::constant(matrix("x", 2, 8));
        let run = |who: Vec<u32>| user.encode(&x, &Histories::new([2], 6).of(who), &Pass::eval());
        assert_ne!(flat(run(vec![0]).unwrap().value()), flat(run(vec![2]).unwrap().value()));
        assert!(run(vec![]).unwrap_err().to_string().contains("users by id"));
    }
}
