//! Frozen-layer caches of a catalogue: the parameters they depend on, their file names and size limits.

use super::encode::ProgressFn;
use crate::config::{AdapterConfig, Cache, Modality};
use crate::error::{Error, Result};
use crate::item::frozen_cache::{self, FrozenCacheBuilder};
use crate::item::{Features, FrozenDepth, ItemTable, block_of};
use crate::model::Recommender;
use crate::nn::Weight;
use crate::nn::weights::Precision;
use std::path::Path;
use std::sync::Arc;

/// Computes the output of the item encoder's frozen layers once per item; later passes read it. With a data set folder it is
/// cached there in a file that other runs reuse. Where the file cannot be written, or would take more than half of the free
/// disk or more than `item.cache_mb`, caches of one row per item stay in memory, and caches of one row per token are not
/// made. Returns whether any cache was made.
pub fn build_frozen_caches(
    model: &Recommender,
    features: &mut Features,
    data: Option<&Path>,
    on_progress: ProgressFn,
) -> Result<bool> {
    let mut all = false;
    for (modality, depth) in model.item.frozen_depths() {
        if !features.frozen.contains_key(&modality)
            && build_frozen_cache(model, features, (modality, depth), data, on_progress)?
        {
            all = true;
            // Parameters below the cached depth are freed while the cache exists.
            let contributing = ContributingParams::new(model, modality, depth);
            model.params.iter().filter(|p| contributing.has(p)).for_each(|p| p.unload());
        }
    }
    Ok(all)
}

fn build_frozen_cache(
    model: &Recommender,
    features: &mut Features,
    (modality, depth): (Modality, FrozenDepth),
    data: Option<&Path>,
    on_progress: ProgressFn,
) -> Result<bool> {
    let config = &model.config.item;
    let (cache, content) = (config.encoder(modality).cache, features.content.get(&modality));
    let Some(content) = content else { return Ok(false) };
    let mut content_digest = content.digest();
    if modality == Modality::Image {
        // The cache has rows only for the images that are used.
        let has: Vec<u8> = (0..features.count).map(|i| u8::from(features.has(Modality::Image, i))).collect();
        content_digest += &crate::fsio::sha256_bytes(&has);
    }
    let precision = match cache {
        Cache::Off => return Ok(false),
        Cache::F16 => Precision::F16,
        Cache::F32 => Precision::F32,
    };
    let width = model.item.frozen_width(modality, depth);
    let cost = |i: usize| content.cost(i);
    let rows = |i: usize| model.item.frozen_rows(modality, features, depth, i);
    let compute =
        |ids: &[u32]| model.item.frozen_output(&ItemTable { ids: &Arc::new(ids.to_vec()), features }, modality, depth);
    let recipe = FrozenCacheBuilder {
        depth,
        width,
        rows: &rows,
        count: features.count,
        compute: &compute,
        device: &model.device,
        on_progress,
    };
    let need = ((0..features.count).map(rows).sum::<usize>() * width * precision.bytes()) as u64;
    let most = config.cache_mb << 20;
    let room = |dir: &Path| need <= most && crate::hub::disk_free(dir).is_none_or(|free| need <= free / 2);
    let path = match data {
        Some(d) => {
            Some((d, frozen_cache::cache_path(d, &cache_digest(model, modality, &content_digest, depth, precision)?)))
        }
        None => None,
    };
    if let Some((data, path)) = path.filter(|(d, p)| p.exists() || room(d)) {
        if !path.exists() {
            frozen_cache::prune(data, &path, most - need);
        }
        match recipe.in_file(&path, precision, &cost) {
            Ok(kept) => {
                frozen_cache::prune(data, &path, most);
                features.frozen.insert(modality, kept);
                return Ok(true);
            }
            // Training goes on without a cache on a read-only or full disk.
            Err(Error::Io { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    if let FrozenDepth::Blocks(_) | FrozenDepth::KAdapter(_) = depth {
        return Ok(false);
    }
    let kept = recipe.in_memory(&cost)?;
    features.frozen.insert(modality, kept);
    Ok(true)
}

/// Parameters that cached rows depend on: those of an encoder below the cached depth.
struct ContributingParams {
    prefix: String,
    /// First block whose parameters do not contribute; `None`: all contribute.
    first: Option<(usize, usize)>,
}

impl ContributingParams {
    fn new(model: &Recommender, modality: Modality, depth: FrozenDepth) -> Self {
        let prefix = modality.backbone_prefix();
        let FrozenDepth::Blocks(k) = depth else { return Self { prefix, first: None } };
        let names = model.params.iter().filter_map(|p| block_of(p.name().strip_prefix(&*prefix)?));
        let mut blocks: Vec<(usize, usize)> = names.map(|b| b.0).filter(|b| b.1 != usize::MAX).collect();
        blocks.sort_unstable();
        blocks.dedup();
        Self { prefix, first: blocks.get(k).copied() }
    }
    fn has(&self, p: &Weight) -> bool {
        let Some(name) = p.name().strip_prefix(&*self.prefix) else { return false };
        let head = name.starts_with("layernorm.") || name.contains("post_layernorm.");
        match (self.first, block_of(name)) {
            (None, _) => true,
            (Some(first), Some((block, _))) => block < first,
            (Some(_), None) => !head,
        }
    }
}

/// Digest of everything the cached values depend on.
fn cache_digest(
    model: &Recommender,
    modality: Modality,
    content: &str,
    depth: FrozenDepth,
    precision: Precision,
) -> Result<String> {
    let c = &model.config.item;
    let pooling = match modality {
        Modality::Text => format!("{:?}", c.pooling),
        Modality::Image => format!("{:?}", c.image.pooling),
    };
    let config = model.encoders.get(modality).map(|e| e.config_json().to_string());
    let mut parts = vec![
        format!("morec prefix 2 {} {precision:?} {pooling}", depth.cache_key()),
        content.to_string(),
        config.unwrap_or_default(),
    ];
    // Parameters above the cached depth may differ from run to run.
    let contributing = ContributingParams::new(model, modality, depth);
    let below = |p: &&Weight| contributing.has(p) && !p.trains();
    // Settings of an adapter that its parameters do not show: LoRA's scale, serial or parallel, position of a prompt.
    if model.params.iter().filter(below).any(|p| p.is_adapter()) {
        let adapter = AdapterConfig { lr: 0.0, ..model.config.adapter.clone() };
        parts.push(format!("{adapter:?}"));
    }
    for p in model.params.iter().filter(below) {
        parts.push(format!("{} {}", p.name(), p.digest()?));
    }
    Ok(crate::fsio::sha256_bytes(parts.join("\n").as_bytes()))
}
