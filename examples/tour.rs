//! Train on one platform, move to another, recommend.

use morec::config::{Config, load};
use morec::eval::encode::{catalogue, no_progress, states};
use morec::experiment::{Experiment, Prepared};
use morec::model::ModelFolder;
use std::path::Path;

fn main() -> morec::Result<()> {
    // Train on a source domain. (The same keys stand in TOML files: `load(&base, &["settings.toml"], …)`.)
    let settings = ["data.path=datasets/games", "item.model=title-mini", "train.epochs=5"].map(String::from);
    let config = load(&Config::default(), &[] as &[&Path], &settings)?;
    let games = Prepared::open(&config)?;
    Experiment::new(&config, &games, Path::new("runs/games")).run(vec![], &no_progress)?;
    // Move to another platform, which shares neither users nor items, training low-rank adapters only.
    let source = ModelFolder::open(Path::new("runs/games"))?;
    let config = load(&source.config, &[] as &[&Path], &["data.path=datasets/instruments".into()])?.with_preset("lora");
    let target = Prepared::open(&config)?;
    let lora = Experiment { source: Some(&source), ..Experiment::new(&config, &target, Path::new("runs/lora")) };
    println!("NDCG@10 {:.4}", lora.run(vec![], &no_progress)?.test.get("ndcg@10"));
    // Recommend to somebody who has had the first three items.
    let model = ModelFolder::open(Path::new("runs/lora"))?.build(&candle_core::Device::Cpu)?;
    let (items, history) = (catalogue(&model, &model.features(&target.texts)?, &no_progress)?, [0, 1, 2]);
    for (item, score) in morec::eval::top_k(&states(&model, &items, &[&history], None)?, &items, 10, &history) {
        println!("{score:7.3}  {}", target.texts[item as usize]);
    }
    Ok(())
}
