//! `morec doctor`: what this machine and this build offer, for bug reports and for choosing settings.

use super::output::{bytes, print, print_json, table};
use super::settings::Threads;
use crate::error::Result;
use crate::fsio::{self, Manifest};
use crate::hub::{self, HubOptions, ModelFolder, Origin};
use crate::nn::gemm::{Mat, describe, sgemm};
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Show what this machine and this build offer
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Model folders to digest [default: those found under models/]
    #[arg(long, value_name = "DIR", num_args = 1..)]
    models: Vec<PathBuf>,
    /// Data-set folders to digest [default: those found under datasets/]
    #[arg(long, value_name = "DIR", num_args = 1..)]
    data: Vec<PathBuf>,
    #[command(flatten)]
    threads: Threads,
}

/// Output of `morec doctor`.
#[derive(Debug, Serialize)]
struct Diagnosis {
    version: &'static str,
    os: &'static str,
    arch: &'static str,
    cores: usize,
    threads: usize,
    simd: Vec<&'static str>,
    blas: String,
    gflops_one_thread: f64,
    gflops_all_threads: f64,
    devices: Vec<&'static str>,
    memory_total: Option<u64>,
    memory_available: Option<u64>,
    disk_free: Option<u64>,
    hub_cache: Option<PathBuf>,
    environment: Vec<(String, String)>,
    models: Vec<Digest>,
    data: Vec<Digest>,
}

/// Size and content digest of a data set or model folder, or what is wrong with it.
#[derive(Debug, Serialize)]
struct Digest {
    dir: PathBuf,
    bytes: Option<u64>,
    sha256: Option<String>,
    problem: Option<String>,
}

/// Runs `morec doctor`.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) when stdout cannot be written; all other problems are part of the diagnosis.
pub fn run(args: DoctorArgs) -> Result<()> {
    args.threads.apply()?;
    let options = HubOptions::from_env();
    let models_dir = options.as_ref().map_or_else(|_| "models".into(), |o| o.models.clone());
    let found_models = || hub::model_folders(&models_dir).iter().map(|n| models_dir.join(n)).collect();
    let models: Vec<PathBuf> = if args.models.is_empty() { found_models() } else { args.models };
    let data: Vec<PathBuf> = if args.data.is_empty() { data_folders(Path::new("datasets")) } else { args.data };
    let simd = simd();
    let threads = rayon::current_num_threads();
    let (memory_total, memory_available) = memory();
    let mut environment = environment();
    if let Err(e) = &options {
        environment.push(("problem".into(), e.to_string()));
    }
    let diagnosis = Diagnosis {
        version: env!("CARGO_PKG_VERSION"),
        os: std::env::consts::OS,
        arch: std::env::consts::ARCH,
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        threads,
        blas: describe(),
        gflops_one_thread: gflops(false),
        gflops_all_threads: gflops(true),
        simd,
        devices: [("cpu", true), ("cuda", cfg!(feature = "cuda")), ("metal", cfg!(feature = "metal"))]
            .into_iter()
            .filter_map(|(name, compiled)| compiled.then_some(name))
            .collect(),
        memory_total,
        memory_available,
        disk_free: hub::disk_free(Path::new(".")),
        hub_cache: options.ok().map(|o| o.cache),
        environment,
        models: models.iter().map(|d| model_digest(d)).collect(),
        data: data.iter().map(|d| data_digest(d)).collect(),
    };
    if args.json { print_json(&diagnosis) } else { print(&readable(&diagnosis)) }
}

/// Instruction sets that matter to matrix products and are there at run time.
fn simd() -> Vec<&'static str> {
    let mut found = Vec::new();
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    {
        macro_rules! probe {
            ($($name:tt)*) => { $(if std::arch::is_x86_feature_detected!($name) { found.push($name); })* };
        }
        probe!("sse4.2" "avx" "avx2" "fma" "f16c" "avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl" "avx512bf16" "avx512vnni");
    }
    #[cfg(target_arch = "aarch64")]
    {
        macro_rules! probe {
            ($($name:tt)*) => { $(if std::arch::is_aarch64_feature_detected!($name) { found.push($name); })* };
        }
        probe!("neon" "fp16" "bf16" "sve");
    }
    found
}

/// 10⁹ multiplications and additions a second of a 512 × 512 × 512 product in f32: the median of what fits into 0.2 s.
fn gflops(threads: bool) -> f64 {
    const N: usize = 512;
    let a: Vec<f32> = (0..N * N).map(|i| (i % 7) as f32 - 3.0).collect();
    let b: Vec<f32> = (0..N * N).map(|i| (i % 5) as f32 - 2.0).collect();
    let mut c = vec![0f32; N * N];
    let mut once = || {
        let start = Instant::now();
        sgemm(N, N, N, 1.0, Mat::new(&a, N), Mat::new(&b, N), 0.0, &mut c, N, threads);
        start.elapsed()
    };
    once();
    let start = Instant::now();
    let mut times = vec![once()];
    while start.elapsed() < Duration::from_millis(200) && times.len() < 51 {
        times.push(once());
    }
    std::hint::black_box(&c);
    times.sort();
    2.0 * (N * N * N) as f64 / times[times.len() / 2].as_secs_f64() / 1e9
}

/// Total and available memory in bytes, where the system says so in `/proc/meminfo`.
fn memory() -> (Option<u64>, Option<u64>) {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(name))?;
        line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
    };
    (field("MemTotal:"), field("MemAvailable:"))
}

/// The variables that change what a command does; a token is only ever `set`.
fn environment() -> Vec<(String, String)> {
    const PLAIN: [&str; 12] = [
        "HF_HOME",
        "HF_HUB_CACHE",
        "HF_ENDPOINT",
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "HF_HUB_DOWNLOAD_TIMEOUT",
        "HF_TOKEN_PATH",
        "XDG_CACHE_HOME",
        "MOREC_MODELS",
        "RAYON_NUM_THREADS",
        crate::nn::blas::VARIABLE,
        "CUDA_VISIBLE_DEVICES",
    ];
    let value = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    let mut found: Vec<(String, String)> =
        PLAIN.iter().filter_map(|n| Some(((*n).into(), without_password(&value(n)?.to_string_lossy())))).collect();
    if value("HF_TOKEN").is_some() {
        found.push(("HF_TOKEN".into(), "set".into()));
    }
    found
}

/// Removes the credentials of a URL `scheme://user:password@host`.
fn without_password(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) => {
            let host = rest.split('/').next().unwrap_or_default();
            let skip = host.rfind('@').map_or(0, |at| at + 1);
            format!("{scheme}://{}", &rest[skip..])
        }
        None => text.into(),
    }
}

fn model_digest(dir: &Path) -> Digest {
    let read = || {
        let folder = ModelFolder::open("", dir, Origin::Folder)?;
        Ok((folder.bytes(), folder.digest()?))
    };
    Digest::of(dir, read())
}

/// Checks data sets by the file sizes of their manifests; digests are not recomputed.
fn data_digest(dir: &Path) -> Digest {
    let read = || {
        let path = dir.join(fsio::MANIFEST);
        let manifest: Manifest = serde_json::from_str(&fsio::read_text(&path)?)
            .map_err(|e| crate::Error::model(&path, format!("damaged: {e}")))?;
        manifest.verify(dir, false)?;
        Ok((manifest.files.values().map(|f| f.bytes).sum(), manifest.digest()))
    };
    Digest::of(dir, read())
}

impl Digest {
    fn of(dir: &Path, read: Result<(u64, String)>) -> Self {
        let dir = dir.into();
        match read {
            Ok((bytes, sha256)) => Self { dir, bytes: Some(bytes), sha256: Some(sha256), problem: None },
            Err(e) => Self { dir, bytes: None, sha256: None, problem: Some(e.to_string()) },
        }
    }
}

/// Folders with a manifest, at most two levels down: `datasets/<name>/` and `datasets/<name>/<build>/`.
fn data_folders(root: &Path) -> Vec<PathBuf> {
    let below = |dir: &Path| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let mut dirs: Vec<PathBuf> = entries.map(|e| e.path()).filter(|p| p.is_dir()).collect();
        dirs.sort();
        dirs
    };
    let all = below(root).into_iter().flat_map(|d| std::iter::once(d.clone()).chain(below(&d)));
    all.filter(|d| d.join(fsio::MANIFEST).is_file()).collect()
}

fn readable(d: &Diagnosis) -> String {
    let unknown = || "unknown".to_string();
    let size = |n: Option<u64>| n.map_or_else(unknown, bytes);
    let mut rows = vec![
        ("morec", d.version.into()),
        ("system", format!("{} {}", d.os, d.arch)),
        ("cores", format!("{} logical, {} threads used", d.cores, d.threads)),
        ("simd", if d.simd.is_empty() { "none known".into() } else { d.simd.join(" ") }),
        ("blas", d.blas.clone()),
        (
            "matmul f32",
            format!("{:.1} GFLOP/s on one thread, {:.1} on all (512³)", d.gflops_one_thread, d.gflops_all_threads),
        ),
        ("devices", d.devices.join(" ")),
        ("memory", format!("{} total, {} available", size(d.memory_total), size(d.memory_available))),
        ("disk", format!("{} free here", size(d.disk_free))),
        ("hub cache", d.hub_cache.as_ref().map_or_else(unknown, |c| c.display().to_string())),
    ];
    rows.extend(d.environment.iter().map(|(name, value)| ("env", format!("{name}={value}"))));
    let digests = d.models.iter().map(|m| ("model", m)).chain(d.data.iter().map(|x| ("data", x)));
    rows.extend(digests.map(|(kind, digest)| {
        let content = match (&digest.sha256, &digest.problem) {
            (Some(sha256), _) => format!("{} {}  {sha256}", digest.dir.display(), size(digest.bytes)),
            (None, problem) => format!("problem: {}", problem.as_deref().unwrap_or("unreadable")),
        };
        (kind, content)
    }));
    table(&rows.into_iter().map(|(k, v)| vec![k.to_string(), v]).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_stay_out() {
        assert_eq!(without_password("https://me:pw@mirror/x@y"), "https://mirror/x@y");
        assert_eq!(without_password("/home/me"), "/home/me");
    }
}
