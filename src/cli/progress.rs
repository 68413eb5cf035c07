//! Progress on stderr: a bar with rate and time left on a terminal, otherwise plain lines, and only for what takes
//! longer than a second.

use crate::terminal;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Silence before the first plain line.
const QUIET: Duration = Duration::from_secs(1);
/// Time between plain lines.
const EVERY: Duration = Duration::from_secs(10);

/// The progress of one piece of work. Methods take `&self`: it can be shared between threads.
pub struct Progress {
    label: String,
    bar: ProgressBar,
    terminal: bool,
    bytes: bool,
    start: Instant,
    /// When the next plain line is due, and whether one was printed.
    plain: Mutex<(Instant, bool)>,
}

impl Progress {
    /// Work of `total` steps; 0 = unknown.
    pub fn new(label: &str, total: u64) -> Self {
        Self::with(label, total, false, std::io::stderr().is_terminal())
    }
    /// Work of `total` bytes.
    pub fn bytes(label: &str, total: u64) -> Self {
        Self::with(label, total, true, std::io::stderr().is_terminal())
    }

    fn with(label: &str, total: u64, bytes: bool, terminal: bool) -> Self {
        let label = terminal::line(label);
        let bar = match total {
            0 => ProgressBar::no_length(),
            _ => ProgressBar::new(total),
        };
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        bar.set_draw_target(target);
        let numbers = match (bytes, total) {
            (true, 0) => "{bytes} {bytes_per_sec}",
            (true, _) => "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left",
            (false, 0) => "{human_pos} {per_sec}",
            (false, _) => "{wide_bar} {human_pos}/{human_len} {per_sec}, {eta} left",
        };
        if let Ok(style) = ProgressStyle::with_template(&format!("{{prefix}} {numbers} {{msg}}")) {
            bar.set_style(style);
        }
        bar.set_prefix(label.to_string());
        let start = Instant::now();
        Self { label: label.into(), bar, terminal, bytes, start, plain: Mutex::new((start + QUIET, false)) }
    }

    /// `n` more steps are done.
    pub fn inc(&self, n: u64) {
        self.bar.inc(n);
        self.tick();
    }
    /// So many steps are done in all.
    pub fn set(&self, position: u64) {
        self.bar.set_position(position);
        self.tick();
    }
    /// A few words beside the bar, for example the current loss.
    pub fn message(&self, text: impl Into<String>) {
        self.bar.set_message(terminal::line(&text.into()).into_owned());
        self.tick();
    }
    /// Prints a line without disturbing the bar.
    pub fn line(&self, text: &str) {
        self.bar.suspend(|| terminal::message(text));
    }
    /// The work is done: the bar goes; where lines were printed, a last one says how long it took. Once is enough,
    /// more do no harm.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
        if !self.terminal && self.plain.lock().is_ok_and(|mut p| std::mem::take(&mut p.1)) {
            terminal::message(&format!("{}: done in {:.1} s", self.label, self.start.elapsed().as_secs_f64()));
        }
    }

    fn tick(&self) {
        if self.terminal {
            return;
        }
        let Ok(mut plain) = self.plain.lock() else { return };
        let now = Instant::now();
        if now < plain.0 {
            return;
        }
        *plain = (now + EVERY, true);
        terminal::message(&self.plain_line(now - self.start));
    }

    fn plain_line(&self, elapsed: Duration) -> String {
        let show = |n: u64| if self.bytes { HumanBytes(n).to_string() } else { n.to_string() };
        let (at, seconds) = (self.bar.position(), elapsed.as_secs_f64().max(1e-9));
        let rate = at as f64 / seconds;
        let mut line = format!("{}: {}", self.label, show(at));
        if let Some(total) = self.bar.length().filter(|&t| t > 0) {
            line += &format!("/{} ({:.0} %)", show(total), 100.0 * at as f64 / total as f64);
        }
        line += &match self.bytes {
            true => format!(", {}/s", HumanBytes(rate as u64)),
            false => format!(", {rate:.1}/s"),
        };
        if let Some(total) = self.bar.length().filter(|&t| t > at && at > 0) {
            line += &format!(", {:.0} s left", (total - at) as f64 / rate);
        }
        let message = self.bar.message();
        if !message.is_empty() {
            line += &format!(", {message}");
        }
        line
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // An error on the way must not leave half a bar on the screen.
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_lines_have_rate_and_time_left() {
        let p = Progress::with("train", 100, false, false);
        p.inc(20);
        p.inc(5);
        p.message("loss 1.5");
        assert_eq!(p.plain_line(Duration::from_secs(5)), "train: 25/100 (25 %), 5.0/s, 15 s left, loss 1.5");
        p.set(100);
        assert_eq!(p.plain_line(Duration::from_secs(10)), "train: 100/100 (100 %), 10.0/s, loss 1.5");
        let p = Progress::with("read", 0, true, false);
        p.inc(2048);
        assert_eq!(p.plain_line(Duration::from_secs(2)), "read: 2.00 KiB, 1.00 KiB/s");
    }
}
