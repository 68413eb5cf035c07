//! Invented platforms: the same from the same seed, disjoint, and with titles that tell.

use morec::data::synth::{Platform, SynthConfig, words, write};
use morec::data::{Dataset, validate};
use std::collections::HashSet;

fn config(platform: Platform) -> SynthConfig {
    SynthConfig { platform, users: 400, items: 500, mean_events: 8.0, noise: 0.1, seed: 11, covers: false }
}

#[test]
fn two_platforms_share_interests_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let make = |p, name: &str| {
        let at = dir.path().join(name);
        write(&config(p), &at, &|_, _| ()).unwrap();
        validate::validate(&at).unwrap();
        Dataset::open(&at).unwrap()
    };
    let (a, b) = (make(Platform::Media, "a"), make(Platform::Goods, "b"));
    let set = |v: &[String]| v.iter().cloned().collect::<HashSet<_>>();
    assert!(set(&a.items.ids).is_disjoint(&set(&b.items.ids)) && set(&a.users).is_disjoint(&set(&b.users)));
    assert!(set(&a.items.text).is_disjoint(&set(&b.items.text)));
    for d in [&a, &b] {
        let mean = d.seqs.values.len() as f64 / d.users.len() as f64;
        assert!((7.3..8.7).contains(&mean), "{mean}");
        assert!(d.seqs.rows().all(|r| r.len() >= 5 && r.iter().collect::<HashSet<_>>().len() == r.len()));
        // A title holds a word of its theme, and its kind.
        let (theme, kind) = (&d.items.attributes["theme"], &d.items.attributes["kind"]);
        for ((t, theme), kind) in d.items.text.iter().zip(theme).zip(kind) {
            let t = t.to_lowercase();
            let known = words::themes().into_iter().find(|w| w.name == theme.as_str()).unwrap();
            assert!(known.words.iter().any(|w| t.contains(w)), "{t}: {theme}");
            assert!(t.contains(&kind.to_lowercase()), "{t}: {kind}");
        }
        // The next item is of the same theme far more often than by chance.
        let pairs = d.seqs.rows().flat_map(|r| r.windows(2));
        let (same, all) =
            pairs.fold((0, 0), |(s, n), w| (s + usize::from(theme[w[0] as usize] == theme[w[1] as usize]), n + 1));
        let share = same as f64 / f64::from(all);
        assert!((0.5..0.85).contains(&share), "{share}");
    }
}

#[test]
fn the_seed_fixes_everything_and_more_users_change_no_user() {
    let dir = tempfile::tempdir().unwrap();
    let make = |c: &SynthConfig, name: &str| {
        let at = dir.path().join(name);
        write(c, &at, &|_, _| ()).unwrap();
        Dataset::open(&at).unwrap()
    };
    let c = config(Platform::Goods);
    let (a, b) = (make(&c, "a"), make(&c, "b"));
    assert_eq!(a.digest, b.digest);
    assert_ne!(a.digest, make(&SynthConfig { seed: 12, ..c.clone() }, "c").digest);
    // Far more rows than one batch of the writer holds.
    let many = make(&SynthConfig { users: 20_000, ..c.clone() }, "d");
    assert_eq!(many.seqs.len(), 20_000);
    for u in 0..400 {
        assert_eq!(a.seqs.row(u), many.seqs.row(u));
    }
}

#[test]
fn every_interest_has_twelve_words() {
    let themes = words::themes();
    assert_eq!(themes.len(), 40);
    assert!(themes.iter().all(|t| t.words.len() == 12 && t.words.iter().all(|w| !w.is_empty())));
}

#[test]
fn impossible_sizes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let c = config(Platform::Media);
    for (bad, word) in [
        (SynthConfig { users: 0, ..c.clone() }, "users"),
        (SynthConfig { items: 10, ..c.clone() }, "items"),
        (SynthConfig { mean_events: 2.0, ..c.clone() }, "events"),
        (SynthConfig { noise: f64::NAN, ..c.clone() }, "noise"),
    ] {
        let e = write(&bad, &dir.path().join("x"), &|_, _| ()).unwrap_err();
        assert!(e.exit_code() == 2 && e.to_string().contains(word), "{e}");
    }
    assert!(!dir.path().join("x").exists());
}
