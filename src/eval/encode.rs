//! Vectors of a whole catalogue and of many users, in batches of bounded size.

use super::ranking::{Catalogue, Question, Rank};
use crate::config::{Cache, EvalConfig};
use crate::data::{Case, Split};
use crate::error::{Error, Result};
use crate::eval::Report;
use crate::item::features::{self, Features};
use crate::item::prefix::{self, Recipe};
use crate::item::{Depth, ItemTable, Tokens};
use crate::model::Recommender;
use crate::nn::host::to_vec;
use crate::nn::weights::Precision;
use crate::nn::{Act, Pass};
use crate::user::Histories;
use std::path::Path;
use std::sync::Arc;

/// Histories a batch holds.
const USERS: usize = 1024;

/// Told (items done, items in all) while a catalogue is encoded.
pub type Watch<'a> = &'a dyn Fn(usize, usize);

/// Nobody watches.
pub fn silent(_: usize, _: usize) {}

/// (count × d) vectors of all items.
pub fn catalogue(model: &Recommender, features: &Features, watch: Watch) -> Result<Vec<f32>> {
    let len = |i: usize| match (&features.prefix, &features.tokens) {
        (Some(p), _) => p.rows_of(i),
        (None, Some(t)) => t.row(i).len(),
        _ => 1,
    };
    let one = |batch: &[u32]| {
        let ids = Arc::new(batch.to_vec());
        to_vec(model.item.encode(&ItemTable { ids: &ids, features }, &Pass::eval())?.value())
    };
    features::rows(features.count, model.item.dim(), len, &model.device, one, watch)
}

/// Computes what the frozen part of the item encoder makes of each item, once; later passes read it. With a data set's
/// folder it is kept there as a file, which other runs find; where the file cannot be written, or would take more than half
/// of the free disk, one row an item stays in memory, and one row a token is computed each time. Whether it is kept.
pub fn keep_prefix(model: &Recommender, features: &mut Features, data: Option<&Path>, watch: Watch) -> Result<bool> {
    let (Some(depth), Some(tokens), None) = (model.item.frozen(), &features.tokens, &features.prefix) else {
        return Ok(false);
    };
    let precision = match model.config.item.cache {
        Cache::Off => return Ok(false),
        Cache::F16 => Precision::F16,
        Cache::F32 => Precision::F32,
    };
    let one = ItemTable { ids: &Arc::new(vec![0]), features };
    let width = model.item.prefix(&one, depth)?.1;
    let cost = |i: usize| tokens.row(i).len();
    let recipe = Recipe {
        depth,
        width,
        rows: &|i| if depth == Depth::Pooled { 1 } else { cost(i) },
        count: features.count,
        compute: &|ids| Ok(model.item.prefix(&ItemTable { ids: &Arc::new(ids.to_vec()), features }, depth)?.0),
        device: &model.device,
        watch,
    };
    let room = |dir: &Path| {
        let rows = if depth == Depth::Pooled { features.count } else { tokens.total() };
        let need = (rows * width * precision.bytes()) as u64;
        crate::hub::disk_free(dir).is_none_or(|free| need <= free / 2)
    };
    if let Some(data) = data.filter(|d| room(d)) {
        let path = prefix::place(data, &prefix_digest(model, tokens, depth, precision)?);
        match recipe.in_file(&path, precision, &cost) {
            Ok(kept) => {
                features.prefix = Some(kept);
                return Ok(true);
            }
            // A read-only or full disk is no reason not to train.
            Err(Error::Io { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    if depth != Depth::Pooled {
        return Ok(false);
    }
    features.prefix = Some(recipe.in_memory(&cost)?);
    Ok(true)
}

/// Of everything the values depend on.
fn prefix_digest(model: &Recommender, tokens: &Tokens, depth: Depth, precision: Precision) -> Result<String> {
    let mut parts = vec![
        format!("morec prefix 1 {depth:?} {precision:?} {:?}", model.config.item.pooling),
        tokens.digest(),
        model.folder.as_ref().map_or(String::new(), |f| f.config_json.clone()),
    ];
    for p in model.params.iter().filter(|p| p.is_encoder() && !p.trains()) {
        let bytes: Vec<u8> = to_vec(&p.value())?.iter().flat_map(|v| v.to_le_bytes()).collect();
        parts.push(format!("{} {}", p.name(), crate::fsio::sha256_bytes(&bytes)));
    }
    Ok(crate::fsio::sha256_bytes(parts.join("\n").as_bytes()))
}

/// (histories × d): the state after the last event of each non-empty history, given all items' vectors.
pub fn states(model: &Recommender, items: &[f32], histories: &[&[u32]]) -> Result<Vec<f32>> {
    let (d, l) = (model.item.dim(), model.config.user.max_len);
    let mut out = Vec::with_capacity(histories.len() * d);
    for chunk in histories.chunks(USERS) {
        let tails: Vec<&[u32]> = chunk.iter().map(|h| &h[h.len().saturating_sub(l)..]).collect();
        let mut x = vec![];
        for &i in tails.iter().copied().flatten() {
            x.extend_from_slice(&items[i as usize * d..(i as usize + 1) * d]);
        }
        let packed = Histories::new(tails.iter().map(|t| t.len()), l);
        let x = candle_core::Tensor::from_vec(x, (packed.segments.total(), d), &model.device)?;
        let h = model.user.encode(&Act::constant(x), &packed, &Pass::eval())?;
        let h = to_vec(h.value())?;
        for r in packed.segments.last_rows() {
            out.extend_from_slice(&h[r as usize * d..(r as usize + 1) * d]);
        }
    }
    Ok(out)
}

/// Ranks the targets of `cases` over the whole catalogue.
fn rank_cases(
    model: &Recommender,
    features: &Features,
    split: &Split,
    cases: &[Case],
    config: &EvalConfig,
    watch: Watch,
) -> Result<Vec<Rank>> {
    let items = catalogue(model, features, watch)?;
    let d = model.item.dim();
    let catalogue = Catalogue::new(&items, d)?;
    // A user's state, and as much again while it is computed.
    let at_once = (config.memory_mb * 1_000_000 / (8 * d) / USERS * USERS).max(USERS);
    let mut ranks = Vec::with_capacity(cases.len());
    for part in cases.chunks(at_once) {
        let histories: Vec<&[u32]> = part.iter().map(|c| split.history(c)).collect();
        let states = states(model, &items, &histories)?;
        ranks.extend(catalogue.rank(&states, &questions(split, part, config))?);
    }
    Ok(ranks)
}

/// The ranking questions of `cases`.
pub fn questions<'a>(split: &'a Split, cases: &[Case], config: &EvalConfig) -> Vec<Question<'a>> {
    cases
        .iter()
        .map(|c| Question { target: c.target, masked: if config.mask_history { split.history(c) } else { &[] } })
        .collect()
}

/// Ranks, then metrics.
pub fn evaluate(
    model: &Recommender,
    features: &Features,
    split: &Split,
    cases: &[Case],
    config: &EvalConfig,
    name: &str,
    watch: Watch,
) -> Result<(Report, Vec<Rank>)> {
    let ranks = rank_cases(model, features, split, cases, config, watch)?;
    Ok((report(split, cases, &ranks, config, name), ranks))
}

/// The report of ranks already at hand.
pub fn report(split: &Split, cases: &[Case], ranks: &[Rank], config: &EvalConfig, name: &str) -> Report {
    let counts: Vec<u32> = cases.iter().map(|c| split.counts[c.target as usize]).collect();
    Report::new(ranks, &counts, split.items.len(), config, name)
}
