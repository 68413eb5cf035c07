//! Results of the baselines that need no training.

use super::prepare::Prepared;
use super::result::protocol;
use crate::baseline::{self, Baseline, ItemNeighbours, Markov, MostPopular, RecentPopular, TextNeighbours};
use crate::config::Config;
use crate::error::Result;
use crate::eval::{EvalTask, Report, encode};
use crate::item::Tokens;
use crate::item::text::{SentenceEncoder, TextFolder};
use crate::model::parse_device;

/// Test results of the baselines without training: those based on interactions and, with a pre-trained text encoder,
/// text-kNN on its frozen embeddings. `part` is the name of the test part in the report's protocol.
pub fn baseline_rows(
    config: &Config,
    prepared: &Prepared,
    text: Option<&TextFolder>,
    part: &str,
) -> Result<Vec<(String, Report)>> {
    let split = &prepared.split;
    let mut all: Vec<Box<dyn Baseline>> = vec![Box::new(MostPopular::new(split))];
    if let Some(recent) = RecentPopular::new(split) {
        all.push(Box::new(recent));
    }
    all.push(Box::new(Markov::new(split)));
    all.push(Box::new(ItemNeighbours::new(split)));
    if let Some(folder) = text.filter(|f| f.weights.is_some()) {
        let encoder = SentenceEncoder::on(&parse_device(&config.device)?, folder, config.item.pooling)?;
        let limit = config.item.max_tokens.min(folder.config.usable_positions());
        let tokens = Tokens::new(&folder.tokenizer, &prepared.texts, limit, config.item.lower_case)?;
        all.push(Box::new(TextNeighbours::new(encoder.encode(&tokens, &encode::no_progress)?, encoder.width())));
    }
    let candidates = prepared.candidates(&config.eval, &split.test)?;
    let task = EvalTask { split, cases: &split.test, config: &config.eval, candidates: &candidates };
    all.iter()
        .map(|b| {
            let ranked = baseline::rank(b.as_ref(), &task)?;
            Ok((b.name().to_string(), task.report(&ranked, &protocol(config, part))))
        })
        .collect()
}
