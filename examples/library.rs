//! The library without the command: open a trained run and a data set, recommend to the first users.
//!
//! `cargo run --release --example library -- runs/games-to-instruments/instruments/full datasets/amazon-instruments`

use morec::data::Dataset;
use morec::eval::encode;
use morec::eval::top_k::top_k;
use morec::model::ModelFolder;
use std::path::Path;

fn main() -> morec::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [run, data] = args.as_slice() else {
        return Err(morec::Error::Usage("usage: library RUN DATASET".into()));
    };
    let model = ModelFolder::open(Path::new(run))?.build(&candle_core::Device::Cpu)?;
    let data = Dataset::open(Path::new(data))?;
    // Every title once through the text encoder: (items × d).
    let items = encode::catalogue(&model, &model.features(&data.items.text)?, &encode::no_progress)?;
    let histories: Vec<&[u32]> = data.seqs.rows().take(3).collect();
    let states = encode::states(&model, &items, &histories, None)?;
    for ((state, history), user) in states.chunks(model.item.dim()).zip(&histories).zip(&data.users) {
        println!("{user}, last: {}", history.last().map_or("", |&i| &data.items.text[i as usize]));
        for (item, score) in top_k(state, &items, 5, history) {
            println!("  {score:6.3}  {}", data.items.text[item as usize]);
        }
    }
    Ok(())
}
