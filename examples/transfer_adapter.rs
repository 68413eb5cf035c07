//! Move a trained run to another data set by one adapter after the other, beside zero-shot transfer and full fine-tuning.
//!
//! `cargo run --release --example transfer_adapter -- runs/source datasets/other runs/moved lora houlsby`

use morec::config::{Config, load};
use morec::eval::encode::no_progress;
use morec::experiment::{Experiment, Prepared};
use morec::model::ModelFolder;
use std::path::Path;

fn main() -> morec::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [run, data, out, adapters @ ..] = args.as_slice() else {
        return Err(morec::Error::Usage("usage: transfer_adapter RUN DATASET OUT METHOD…".into()));
    };
    let source = ModelFolder::open(Path::new(run))?;
    let config: Config = load(&source.config, &[] as &[&Path], &[format!("data.path={data}")])?;
    let prepared = Prepared::open(&config)?;
    println!("{:10} {:>8} {:>9} {:>9} {:>12}", "method", "NDCG@10", "trained", "share", "bytes kept");
    for preset in ["zero-shot", "full"].into_iter().chain(adapters.iter().map(String::as_str)) {
        let config = config.with_preset(preset);
        let dir = Path::new(out).join(preset);
        let experiment = Experiment { source: Some(&source), ..Experiment::new(&config, &prepared, &dir) };
        let result = experiment.run(vec![], &no_progress)?;
        let (trained, all) = result.parameters;
        println!(
            "{preset:10} {:8.4} {trained:9} {:8.2}% {:12}",
            result.test.get("ndcg@10"),
            100.0 * trained as f64 / all as f64,
            result.model_bytes.unwrap_or(0)
        );
    }
    Ok(())
}
