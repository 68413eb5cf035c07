//! Invented platforms, for trying things out and for tests of scale.
//!
//! **Items.** Each has a theme (of 40 interests, [`words::themes`]), a style (of 8), a kind (of the platform's 12) and
//! a popularity: Zipf, weight `(rank + 10)^-0.9`. Its title names a maker, the style, one or two of the theme's words
//! and the kind: `Norvex Vintage Galaxy Rocket Poster`. Media draws from the first eight of a theme's twelve words,
//! goods from the last eight: platforms share four words a theme, and all styles; no kind, maker, item or user.
//!
//! **Users.** Each has two or three interests (weights 3 : 2 : 1), a style, and a number of events (5 + geometric).
//! Step by step: with probability `noise` any item by popularity; otherwise the theme is the last item's (70 %), or
//! one of the user's interests; with 30 % the kind is the one that follows the last item's kind in the platform's
//! order (book → film → soundtrack …); among the items that fit, one by popularity, three times as readily if the
//! style is the user's. Nothing twice.
//!
//! So text says what an interest is, on any platform; popularity, noise and thin histories are as usual; and what is
//! learned on one platform is true of the other.
//!
//! Every item and user has its own random stream: a data set is written as a stream, in memory that grows by a few
//! bytes a user and some 100 bytes an item.

mod covers;
mod process;
pub mod words;

use super::columns::Column;
use super::folder::{DatasetParts, Tables, write_folder};
use super::images::{ImageSource, OnImage};
use crate::error::{Error, Result};
use crate::fsio::Manifest;
use arrow::array::{ArrayRef, Int64Array, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field};
use process::World;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Which of the two invented platforms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// Books, films, games.
    Media,
    /// Things to have and to wear.
    Goods,
}

/// Sizes and seed of an invented platform.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SynthConfig {
    /// Which platform.
    pub platform: Platform,
    /// Number of users.
    pub users: usize,
    /// Number of items.
    pub items: usize,
    /// Mean number of events a user; at least 5.
    pub mean_events: f64,
    /// Share of events that follow popularity alone.
    pub noise: f64,
    /// Seed of everything.
    pub seed: u64,
    /// Whether items have covers.
    #[serde(default)]
    pub covers: bool,
}

impl SynthConfig {
    /// Refuses what cannot be made.
    pub fn check(&self) -> Result<()> {
        let bad = |m: &str| Err(Error::Usage(m.into()));
        if self.users == 0 || u32::try_from(self.users).is_err() {
            return bad("users: between 1 and 2^32 - 1");
        }
        if self.items < 100 || u32::try_from(self.items).is_err() {
            return bad("items: at least 100, so that every history finds enough of them");
        }
        if !(5.0..=40.0).contains(&self.mean_events) {
            return bad("mean events a user: between 5 and 40");
        }
        if !(0.0..=1.0).contains(&self.noise) {
            return bad("noise: between 0 and 1");
        }
        Ok(())
    }
}

/// Writes an invented platform as a data set folder. `on_progress(done, all)` counts users.
pub fn write(config: &SynthConfig, dir: &Path, on_progress: &dyn Fn(usize, usize)) -> Result<Manifest> {
    config.check()?;
    let world = World::new(config);
    // Lengths first: the offsets of the interactions.
    let mut offsets = Vec::with_capacity(config.users + 1);
    offsets.push(0usize);
    let mut total = 0;
    for u in 0..config.users {
        total += world.length(u);
        offsets.push(total);
    }
    let prefix = if config.platform == Platform::Media { 'm' } else { 'g' };
    fn text<'a>(name: &str, nullable: bool, make: impl Fn(usize) -> String + 'a) -> Column<'a> {
        let make = move |r: Range<usize>| Arc::new(StringArray::from_iter_values(r.map(&make))) as ArrayRef;
        Column::new(Field::new(name, DataType::Utf8, nullable), make)
    }
    let w = &world;
    let items = [
        text("item_id", false, move |i| format!("{prefix}{i:06}")),
        text("text", false, move |i| w.title(i)),
        text("kind", true, move |i| w.kind_name(i).into()),
        text("theme", true, move |i| w.themes[w.items[i].theme as usize].name.into()),
    ];
    let users = [text("user_id", false, move |u| format!("{prefix}u{u:07}"))];
    // Three columns of one table are made from one pass over its users.
    let chunk = std::cell::RefCell::new((usize::MAX..usize::MAX, Vec::new()));
    let rows = |r: &Range<usize>| {
        let mut held = chunk.borrow_mut();
        if held.0 != *r {
            let mut all = Vec::with_capacity(r.len());
            let first = offsets.partition_point(|&o| o <= r.start) - 1;
            for u in first..config.users {
                if offsets[u] >= r.end {
                    break;
                }
                for (k, (item, time)) in world.history(u).into_iter().enumerate() {
                    if r.contains(&(offsets[u] + k)) {
                        all.push((u as u32, item, time));
                    }
                }
                on_progress(u + 1, config.users);
            }
            *held = (r.clone(), all);
        }
        held.1.clone()
    };
    let events = [
        Column::new(Field::new("user", DataType::UInt32, false), |r| {
            Arc::new(UInt32Array::from_iter_values(rows(&r).into_iter().map(|e| e.0)))
        }),
        Column::new(Field::new("item", DataType::UInt32, false), |r| {
            Arc::new(UInt32Array::from_iter_values(rows(&r).into_iter().map(|e| e.1)))
        }),
        Column::new(Field::new("timestamp", DataType::Int64, true), |r| {
            Arc::new(Int64Array::from_iter_values(rows(&r).into_iter().map(|e| e.2)))
        }),
    ];
    let ids: Vec<String> = match config.covers {
        true => (0..config.items).map(|i| format!("{prefix}{i:06}")).collect(),
        false => vec![],
    };
    let drawn = Covers(w);
    let images = config.covers.then_some((&drawn as &dyn ImageSource, 0.0));
    let parts = DatasetParts { images, config: serde_json::json!({ "synth": config }), ..Default::default() };
    let tables = Tables {
        items: (config.items, &items),
        users: (config.users, &users),
        events: (total, &events),
        timed: true,
        ids: &ids,
    };
    write_folder(dir, parts, tables)
}

/// Covers, drawn one after the other.
struct Covers<'a>(&'a World);

impl ImageSource for Covers<'_> {
    fn each(&self, _: &dyn Fn(&str) -> Option<u32>, give: &mut OnImage) -> Result<()> {
        use rayon::prelude::*;
        let all: Vec<u32> = (0..self.0.items.len() as u32).collect();
        for part in all.chunks(256) {
            let drawn: Vec<Vec<u8>> = part
                .par_iter()
                .map(|&i| {
                    let cover = covers::cover(self.0.items[i as usize], &mut self.0.stream("cover", i as usize));
                    crate::picture::encode_png(&cover)
                })
                .collect();
            for (&i, bytes) in part.iter().zip(drawn) {
                give(i, format!("cover {i}"), Ok(bytes))?;
            }
        }
        Ok(())
    }
}
