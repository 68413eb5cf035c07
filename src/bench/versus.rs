//! Benchmark controller: runs two worker processes in turns and compares their medians.

use super::{Named, Spec};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

/// Options of a comparison.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of counted turns per side; one turn before them is not counted.
    pub rounds: usize,
    /// Number of threads per side.
    pub threads: usize,
    /// Path of this program.
    pub program: PathBuf,
    /// Paths of a Python with PyTorch and of the peer's script; `None`: measure this program only.
    pub peer: Option<(PathBuf, PathBuf)>,
}

/// Measurements of one side.
#[derive(Debug, Clone, Serialize)]
pub struct Side {
    /// Median seconds per step.
    pub seconds: f64,
    /// Fastest and slowest turn, as mean seconds per step.
    pub spread: (f64, f64),
    /// Peak resident memory in bytes.
    pub peak_memory: Option<u64>,
}

/// Comparison of both sides in one case.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Name of the case.
    pub case: String,
    /// Measurements of this program.
    pub morec: Side,
    /// Measurements of the peer, if there was one.
    pub peer: Option<Side>,
    /// Median time of this program divided by the peer's.
    pub ratio: Option<f64>,
    /// Smallest and largest ratio between a turn and the peer's following turn.
    pub ratio_spread: Option<(f64, f64)>,
    /// Peak memory of this program divided by the peer's.
    pub memory_ratio: Option<f64>,
    /// Targets for the ratios of time and memory.
    pub aim: (f64, Option<f64>),
    /// Versions of the peer's libraries.
    pub peer_versions: BTreeMap<String, String>,
    /// Largest relative difference between the values of both sides in the steps they share.
    pub value_difference: Option<f64>,
}

#[derive(Deserialize)]
struct Hello {
    versions: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Answer {
    seconds: Vec<f64>,
    values: Vec<Option<f64>>,
}

struct Worker {
    name: &'static str,
    versions: BTreeMap<String, String>,
    child: Child,
    input: ChildStdin,
    output: std::io::Lines<BufReader<std::process::ChildStdout>>,
    turns: Vec<f64>,
    seconds: Vec<f64>,
    values: Vec<Option<f64>>,
}

impl Worker {
    fn start(name: &'static str, mut command: Command, spec: &Spec, threads: usize) -> Result<Self> {
        for key in ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"] {
            command.env(key, threads.to_string());
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(Error::io(command.get_program()))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::Usage(format!("{name}: no pipe to it")));
        };
        let output = BufReader::new(output).lines();
        let (versions, turns, seconds, values) = Default::default();
        let mut this = Self { name, versions, child, input, output, turns, seconds, values };
        let spec = serde_json::to_string(spec).map_err(|e| Error::Usage(e.to_string()))?;
        this.versions = this.ask::<Hello>(&spec)?.versions;
        Ok(this)
    }
    fn ask<T: serde::de::DeserializeOwned>(&mut self, line: &str) -> Result<T> {
        let broken = |name: &str| Error::Usage(format!("{name} ended early; its own message stands above"));
        writeln!(self.input, "{line}").and_then(|()| self.input.flush()).map_err(|_| broken(self.name))?;
        let answer = self.output.next().and_then(std::result::Result::ok).ok_or_else(|| broken(self.name))?;
        serde_json::from_str(&answer).map_err(|e| Error::Usage(format!("{}: `{answer}`: {e}", self.name)))
    }
    fn turn(&mut self, steps: usize, counts: bool) -> Result<()> {
        let a: Answer = self.ask(&format!("run {steps}"))?;
        self.values.extend(a.values);
        if counts {
            self.turns.push(a.seconds.iter().sum::<f64>() / a.seconds.len().max(1) as f64);
            self.seconds.extend(a.seconds);
        }
        Ok(())
    }
    fn end(mut self) -> Result<Side> {
        #[derive(Deserialize)]
        struct Last {
            peak_memory: Option<u64>,
        }
        let last: Last = self.ask("end")?;
        self.child.wait().ok();
        let spread = self.turns.iter().fold((f64::MAX, 0f64), |(a, b), &t| (a.min(t), b.max(t)));
        Ok(Side { seconds: median(&mut self.seconds), spread, peak_memory: last.peak_memory })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// Runs a case on both sides, in turns. `on_turn(turn, turns)` is called after each turn.
pub fn compare(named: &Named, spec: &Spec, options: &Options, on_turn: &dyn Fn(usize, usize)) -> Result<Comparison> {
    let mut own = Command::new(&options.program);
    own.args(["bench", "worker"]);
    let mut ours = Worker::start("morec", own, spec, options.threads)?;
    let mut theirs = match &options.peer {
        Some((python, script)) => Some(peer(python, script, spec, options.threads)?),
        None => None,
    };
    for round in 0..=options.rounds {
        for w in [Some(&mut ours), theirs.as_mut()].into_iter().flatten() {
            w.turn(spec.steps, round > 0)?;
            // Idle threads of the other side may spin for a while before they sleep.
            std::thread::sleep(Duration::from_millis(300));
        }
        on_turn(round, options.rounds);
    }
    let pairs = theirs.as_ref().map(|t| {
        let ratios = ours.turns.iter().zip(&t.turns).map(|(a, b)| a / b);
        ratios.fold((f64::MAX, 0f64), |(lo, hi), r| (lo.min(r), hi.max(r)))
    });
    let value_difference = theirs.as_ref().and_then(|t| {
        let both = ours.values.iter().zip(&t.values).filter_map(|(a, b)| Some((a.as_ref()?, b.as_ref()?)));
        both.map(|(a, b)| (a - b).abs() / b.abs().max(1e-9)).reduce(f64::max)
    });
    let peer_versions = theirs.as_ref().map(|t| t.versions.clone()).unwrap_or_default();
    let morec = ours.end()?;
    let peer = theirs.map(Worker::end).transpose()?;
    let share = |f: &dyn Fn(&Side) -> Option<f64>| Some(f(&morec)? / f(peer.as_ref()?)?);
    Ok(Comparison {
        case: named.name.into(),
        ratio: share(&|s| Some(s.seconds)),
        memory_ratio: share(&|s| s.peak_memory.map(|b| b as f64)),
        ratio_spread: pairs,
        aim: named.aim,
        value_difference,
        peer_versions,
        morec,
        peer,
    })
}

fn peer(python: &Path, script: &Path, spec: &Spec, threads: usize) -> Result<Worker> {
    let mut command = Command::new(python);
    command.arg(script).env("TOKENIZERS_PARALLELISM", "true").env("HF_HUB_OFFLINE", "1");
    command.env("TRANSFORMERS_VERBOSITY", "error").env("PYTHONWARNINGS", "ignore");
    Worker::start("the PyTorch peer", command, spec, threads)
}
