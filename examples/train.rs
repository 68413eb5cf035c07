//! Train a text model on a data set and watch its validations.
//!
//! `cargo run --release --example train -- datasets/mine title-mini runs/mine`

use morec::config::Config;
use morec::eval::encode::no_progress;
use morec::experiment::{Experiment, Prepared};
use morec::train::{Event, Observer};
use std::path::Path;

/// Prints one line per validation.
struct Validations;

impl Observer for Validations {
    fn on(&mut self, event: &Event) -> morec::Result<()> {
        if let Event::Validation { epoch, metrics, train_loss, .. } = event {
            println!("epoch {}: loss {train_loss:.4}, validation NDCG@10 {:.4}", epoch + 1, metrics["ndcg@10"]);
        }
        Ok(())
    }
}

fn main() -> morec::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [data, encoder, run] = args.as_slice() else {
        return Err(morec::Error::Usage("usage: train DATASET ENCODER RUN".into()));
    };
    let mut config = Config::default();
    config.data.path = data.clone();
    config.item.model = encoder.clone();
    config.train.epochs = 10;
    config.train.patience = 2;
    let prepared = Prepared::open(&config)?;
    println!("{} users, {} candidates", prepared.split.users.len(), prepared.split.items.len());
    let result = Experiment::new(&config, &prepared, Path::new(run)).run(vec![Box::new(Validations)], &no_progress)?;
    println!("{}: {} epochs, test HR@10 {:.4}", result.ended, result.epochs, result.test.get("hr@10"));
    Ok(())
}
