//! `morec encode`: the vectors of a catalogue as a file, for an index or another program.

use super::console::encoding;
use super::evaluate::data_dir;
use super::output::{self, bytes};
use super::settings::{DeviceArg, Threads};
use crate::config::{ImageConfig, ImagePooling, ItemKind};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::eval::encode::candidates;
use crate::eval::vectors::{self, Export, Format};
use crate::fsio;
use crate::hub::{self, HubOptions};
use crate::item::image::{COST, FrozenImageEncoder, ImageFolder, Images, PixelStore, Pixels};
use crate::item::text::{SentenceEncoder, TextFolder};
use crate::item::{Features, ItemTable, ModalityContent, Tokens, compute_rows};
use crate::model::{ItemContent, ModelFolder};
use crate::nn::Pass;
use crate::nn::host::to_vec;
use crate::nn::ops::Pooling;
use crate::nn::weights::Precision;
use crate::picture::Augment;
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Write the vectors of a catalogue's items to Parquet or safetensors
///
/// With a run, the vectors that its users' states are multiplied with; with a pre-trained encoder, its pooled output.
/// Stopped half-way, the same command goes on where it was.
#[derive(Debug, Args)]
pub struct EncodeArgs {
    /// A run, a model folder, or a pre-trained encoder (a folder, a name below models/, a hub id)
    #[arg(value_name = "MODEL")]
    model: String,
    /// Data set folder [default: the run's]
    #[arg(short, long, value_name = "DIR", env = "MOREC_DATA")]
    data: Option<PathBuf>,
    /// The file; .parquet or .safetensors (the ids then lie beside it in .ids.json)
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Precision of the numbers
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    dtype: Dtype,
    /// Scale each vector to length 1
    #[arg(long)]
    normalize: bool,
    /// Of a pre-trained encoder: cls or mean [default: mean for texts; for pictures cls where there is such a token]
    #[arg(long, value_enum)]
    pooling: Option<Pool>,
    /// Of a pre-trained encoder of texts: tokens a text is cut to [default: 256, or as many as it has positions]
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    threads: Threads,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Dtype {
    F32,
    F16,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Pool {
    Mean,
    Cls,
}

type Compute<'a> = Box<dyn Fn(&[u32]) -> Result<Vec<f32>> + Sync + 'a>;

/// Runs `morec encode`.
///
/// # Errors
/// A missing model or data set, a file in the way, a vector that is not finite.
pub fn run(args: EncodeArgs) -> Result<()> {
    args.threads.apply()?;
    let format = match args.out.extension().and_then(|e| e.to_str()) {
        Some("parquet") => Format::Parquet,
        Some("safetensors") => Format::Safetensors,
        _ => return Err(Error::Usage(format!("{}: has to end in .parquet or .safetensors", args.out.display()))),
    };
    if args.out.exists() && !args.force {
        return Err(Error::Usage(format!("{} is there; --force replaces it", args.out.display())));
    }
    let path = Path::new(&args.model);
    if ModelFolder::find(path).is_some() { of_model(&args, format, path) } else { of_encoder(&args, format) }
}

fn of_model(args: &EncodeArgs, format: Format, path: &Path) -> Result<()> {
    let folder = ModelFolder::open(path)?;
    let model = folder.build(&args.device.open()?)?;
    let (ids, features) = match folder.config.item.kind {
        ItemKind::Id => {
            let ids = folder.items.clone().unwrap_or_default();
            let count = ids.len();
            (ids, Features { count, ..Default::default() })
        }
        ItemKind::Text | ItemKind::Image | ItemKind::Both => {
            let data = Dataset::open(&data_dir(args.data.as_ref(), &folder)?)?;
            let features = model.features_with_progress(&ItemContent::whole(&data), &encoding("pictures"))?;
            (data.items.ids, features)
        }
    };
    let key = features.content.values().map(ModalityContent::digest).collect::<Vec<_>>().join(" ");
    let cost = |i: usize| features.cost(i);
    let compute = |ids: &[u32]| {
        let y = model.item.encode(&ItemTable { ids: &Arc::new(ids.to_vec()), features: &features }, &Pass::eval())?;
        Ok(candidates(&model, &to_vec(y.value())?).into_owned())
    };
    let identity = format!("{} {key}", folder.digest);
    write(args, format, &ids, model.item.dim(), &identity, &cost, Box::new(compute))
}

fn of_encoder(args: &EncodeArgs, format: Format) -> Result<()> {
    let Some(dir) = &args.data else {
        return Err(Error::Usage("--data DIR: the data set whose items are to be encoded".into()));
    };
    let found = hub::resolve(&args.model, &HubOptions::from_env()?)?;
    if ImageFolder::is_one(&found.dir) {
        return of_image_encoder(args, format, &found.dir, dir);
    }
    let folder = TextFolder::open(&found.dir, true)?;
    let usable = folder.config.usable_positions();
    let limit = args.max_tokens.unwrap_or(usable.min(256));
    if !(3..=usable).contains(&limit) {
        let m = format!("--max-tokens {limit}: from 3 to {usable}");
        return Err(Error::Usage(m));
    }
    let pooling = match args.pooling {
        None | Some(Pool::Mean) => Pooling::Mean,
        Some(Pool::Cls) => Pooling::Cls,
    };
    let encoder = SentenceEncoder::on(&args.device.open()?, &folder, pooling)?;
    let data = Dataset::open(dir)?;
    let tokens = Tokens::new(&folder.tokenizer, &data.items.text, limit, false)?;
    let weights = folder.weights.as_ref().map(|w| w.digest()).unwrap_or_default();
    let identity =
        format!("{weights} {} {pooling:?} {}", fsio::sha256_bytes(folder.config_json.as_bytes()), tokens.digest());
    let compute = |ids: &[u32]| encoder.encode_batch(&tokens, ids);
    write(args, format, &data.items.ids, encoder.width(), &identity, &|i| tokens.row(i).len(), Box::new(compute))
}

fn of_image_encoder(args: &EncodeArgs, format: Format, encoder: &Path, dir: &Path) -> Result<()> {
    let folder = ImageFolder::open(encoder, true)?;
    if args.max_tokens.is_some() {
        return Err(Error::Usage("--max-tokens is for encoders of texts".into()));
    }
    let pooling = match args.pooling {
        None => ImagePooling::Auto,
        Some(Pool::Mean) => ImagePooling::Mean,
        Some(Pool::Cls) => ImagePooling::Cls,
    };
    let config = ImageConfig { pooling, ..Default::default() };
    let data = Dataset::open(dir)?;
    let Some(file) = &data.images else {
        return Err(Error::Usage(format!("{}: has no pictures; import it with --images", dir.display())));
    };
    let store = PixelStore::open(file, Some(dir), &folder.preprocess(&config), &encoding("pictures"))?;
    let pixels = Pixels::new(store, file.places(data.items.ids.len()));
    let encoder = FrozenImageEncoder::on(&args.device.open()?, &folder, &config)?;
    let weights = folder.weights.as_ref().map(|w| w.digest()).unwrap_or_default();
    let identity = format!(
        "{weights} {} {} {:?}",
        fsio::sha256_bytes(folder.config_json.as_bytes()),
        pixels.digest(),
        config.pooling
    );
    // Items without a picture have no vector.
    let with: Vec<u32> = (0..data.items.ids.len() as u32).filter(|&i| pixels.has(i as usize)).collect();
    let ids: Vec<String> = with.iter().map(|&i| data.items.ids[i as usize].clone()).collect();
    let compute = |some: &[u32]| {
        let items: Vec<u32> = some.iter().map(|&i| with[i as usize]).collect();
        encoder.encode_batch(&Images::of(&pixels, &items, Augment::None, &Pass::eval())?)
    };
    write(args, format, &ids, encoder.width(), &identity, &|_| COST, Box::new(compute))
}

fn write(
    args: &EncodeArgs,
    format: Format,
    ids: &[String],
    width: usize,
    identity: &str,
    cost: &dyn Fn(usize) -> usize,
    compute: Compute,
) -> Result<()> {
    let started = Instant::now();
    let device = args.device.open()?;
    let precision = match args.dtype {
        Dtype::F32 => Precision::F32,
        Dtype::F16 => Precision::F16,
    };
    // Batches of a part: bounded by tokens to fit the processor's caches, texts of similar length together.
    let in_batches = |part: &[u32]| {
        let one = |batch: &[u32]| compute(&batch.iter().map(|&i| part[i as usize]).collect::<Vec<_>>());
        compute_rows(part.len(), width, |i| cost(part[i] as usize), &device, one, &|_, _| {})
    };
    // Results of other devices differ by rounding: an export is only resumed on the device it was started on.
    let place = if device.is_cpu() { String::new() } else { format!(" {}", args.device.name()) };
    let identity =
        format!("morec vectors 1 {width} {:?} {} {identity} {}{place}", precision, args.normalize, digest(ids));
    let found = vectors::export(&Export {
        ids,
        width,
        identity: &identity,
        out: &args.out,
        format,
        precision,
        normalize: args.normalize,
        compute: &in_batches,
        on_progress: &encoding("items"),
    })?;
    let size = std::fs::metadata(&args.out).map_or(0, |m| m.len());
    let seconds = started.elapsed().as_secs_f64();
    if args.json {
        return output::print_json(&serde_json::json!({
            "file": args.out, "items": ids.len(), "width": width, "bytes": size, "resumed_items": found,
            "seconds": seconds,
        }));
    }
    let resumed = if found > 0 { format!(", {found} of them from a stopped run") } else { String::new() };
    let name = args.out.display();
    output::print(&format!("{name}: {} items{resumed}, width {width}, {}, {seconds:.1} s\n", ids.len(), bytes(size)))
}

fn digest(ids: &[String]) -> String {
    fsio::sha256_bytes(ids.join("\n").as_bytes())
}
