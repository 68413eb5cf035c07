//! The shared real data: each card's command gives the card's counts, and the known answers hold.

use crate::data_support::{import_command, shared};
use morec::data::{Card, Dataset, Description, validate};
use morec::fsio::sha256_file;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;

const CARDS: [&str; 5] = ["amazon-games", "amazon-instruments", "ml-100k", "ninerec-movies90s", "ninerec-moviesnew"];

fn card(name: &str) -> Card {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets").join(name).join("dataset.toml");
    Card::read(&path).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn cards_parse() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets");
    let entries = std::fs::read_dir(&folder).expect("datasets/").flatten();
    let mut found: Vec<String> = entries
        .filter(|e| e.path().join("dataset.toml").is_file())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    found.sort();
    assert!(CARDS.iter().all(|c| found.contains(&(*c).to_string())), "{found:?}");
    for name in &found {
        let card = card(name);
        assert_eq!(&card.name, name);
        assert!(card.import.command.ends_with(&format!("--out datasets/{name}")), "{name}");
        assert!(card.raw.values().all(|d| d.len() == 64) && !card.raw.is_empty(), "{name}");
        for text in [&card.title, &card.domain, &card.origin, &card.licence, &card.citation, &card.import.filters] {
            assert!(!text.trim().is_empty(), "{name}");
        }
        assert!(!card.import.columns.is_empty() && !card.modalities.is_empty(), "{name}");
    }
}

#[test]
fn a_bad_card_is_named() {
    let dir = TempDir::new().expect("folder");
    let path = dir.path().join("dataset.toml");
    std::fs::write(&path, "name = 'x'\ntitel = 'y'\n").expect("write");
    let e = Card::read(&path).expect_err("unknown key").to_string();
    assert!(e.contains("dataset.toml:2") && e.contains("titel"), "{e}");
}

/// Imports a card's data by the card's own command, once for all tests.
fn real(name: &str) -> Dataset {
    static DIR: OnceLock<TempDir> = OnceLock::new();
    let card = card(name);
    let raw = shared();
    let out: PathBuf = DIR.get_or_init(|| TempDir::new().expect("folder")).path().join(name);
    for (file, digest) in &card.raw {
        assert_eq!(&sha256_file(&raw.join(file)).expect("raw file"), digest, "{file}");
    }
    let words = card.import.command.split_whitespace().skip(3).map(|w| w.replace("RAW", &raw.to_string_lossy()));
    let words: Vec<String> = words.take_while(|w| w != "--out").collect();
    import_command(words.into_iter(), &out).unwrap_or_else(|e| panic!("{e}"));
    let (d, _) = validate::validate(&out).unwrap_or_else(|e| panic!("{e}"));
    let counts = (d.users.len() as u64, d.items.ids.len() as u64, d.seqs.values.len() as u64);
    assert_eq!(counts, (card.counts.users, card.counts.items, card.counts.interactions), "{name}");
    d
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 5e-5, "{a} is not {b}");
}

#[test]
fn real_data_ml_100k() {
    let d = real("ml-100k");
    let s = Description::of(&d);
    assert_eq!((s.users, s.items, s.interactions), (943, 1682, 100_000));
    let t = s.times.expect("times");
    close(t.tie_share, 415.0 / 943.0);
    // REFERENCE: "leave-one-out trains on 41 % of events that are later than the test event".
    close(t.leaked_share, 0.41253);
    let mut events = vec![0usize; s.items];
    for row in d.seqs.rows() {
        row[..row.len() - 2].iter().for_each(|&i| events[i as usize] += 1);
    }
    assert_eq!(events.iter().sum::<usize>(), 98_114);
    let mut order: Vec<usize> = (0..s.items).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(events[i]));
    let top: Vec<(&str, usize)> = order[..5].iter().map(|&i| (d.items.ids[i].as_str(), events[i])).collect();
    assert_eq!(top, [("50", 575), ("100", 501), ("181", 498), ("258", 498), ("286", 478)]);
    let star_wars = &d.items.text[order[0]];
    assert_eq!(star_wars, "Star Wars");
    assert_eq!(d.user_attributes.len(), 4);
    let bigrams: usize = d.seqs.rows().map(|r| r[..r.len() - 2].windows(2).count()).sum();
    assert_eq!(bigrams, 97_171);
}

#[test]
fn real_data_amazon() {
    let games = real("amazon-games");
    let s = Description::of(&games);
    assert_eq!((s.users, s.items, s.interactions, s.text.items), (50_546, 16_859, 440_264, 16_859));
    assert!(s.times.is_none());
    let instruments = real("amazon-instruments");
    let s = Description::of(&instruments);
    assert_eq!((s.users, s.items, s.interactions), (10_000, 33_921, 83_828));
    assert_eq!(s.items - s.items_unused, 20_618);
    assert_eq!(s.repeats.users, 2_353);
    assert!(instruments.items.text.iter().all(|t| !t.contains("&amp;") && !t.starts_with(' ')));
}

#[test]
fn real_data_movies() {
    let old = real("ninerec-movies90s");
    assert_eq!(old.items.text[0], "Toy Story (1995)");
    assert_eq!(old.items.text[9], "Usual Suspects, The (1995)");
    assert_eq!(old.user_attributes["occupation"][0], "technician");
    let new = real("ninerec-moviesnew");
    assert_eq!(new.items.text[0], "Tea with Mussolini (1999)");
    assert!(new.times.is_some() && new.user_attributes.is_empty());
}
