//! Item vectors of a whole catalogue and states of many users, computed in batches of bounded size.

use crate::config::Similarity;
use crate::error::Result;
use crate::item::{Features, ItemTable, compute_rows};
use crate::model::Recommender;
use crate::nn::host::to_vec;
use crate::nn::{Act, Pass, ops};
use crate::user::Histories;
use std::borrow::Cow;
use std::sync::Arc;

/// Number of histories per batch.
pub(super) const USERS: usize = 1024;

/// Receives (items encoded, items in total) while a catalogue is encoded.
pub type ProgressFn<'a> = &'a dyn Fn(usize, usize);

/// A [`ProgressFn`] that does nothing.
pub fn no_progress(_: usize, _: usize) {}

/// Item vectors (count × d) of the whole catalogue.
pub fn catalogue(model: &Recommender, features: &Features, on_progress: ProgressFn) -> Result<Vec<f32>> {
    let len = |i: usize| features.cost(i);
    let one = |batch: &[u32]| {
        let ids = Arc::new(batch.to_vec());
        to_vec(model.item.encode(&ItemTable { ids: &ids, features }, &Pass::eval())?.value())
    };
    compute_rows(features.count, model.item.dim(), len, &model.device, one, on_progress)
}

/// Item vectors for scoring: `items` (count × d), scaled to length 1 where the similarity is cosine.
pub fn candidates<'a>(model: &Recommender, items: &'a [f32]) -> Cow<'a, [f32]> {
    match model.config.objective.similarity {
        Similarity::Dot => Cow::Borrowed(items),
        Similarity::Cosine => {
            let mut unit = items.to_vec();
            ops::normalize_rows_in_place(&mut unit, model.item.dim(), 1.0);
            Cow::Owned(unit)
        }
    }
}

/// User states (histories × d) after each non-empty history, given all item vectors (count × d). `users` are rows of
/// the model's user table, required only by models that have one.
pub fn states(model: &Recommender, items: &[f32], histories: &[&[u32]], users: Option<&[u32]>) -> Result<Vec<f32>> {
    let (d, c) = (model.item.dim(), &model.config.user);
    let l = c.max_len;
    // Models that predict masked items get one mask after the history.
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
        ops::normalize_rows_in_place(&mut out, d, 1.0);
    }
    Ok(out)
}
