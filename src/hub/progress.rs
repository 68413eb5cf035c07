//! Progress output of a download on stderr: a bar with rate and ETA on a terminal, plain lines otherwise.

use crate::terminal::{self, message};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Minimum time between two plain lines.
const EVERY: Duration = Duration::from_secs(5);

pub(super) struct Progress {
    bar: Option<ProgressBar>,
    loud: bool,
    name: String,
    total: Option<u64>,
    /// Bytes that an interrupted transfer had written; they do not count towards the rate.
    resumed: u64,
    done: u64,
    start: Instant,
    last: Instant,
}

impl Progress {
    pub fn new(loud: bool, name: &str, total: Option<u64>) -> Self {
        // The name comes from the hub's listing, so control characters are escaped.
        let name = terminal::line(name);
        let bar = (loud && std::io::stderr().is_terminal()).then(|| {
            let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            let template = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} ETA {eta}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.with_message(name.to_string())
        });
        let now = Instant::now();
        Self { bar, loud, name: name.into(), total, resumed: 0, done: 0, start: now, last: now }
    }

    /// Sets the number of bytes present at the start of an attempt, and restarts the measurement of the rate.
    pub fn restart(&mut self, at: u64) {
        (self.resumed, self.done, self.start) = (at, at, Instant::now());
        if let Some(bar) = &self.bar {
            bar.set_position(at);
            bar.reset_eta();
        }
    }

    pub fn add(&mut self, bytes: u64) {
        self.done += bytes;
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
        } else if self.loud && self.last.elapsed() >= EVERY {
            self.last = Instant::now();
            let fresh = self.done - self.resumed;
            message(&line(&self.name, self.done, self.total, fresh, self.start.elapsed()));
        }
    }

    pub fn finish(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if self.loud {
            let seconds = self.start.elapsed().as_secs_f64();
            message(&format!("{}: {} in {seconds:.1} s", self.name, HumanBytes(self.done)));
        }
    }
}

/// Formats a plain line: bytes transferred, rate and remaining time. `fresh` bytes were transferred in `elapsed`.
fn line(name: &str, done: u64, total: Option<u64>, fresh: u64, elapsed: Duration) -> String {
    let rate = fresh as f64 / elapsed.as_secs_f64().max(1e-9);
    let so_far = match total {
        Some(total) => format!("{} of {}", HumanBytes(done), HumanBytes(total)),
        None => HumanBytes(done).to_string(),
    };
    let eta = match total {
        Some(total) if rate > 0.0 => format!(", ETA {:.0} s", (total.saturating_sub(done)) as f64 / rate),
        _ => String::new(),
    };
    format!("{name}: {so_far}, {}/s{eta}", HumanBytes(rate as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_line() {
        let text = line("w", 3 << 20, Some(5 << 20), 2 << 20, Duration::from_secs(2));
        assert_eq!(text, "w: 3.00 MiB of 5.00 MiB, 1.00 MiB/s, ETA 2 s");
        assert_eq!(line("w", 1024, None, 1024, Duration::from_secs(1)), "w: 1.00 KiB, 1.00 KiB/s");
    }
}
