//! `morec bench speed`: this program beside PyTorch on this machine.

use super::output;
use super::progress::Progress;
use super::settings::DeviceArg;
use crate::bench::{self, CASES, Comparison, Named, Options};
use crate::error::{Error, Result};
use crate::hub::{self, HubOptions};
use crate::terminal;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const PEER: &str = include_str!("../../benches/peer/speed.py");

/// Measure speed and memory beside PyTorch
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Speed(SpeedArgs),
    /// One side of a comparison: works as told on stdin
    #[command(hide = true)]
    Worker,
}

/// Time training steps, encoding and ranking in turns with the same work in PyTorch
///
/// The peer's script comes with this program; it needs a Python with PyTorch:
/// `python3 -m venv peer && peer/bin/pip install torch transformers sentence-transformers onnxruntime onnx pillow`, then
/// `--python peer/bin/python`. Without one only this program's times are shown.
#[derive(Debug, Args)]
struct SpeedArgs {
    /// Cases [default: all that can run]
    #[arg(value_name = "CASE")]
    cases: Vec<String>,
    /// List the cases
    #[arg(long)]
    list: bool,
    /// Turns a side, after one that is not counted
    #[arg(long, default_value_t = 5, value_name = "N")]
    rounds: usize,
    /// Threads a side [default: all]
    #[arg(long, value_name = "N", env = "MOREC_THREADS")]
    threads: Option<usize>,
    #[command(flatten)]
    device: DeviceArg,
    /// Dropout while training
    #[arg(long, default_value_t = 0.0, value_name = "P")]
    dropout: f64,
    /// A Python with PyTorch [default: python3]
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Only this program
    #[arg(long, conflicts_with = "python")]
    no_peer: bool,
    /// Data set of the cases on real data
    #[arg(long, default_value = "datasets/amazon-instruments", value_name = "DIR")]
    data: PathBuf,
    /// Their text encoder
    #[arg(long, default_value = "all-minilm-l6-v2", value_name = "MODEL")]
    model: String,
    /// A folder of at least 512 JPEG covers, for the case of that name
    #[arg(long, value_name = "DIR")]
    covers: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs `morec bench`.
///
/// # Errors
/// An unknown case, a worker that fails.
pub fn run(args: BenchArgs) -> Result<()> {
    match args.what {
        What::Speed(args) => speed(&args),
        What::Worker => bench::serve(std::io::stdin().lock(), std::io::stdout().lock()),
    }
}

fn chosen(args: &SpeedArgs) -> Result<Vec<&'static Named>> {
    let find = |name: &String| {
        CASES.iter().find(|c| c.name == name).ok_or_else(|| {
            let names: Vec<&str> = CASES.iter().map(|c| c.name).collect();
            Error::Usage(format!("no case is called `{name}`; there are {}", names.join(", ")))
        })
    };
    args.cases.iter().map(find).collect()
}

fn speed(args: &SpeedArgs) -> Result<()> {
    let mut cases = chosen(args)?;
    if args.list {
        let rows: Vec<_> = CASES.iter().map(|c| vec![c.name.to_string(), c.about.to_string()]).collect();
        return output::print(&output::table(&rows));
    }
    args.device.require_cpu("morec bench speed")?;
    if !(0.0..1.0).contains(&args.dropout) {
        return Err(Error::Usage(format!("--dropout {} is no probability below 1", args.dropout)));
    }
    if args.rounds == 0 || args.threads == Some(0) {
        return Err(Error::Usage("--rounds and --threads have to be at least 1".into()));
    }
    let model = hub::resolve(&args.model, &HubOptions::from_env()?);
    let real = args.data.join(crate::fsio::MANIFEST).exists() && model.is_ok();
    if cases.is_empty() {
        let can = |c: &&Named| (real || !c.needs_data()) && (args.covers.is_some() || !c.needs_covers());
        cases = CASES.iter().filter(can).collect();
        if !real {
            let m = "cases on real data are left out: --data (a built data set) and --model name what they need";
            terminal::message(m);
        }
    }
    let model = match cases.iter().any(|c| c.needs_data()) {
        true => model?.dir,
        false => PathBuf::new(),
    };
    let folder = Scratch::new()?;
    let script = folder.0.join("speed.py");
    crate::fsio::write_bytes(&script, PEER.as_bytes())?;
    let options = Options {
        rounds: args.rounds,
        threads: args.threads.unwrap_or_else(rayon::current_num_threads),
        program: std::env::current_exe().map_err(Error::io("this program"))?,
        peer: python(args)?.map(|p| (p, script)),
    };
    let machine = Machine {
        morec: env!("CARGO_PKG_VERSION"),
        processor: processor(),
        threads: options.threads,
        blas: crate::nn::gemm::describe(),
        seconds_since_1970: std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| d.as_secs()),
        rounds: options.rounds,
        dropout: args.dropout,
    };
    if !args.json {
        let Machine { processor, threads, blas, rounds, dropout, .. } = &machine;
        let text =
            format!("{processor}, {threads} threads a side, {rounds} turns, dropout {dropout}; products: {blas}\n");
        output::print(&text)?;
    }
    let mut results = vec![];
    for case in cases {
        let mut spec = case.spec();
        spec.dropout = args.dropout;
        spec.data = match (&args.covers, case.needs_covers()) {
            (Some(dir), true) => dir.clone(),
            (None, true) => return Err(Error::Usage(format!("{}: --covers DIR names a folder of covers", case.name))),
            _ => args.data.clone(),
        };
        spec.model = model.clone();
        spec.exchange = folder.0.clone();
        let bar = Progress::new(case.name, options.rounds as u64 + 1);
        let result = bench::compare(case, &spec, &options, &|done, _| bar.set(done as u64 + 1));
        bar.finish();
        let result = result?;
        if !args.json {
            output::print(&output::table(&rows(&result, results.is_empty())))?;
        }
        results.push(result);
    }
    if args.json {
        return output::print_json(&serde_json::json!({"machine": machine, "cases": results}));
    }
    let mut versions = std::collections::BTreeMap::new();
    results.iter().for_each(|r| versions.extend(r.peer_versions.clone()));
    let text: Vec<String> = versions.iter().map(|(name, v)| format!("{name} {v}")).collect();
    if text.is_empty() { Ok(()) } else { output::print(&format!("peer: {}\n", text.join(", "))) }
}

/// Machine and settings of a measurement.
#[derive(Debug, Serialize)]
struct Machine {
    morec: &'static str,
    processor: String,
    threads: usize,
    blas: String,
    seconds_since_1970: u64,
    rounds: usize,
    dropout: f64,
}

/// The processor's name, where the system says it.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name =
        text.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':').map(|(_, n)| n.trim().to_string()));
    name.unwrap_or_else(|| std::env::consts::ARCH.into())
}

/// A Python that can import torch.
fn python(args: &SpeedArgs) -> Result<Option<PathBuf>> {
    if args.no_peer {
        return Ok(None);
    }
    let path = args.python.clone().unwrap_or_else(|| "python3".into());
    let status = Command::new(&path).args(["-c", "import torch"]).stderr(Stdio::null()).status();
    match (status, &args.python) {
        (Ok(s), _) if s.success() => Ok(Some(path)),
        (_, Some(p)) => Err(Error::Usage(format!("--python {}: it cannot import torch", p.display()))),
        _ => {
            terminal::message(
                "no PyTorch here, so no comparison: python3 -m venv peer && peer/bin/pip install torch transformers \
                 sentence-transformers onnxruntime onnx, then --python peer/bin/python",
            );
            Ok(None)
        }
    }
}

/// A temporary folder that is removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("morec-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir).map_err(Error::io(&dir))?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn rows(c: &Comparison, header: bool) -> Vec<Vec<String>> {
    let time = |s: f64| if s < 1.0 { format!("{:.1} ms", 1e3 * s) } else { format!("{s:.2} s") };
    let none = || "–".to_string();
    let memory = |b: Option<u64>| b.map_or_else(none, output::bytes);
    let mut row = vec![c.case.clone(), time(c.morec.seconds), memory(c.morec.peak_memory)];
    let peer = c.peer.as_ref();
    row.push(peer.map_or_else(none, |p| time(p.seconds)));
    row.push(peer.map_or_else(none, |p| memory(p.peak_memory)));
    row.push(c.ratio.map_or_else(none, |r| format!("{r:.3}")));
    row.push(c.ratio_spread.map_or_else(none, |(a, b)| format!("{a:.3}–{b:.3}")));
    row.push(format!("{:.2}", c.aim.0));
    row.push(c.memory_ratio.map_or_else(none, |r| format!("{r:.2}")));
    row.push(c.aim.1.map_or_else(none, |r| format!("{r:.1}")));
    row.push(c.value_difference.map_or_else(none, |r| format!("{r:.0e}")));
    let head =
        ["case", "morec", "memory", "PyTorch", "memory", "ratio", "spread", "aim", "memory", "aim", "values differ by"];
    // Fixed widths: rows appear one by one.
    let widths = [16, 9, 9, 9, 9, 6, 12, 5, 6, 4, 5];
    let pad = |cells: Vec<String>| -> Vec<String> {
        cells.into_iter().zip(widths).map(|(c, w)| format!("{c:<w$}")).collect()
    };
    let mut out = vec![];
    if header {
        out.push(pad(head.iter().map(|s| s.to_string()).collect()));
    }
    out.push(pad(row));
    out
}
