//! Vectors of a whole catalogue and of many users, in batches of bounded size.

use crate::config::{AdapterConfig, Cache, Similarity};
use crate::error::{Error, Result};
use crate::item::features::{self, Features};
use crate::item::image::Pixels;
use crate::item::prefix::{self, Recipe};
use crate::item::{Depth, ItemTable, Modality, Tokens, block_of};
use crate::model::Recommender;
use crate::nn::host::to_vec;
use crate::nn::weights::Precision;
use crate::nn::{Act, Pass, ops};
use crate::user::Histories;
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

/// Histories a batch holds.
pub(super) const USERS: usize = 1024;

/// Told (items done, items in all) while a catalogue is encoded.
pub type Watch<'a> = &'a dyn Fn(usize, usize);

/// Nobody watches.
pub fn silent(_: usize, _: usize) {}

/// (count × d) vectors of all items.
pub fn catalogue(model: &Recommender, features: &Features, watch: Watch) -> Result<Vec<f32>> {
    let len = |i: usize| features.cost(i);
    let one = |batch: &[u32]| {
        let ids = Arc::new(batch.to_vec());
        to_vec(model.item.encode(&ItemTable { ids: &ids, features }, &Pass::eval())?.value())
    };
    features::rows(features.count, model.item.dim(), len, &model.device, one, watch)
}

/// Computes what the frozen part of the item encoder makes of each item, once; later passes read it. With a data set's
/// folder it is kept there as a file, which other runs find; where the file cannot be written, or would take more than half
/// of the free disk or than `item.cache_mb`, one row an item stays in memory, and one row a token is computed each time. Whether it is kept.
pub fn keep_prefix(model: &Recommender, features: &mut Features, data: Option<&Path>, watch: Watch) -> Result<bool> {
    let mut all = false;
    for (modality, depth) in model.item.frozen() {
        if features.kept(modality).is_none() && keep_one(model, features, (modality, depth), data, watch)? {
            all = true;
            // What made the rows is not needed while they are there.
            let place = place_of(modality);
            let limit = Limit::new(model, place, depth);
            let inner = format!("{place}model.");
            let made = |p: &&crate::nn::Weight| p.name().strip_prefix(&inner).is_some_and(|n| limit.below(n));
            model.params.iter().filter(made).for_each(|p| p.unload());
        }
    }
    Ok(all)
}

fn keep_one(
    model: &Recommender,
    features: &mut Features,
    (modality, depth): (Modality, Depth),
    data: Option<&Path>,
    watch: Watch,
) -> Result<bool> {
    let config = &model.config.item;
    let (cache, content) = match modality {
        Modality::Text => (config.cache, features.tokens.as_ref().map(Tokens::digest)),
        Modality::Image => (config.image.cache, features.pixels.as_ref().map(Pixels::digest)),
    };
    let Some(mut content) = content else { return Ok(false) };
    if modality == Modality::Image {
        // Rows only of pictures that count.
        let has: Vec<u8> = (0..features.count).map(|i| u8::from(features.has_image(i))).collect();
        content += &crate::fsio::sha256_bytes(&has);
    }
    let precision = match cache {
        Cache::Off => return Ok(false),
        Cache::F16 => Precision::F16,
        Cache::F32 => Precision::F32,
    };
    let width = model.item.prefix_width(modality, depth);
    let cost = |i: usize| match (modality, &features.tokens) {
        (Modality::Text, Some(t)) => t.row(i).len(),
        _ => crate::item::image::COST,
    };
    let rows = |i: usize| model.item.prefix_rows(modality, features, depth, i);
    let compute =
        |ids: &[u32]| model.item.prefix(&ItemTable { ids: &Arc::new(ids.to_vec()), features }, modality, depth);
    let recipe =
        Recipe { depth, width, rows: &rows, count: features.count, compute: &compute, device: &model.device, watch };
    let need = ((0..features.count).map(rows).sum::<usize>() * width * precision.bytes()) as u64;
    let most = config.cache_mb << 20;
    let room = |dir: &Path| need <= most && crate::hub::disk_free(dir).is_none_or(|free| need <= free / 2);
    let path = match data {
        Some(d) => Some((d, prefix::place(d, &prefix_digest(model, modality, &content, depth, precision)?))),
        None => None,
    };
    if let Some((data, path)) = path.filter(|(d, p)| p.exists() || room(d)) {
        if !path.exists() {
            prefix::prune(data, &path, most - need);
        }
        match recipe.in_file(&path, precision, &cost) {
            Ok(kept) => {
                prefix::prune(data, &path, most);
                features.keep(modality, kept);
                return Ok(true);
            }
            // A read-only or full disk is no reason not to train.
            Err(Error::Io { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    if let Depth::Blocks(_) | Depth::Knowledge(_) = depth {
        return Ok(false);
    }
    let kept = recipe.in_memory(&cost)?;
    features.keep(modality, kept);
    Ok(true)
}

fn place_of(modality: Modality) -> &'static str {
    match modality {
        Modality::Text => "item_encoder.text.",
        Modality::Image => "item_encoder.image.",
    }
}

/// Up to where an encoder's parameters have a say in the kept rows.
struct Limit(Option<(usize, usize)>);

impl Limit {
    fn new(model: &Recommender, place: &str, depth: Depth) -> Self {
        let Depth::Blocks(k) = depth else { return Self(None) };
        let prefix = format!("{place}model.");
        let names = model.params.iter().filter_map(|p| block_of(p.name().strip_prefix(&prefix)?));
        let mut blocks: Vec<(usize, usize)> = names.map(|b| b.0).filter(|b| b.1 != usize::MAX).collect();
        blocks.sort_unstable();
        blocks.dedup();
        Self(blocks.get(k).copied())
    }
    fn below(&self, name: &str) -> bool {
        let head = name.starts_with("layernorm.") || name.contains("post_layernorm.");
        match (self.0, block_of(name)) {
            (None, _) => true,
            (Some(first), Some((block, _))) => block < first,
            (Some(_), None) => !head,
        }
    }
}

/// Of everything the values depend on.
fn prefix_digest(
    model: &Recommender,
    modality: Modality,
    content: &str,
    depth: Depth,
    precision: Precision,
) -> Result<String> {
    let c = &model.config.item;
    let place = place_of(modality);
    let (pooling, config) = match modality {
        Modality::Text => (format!("{:?}", c.pooling), model.folder.as_ref().map(|f| &f.config_json)),
        Modality::Image => (format!("{:?}", c.image.pooling), model.image.as_ref().map(|f| &f.config_json)),
    };
    let limit = Limit::new(model, place, depth);
    let mut parts = vec![
        format!("morec prefix 2 {depth:?} {precision:?} {pooling}"),
        content.to_string(),
        config.cloned().unwrap_or_default(),
    ];
    // What stands above the kept rows is another matter, and may differ from run to run.
    let prefix = format!("{place}model.");
    let below = |p: &&crate::nn::Weight| p.name().strip_prefix(&prefix).is_some_and(|n| limit.below(n)) && !p.trains();
    // What is added says nothing of how it works: LoRA's scale, serial or parallel, where a prompt stands.
    if model.params.iter().filter(below).any(|p| p.is_added()) {
        let adapter = AdapterConfig { lr: 0.0, ..model.config.adapter.clone() };
        parts.push(serde_json::to_string(&adapter).unwrap_or_default());
    }
    for p in model.params.iter().filter(below) {
        parts.push(format!("{} {}", p.name(), p.digest()?));
    }
    Ok(crate::fsio::sha256_bytes(parts.join("\n").as_bytes()))
}

/// The vectors that states are compared with: those of `items` (count × d), or their directions where scores are cosines.
pub fn candidates<'a>(model: &Recommender, items: &'a [f32]) -> Cow<'a, [f32]> {
    match model.config.objective.similarity {
        Similarity::Dot => Cow::Borrowed(items),
        Similarity::Cosine => {
            let mut unit = items.to_vec();
            ops::unit_rows(&mut unit, model.item.dim(), 1.0);
            Cow::Owned(unit)
        }
    }
}

/// (histories × d): what a model says of the next item after each non-empty history, given all items' vectors. `users` are
/// rows of the model's table of users, which only a model that has one asks for.
pub fn states(model: &Recommender, items: &[f32], histories: &[&[u32]], users: Option<&[u32]>) -> Result<Vec<f32>> {
    let (d, c) = (model.item.dim(), &model.config.user);
    let l = c.max_len;
    // Where a hidden item is guessed, one stands after the history.
    let hidden = model.user.mask().map(|m| to_vec(&m.value())).transpose()?;
    let mut out = Vec::with_capacity(histories.len() * d);
    for (part, chunk) in histories.chunks(USERS).enumerate() {
        let tails: Vec<&[u32]> = chunk.iter().map(|h| &h[h.len().saturating_sub(l)..]).collect();
        let mut x = vec![];
        for tail in &tails {
            for &i in *tail {
                x.extend_from_slice(&items[i as usize * d..(i as usize + 1) * d]);
            }
            x.extend_from_slice(hidden.as_deref().unwrap_or_default());
        }
        let more = usize::from(hidden.is_some());
        let mut packed = Histories::new(tails.iter().map(|t| t.len() + more), c.slots());
        if let Some(users) = users {
            packed = packed.of(users[part * USERS..part * USERS + chunk.len()].to_vec());
        }
        let x = candle_core::Tensor::from_vec(x, (packed.segments.total(), d), &model.device)?;
        let h = model.user.encode(&Act::constant(x), &packed, &Pass::eval())?;
        let h = to_vec(h.value())?;
        for r in packed.segments.last_rows() {
            out.extend_from_slice(&h[r as usize * d..(r as usize + 1) * d]);
        }
    }
    if model.config.objective.similarity == Similarity::Cosine {
        ops::unit_rows(&mut out, d, 1.0);
    }
    Ok(out)
}
