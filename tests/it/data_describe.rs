//! Statistics against small data sets counted by hand.

use crate::data_support::dataset;
use morec::data::describe::{Bin, Distribution};
use morec::data::{Dataset, Description};

#[test]
fn counted_by_hand() {
    let mut d = dataset(6, &[(&[0, 1, 2, 3], &[1, 2, 5, 5]), (&[0, 0, 1], &[3, 4, 9]), (&[4, 1], &[6, 7])]);
    d.items.text[1] = "title 0".into();
    d.items.text[5] = String::new();
    d.items.attributes.insert("year".into(), ["1", "1", "2", "", "", ""].map(String::from).to_vec());
    let s = Description::of(&d);
    assert_eq!((s.users, s.items, s.interactions), (3, 6, 9));
    assert!((s.density - 8.0 / 18.0).abs() < 1e-12);
    assert_eq!(s.lengths, Some(Distribution { min: 2, q1: 2.5, median: 3.0, q3: 3.5, mean: 3.0, max: 4 }));
    assert_eq!(s.histogram, [Bin { from: 0, to: Some(2), users: 1 }, Bin { from: 3, to: Some(4), users: 2 }]);
    assert_eq!((s.items_unused, s.items_once, s.items_below_5), (1, 3, 5));
    assert_eq!(s.popular.iter().map(|p| p.id.as_str()).collect::<Vec<_>>(), ["i0", "i1", "i2", "i3", "i4"]);
    // Training events: u0: i0 i1, u1: i0, u2 (too short to be tested): i4 i1. Tests: i3 (cold), i1.
    let cold = s.cold.as_ref().expect("cold");
    assert_eq!((cold.items, cold.targets, cold.target_share), (3, 2, 0.5));
    // Training times 1 2 3 6 7; tests at 5 (two are later) and 9 (none).
    let t = s.times.as_ref().expect("times");
    assert_eq!((t.first, t.last), (1, 9));
    assert!((t.tie_share - 1.0 / 3.0).abs() < 1e-12 && (t.leaked_share - 0.2).abs() < 1e-12, "{t:?}");
    assert_eq!((s.repeats.users, s.repeats.events), (1, 1));
    assert_eq!((s.text.items, s.text.duplicates, s.text.words.as_ref().map(|w| w.max)), (5, 1, Some(2)));
    assert_eq!((s.item_attributes["year"].filled, s.item_attributes["year"].distinct), (3, 2));
    let table = s.to_string();
    for part in ["users                   3", "cold test targets", "leak, leave-one-out", "20.0 %"] {
        assert!(table.contains(part), "{part} is not in\n{table}");
    }
    let json = serde_json::to_value(&s).expect("json");
    assert_eq!(json["times"]["leaked_share"], 0.2);
}

#[test]
fn nothing_and_no_time() {
    let s = Description::of(&Dataset::default());
    assert!(s.lengths.is_none() && s.cold.is_none() && s.times.is_none() && s.density == 0.0);
    let mut d = dataset(2, &[(&[0], &[1])]);
    d.times = None;
    let s = Description::of(&d);
    assert!(s.times.is_none() && s.to_string().contains("an order only"));
}
