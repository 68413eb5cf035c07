//! Examples for reports: history, target and recommendation lists of a few test users.

use super::prepare::Prepared;
use crate::baseline::Baseline;
use crate::error::Result;
use crate::eval::ranking::list_scores;
use crate::eval::{encode, top_k};
use crate::model::{ModelFolder, Recommender};
use crate::report::Person;
use crate::rng::Stream;
use std::path::Path;

/// A method whose recommendations are shown.
pub enum ShowcaseMethod<'a> {
    /// A baseline without training.
    Baseline(&'a dyn Baseline),
    /// The best model of a run.
    Run(&'a Path),
}

/// Draws `users` test users by `seed` and computes the top-`k` recommendations of each named method for them.
pub fn sample_users(
    prepared: &Prepared,
    methods: &[(String, ShowcaseMethod)],
    users: usize,
    k: usize,
    seed: u64,
) -> Result<Vec<Person>> {
    let split = &prepared.split;
    let mut order: Vec<usize> = (0..split.test.len()).collect();
    Stream::new(seed, "showcase").shuffle(&mut order);
    order.truncate(users);
    let title = |i: u32| {
        let i = i as usize;
        if prepared.texts[i].is_empty() { prepared.item_ids[i].clone() } else { prepared.texts[i].clone() }
    };
    let mut out: Vec<Person> = order
        .iter()
        .map(|&c| {
            let case = &split.test[c];
            Person {
                user: prepared.data.users[split.users[case.user as usize] as usize].clone(),
                history: split.history(case).iter().map(|&i| title(i)).collect(),
                next: title(case.target),
                offers: vec![],
            }
        })
        .collect();
    let histories: Vec<&[u32]> = order.iter().map(|&c| split.history(&split.test[c])).collect();
    let users: Vec<u32> = order.iter().map(|&c| split.test[c].user).collect();
    for (name, method) in methods {
        let offers = match method {
            ShowcaseMethod::Baseline(b) => histories.iter().map(|h| best_of(*b, h, split.items.len(), k)).collect(),
            ShowcaseMethod::Run(dir) => {
                let folder = ModelFolder::open(dir)?;
                let model = folder.build(&crate::model::parse_device(&folder.config.device)?)?;
                recommendations_of(&model, prepared, &histories, &users, k)?
            }
        };
        for (person, ids) in out.iter_mut().zip::<Vec<Vec<u32>>>(offers) {
            person.offers.push((name.clone(), ids.into_iter().map(title).collect()));
        }
    }
    Ok(out)
}

fn best_of(baseline: &dyn Baseline, history: &[u32], items: usize, k: usize) -> Vec<u32> {
    let mut scores = vec![0f64; items];
    baseline.score(history, &mut scores);
    list_scores(&scores, history, k)
}

fn recommendations_of(
    model: &Recommender,
    prepared: &Prepared,
    histories: &[&[u32]],
    users: &[u32],
    k: usize,
) -> Result<Vec<Vec<u32>>> {
    let items = encode::catalogue(model, &model.features_of(&prepared.content())?, &encode::no_progress)?;
    let states = encode::states(model, &items, histories, Some(users))?;
    let items = encode::candidates(model, &items);
    let d = model.item.dim();
    let pick = |(s, h): (&[f32], &&[u32])| top_k(s, &items, k, h).into_iter().map(|(i, _)| i).collect();
    Ok(states.chunks_exact(d).zip(histories).map(pick).collect())
}
