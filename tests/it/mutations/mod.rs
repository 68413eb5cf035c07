//! Every parser of files survives damage: thousands of mutated files are opened in this process, each has to end in a value or
//! in an error of its file's kind (README, exit codes), without a panic, a hang or a request for absurd amounts of memory.
//!
//! The damage depends on nothing but the parser's name and the number of the mutation, so a failure that this test reports
//! comes again. `MOREC_MUTATIONS=N` runs N rounds instead of the usual ones.

mod command;
mod damage;
mod data;
mod encoders;
mod folders;
mod imports;
pub mod memory;

use damage::{Format, damage};
use morec::rng::Stream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Exit codes that the files of a parser may end in.
const SETTINGS: &[u8] = &[2];
const DATA: &[u8] = &[3];
const MODEL: &[u8] = &[4];
/// A run that is gone on with may be sound and another than the settings ask for.
const RUN: &[u8] = &[2, 4];

/// The files of these tests are a few kilobytes; a reader that asks for more at once believes a damaged number.
const MOST_MEMORY: usize = 256 << 20;
/// A mutation that takes longer hangs.
const LONGEST: Duration = Duration::from_secs(30);
/// Files whose every byte a checksum protects: no damage need be accepted.
const CHECKSUMMED: [&str; 2] = ["interactions.tsv.gz", "rgb.png"];
/// Parsers run at a time.
const GROUPS: [(&str, fn(&mut Runner)); 4] =
    [("encoders", encoders::run), ("folders", folders::run), ("data", data::run), ("imports", imports::run)];
/// Rounds of every parser's mutations.
const ROUNDS: usize = 1;
/// Mutations of all parsers in one round; a parser that is added or left out changes this number.
const A_ROUND: usize = 5640;

/// How the mutations of one parser ended.
struct Tally {
    name: String,
    ran: usize,
    accepted: usize,
    slowest: Duration,
    memory: usize,
    failures: Vec<String>,
}

/// Runs the parsers of one group.
pub struct Runner<'a> {
    tallies: Vec<Tally>,
    /// What runs now and since when, for the watchdog.
    now: &'a Mutex<Option<(Instant, String)>>,
    rounds: usize,
}

impl Runner<'_> {
    /// Damages the file at `path` `mutations` times and parses each; the file is put back at the end. Errors have to be of a
    /// kind in `codes` and to name the file or its folder.
    fn parser(
        &mut self,
        name: &str,
        mutations: usize,
        codes: &[u8],
        format: Format,
        path: &Path,
        parse: impl Fn() -> morec::Result<()>,
    ) {
        let original = std::fs::read(path).unwrap_or_else(|e| panic!("{name}: {}: {e}", path.display()));
        parse().unwrap_or_else(|e| panic!("{name}: the undamaged file is refused: {e}"));
        let started = Instant::now();
        let mut t =
            Tally { name: name.into(), ran: 0, accepted: 0, slowest: Duration::ZERO, memory: 0, failures: vec![] };
        for i in 0..mutations * self.rounds {
            let (what, bytes) = damage(&mut Stream::new(i as u64, name), &original, format);
            std::fs::write(path, bytes).unwrap();
            let said = format!("{name}, mutation {i}: {what}");
            *self.now.lock().unwrap() = Some((Instant::now(), said.clone()));
            let begun = Instant::now();
            memory::reset();
            let outcome = catch_unwind(AssertUnwindSafe(&parse));
            t.memory = t.memory.max(memory::largest());
            t.slowest = t.slowest.max(begun.elapsed());
            *self.now.lock().unwrap() = None;
            t.ran += 1;
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            match outcome {
                Ok(Ok(())) => t.accepted += 1,
                Ok(Err(e)) if !codes.contains(&e.exit_code()) => {
                    t.failures.push(format!("{said}: exit code {} instead of {codes:?}: {e}", e.exit_code()));
                }
                Ok(Err(e)) if !e.to_string().contains(&*file) && !names_place(&e.to_string(), path) => {
                    t.failures.push(format!("{said}: the message names neither file nor folder: {e}"));
                }
                Ok(Err(_)) => {}
                Err(_) => t.failures.push(format!("{said}: panicked")),
            }
            if memory::largest() > MOST_MEMORY {
                t.failures.push(format!("{said}: task for {} MB at once", memory::largest() >> 20));
            }
        }
        std::fs::write(path, &original).unwrap();
        parse().unwrap_or_else(|e| panic!("{name}: the file as it was is refused: {e}"));
        if codes != DATA || name.ends_with(".parquet") || name.starts_with("data set") {
            self.states(name, codes, path, &original, &parse, &mut t.failures);
        }
        println!(
            "{name:32} {:5} mutations, {:4} accepted, {:6.1?} in all, {:6.1?} at most, {} kB",
            t.ran,
            t.accepted,
            started.elapsed(),
            t.slowest,
            t.memory >> 10
        );
        self.tallies.push(t);
    }
}

impl Runner<'_> {
    /// The file is missing, a folder, empty, or not UTF-8: errors of the same kinds.
    fn states(
        &self,
        name: &str,
        codes: &[u8],
        path: &Path,
        original: &[u8],
        parse: &dyn Fn() -> morec::Result<()>,
        failures: &mut Vec<String>,
    ) {
        for state in ["missing", "a folder", "empty", "not text"] {
            // Settings that the user names and that are not there are an I/O error.
            if codes == SETTINGS && state == "missing" {
                continue;
            }
            std::fs::remove_file(path).unwrap();
            match state {
                "a folder" => std::fs::create_dir(path).unwrap(),
                "empty" => std::fs::write(path, "").unwrap(),
                "not text" => std::fs::write(path, b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8\xf7").unwrap(),
                _ => {}
            }
            match catch_unwind(AssertUnwindSafe(parse)) {
                Ok(Err(e)) if !codes.contains(&e.exit_code()) => {
                    failures.push(format!("{name}, {state}: exit code {} instead of {codes:?}: {e}", e.exit_code()));
                }
                Ok(_) => {}
                Err(_) => failures.push(format!("{name}, {state}: panicked")),
            }
            match path.is_dir() {
                true => std::fs::remove_dir(path).unwrap(),
                false => drop(std::fs::remove_file(path)),
            }
            std::fs::write(path, original).unwrap();
        }
        parse().unwrap_or_else(|e| panic!("{name}: the file as it was is refused: {e}"));
    }
}

/// Whether a message names the setting that is wrong, the folder of a file, or one above it within the test's own.
fn names_place(message: &str, path: &Path) -> bool {
    let setting = message.starts_with("config: ");
    setting
        || path
            .ancestors()
            .skip(1)
            .take(3)
            .any(|p| p.components().count() > 2 && message.contains(&*p.to_string_lossy()))
}

/// Ends the process when a mutation does not.
fn on_progress(running: &[Mutex<Option<(Instant, String)>>], done: &AtomicBool) {
    while !done.load(Relaxed) {
        for now in running {
            if let Some((since, what)) = &*now.lock().unwrap()
                && since.elapsed() > LONGEST
            {
                eprintln!("{what}: no end after {LONGEST:?}");
                std::process::abort();
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn damaged_files_end_in_errors_of_their_kind() {
    let rounds = std::env::var("MOREC_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROUNDS);
    let running = GROUPS.map(|_| Mutex::new(None));
    let done = AtomicBool::new(false);
    let started = Instant::now();
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        scope.spawn(|| on_progress(&running, &done));
        let work = |(group, now): (&(&str, fn(&mut Runner)), _)| {
            let run = group.1;
            scope.spawn(move || {
                let mut runner = Runner { tallies: vec![], now, rounds };
                run(&mut runner);
                runner.tallies
            })
        };
        let groups: Vec<_> = GROUPS.iter().zip(&running).map(work).collect();
        let results: Vec<_> = groups.into_iter().map(|g| g.join()).collect();
        done.store(true, Relaxed);
        results.into_iter().flat_map(|r| r.unwrap_or_else(|e| std::panic::resume_unwind(e))).collect()
    });
    let failures: Vec<&String> = tallies.iter().flat_map(|t| &t.failures).collect();
    let all: Vec<&str> = failures.iter().map(|f| f.as_str()).collect();
    assert!(failures.is_empty(), "{} mutations failed:\n{}", failures.len(), all.join("\n"));
    for t in &tallies {
        let refused = t.ran - t.accepted;
        let some = t.accepted > 0 || CHECKSUMMED.contains(&t.name.as_str());
        assert!(some && refused > 0, "{}: {} accepted, {refused} refused", t.name, t.accepted);
    }
    let total: usize = tallies.iter().map(|t| t.ran).sum();
    println!("{total} mutations of {} parsers in {:.1?}", tallies.len(), started.elapsed());
    assert_eq!(total, A_ROUND * rounds, "a parser was added or left out");
    const { assert!(A_ROUND * ROUNDS >= 2000) };
}
