//! Writes a synthetic data set as a data set folder.

use super::config::{Platform, SynthConfig};
use super::process::World;
use crate::data::columns::Column;
use crate::data::folder::{DatasetParts, Tables, write_folder};
use crate::data::images::{ImageSource, OnImage};
use crate::error::Result;
use crate::fsio::Manifest;
use arrow::array::{ArrayRef, Int64Array, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Writes a synthetic data set as a data set folder. `on_progress(done, all)` receives numbers of users.
pub fn write(config: &SynthConfig, dir: &Path, on_progress: &dyn Fn(usize, usize)) -> Result<Manifest> {
    config.check()?;
    let world = World::new(config);
    // The lengths of the user histories are generated first, for the offsets of the interactions.
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
    // Three columns of one table are generated in one pass over its users.
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

/// Image source that draws the covers one after the other.
struct Covers<'a>(&'a World);

impl ImageSource for Covers<'_> {
    fn each(&self, _: &dyn Fn(&str) -> Option<u32>, give: &mut OnImage) -> Result<()> {
        use rayon::prelude::*;
        let all: Vec<u32> = (0..self.0.items.len() as u32).collect();
        for part in all.chunks(256) {
            let drawn: Vec<Vec<u8>> = part
                .par_iter()
                .map(|&i| {
                    let cover = super::covers::cover(self.0.items[i as usize], &mut self.0.stream("cover", i as usize));
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
