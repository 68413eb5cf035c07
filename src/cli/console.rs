//! Training on a terminal: a bar with items/s and ETA; plain lines where stderr is no terminal.

use super::progress::Progress;
use crate::error::Result;
use crate::terminal;
use crate::train::{Event, Observer};
use indicatif::{ProgressBar, ProgressStyle};
use std::cell::RefCell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

const LINE_EVERY: Duration = Duration::from_secs(15);

/// Observer that reports training on stderr.
pub struct Console {
    label: String,
    metric: String,
    bar: Option<ProgressBar>,
    total: u64,
    epoch_steps: u64,
    items: f64,
    seconds: f64,
    steps: f64,
    loss: f64,
    last_line: Instant,
}

impl Console {
    /// `label` stands before each line; `metric` is the one that validation lines show.
    pub fn new(label: &str, metric: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            if let Ok(s) = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg} ETA {eta}") {
                bar.set_style(s);
            }
            bar.with_prefix(terminal::line(label).into_owned())
        });
        Self {
            label: label.into(),
            metric: metric.to_lowercase(),
            bar,
            total: 0,
            epoch_steps: 1,
            items: 0.0,
            seconds: 0.0,
            steps: 0.0,
            loss: f64::NAN,
            last_line: Instant::now(),
        }
    }
    fn say(&self, text: &str) {
        match &self.bar {
            Some(b) => b.println(terminal::line(&format!("{} {text}", self.label))),
            None => terminal::message(&format!("{} {text}", self.label)),
        }
    }
}

/// Returns a progress callback for encoding a catalogue; a new bar starts with each catalogue.
pub fn encoding(label: &str) -> impl Fn(usize, usize) + use<> {
    let label = format!("[{label}] encoding items");
    let current: RefCell<Option<Progress>> = RefCell::default();
    move |done, total| {
        let mut current = current.borrow_mut();
        current.get_or_insert_with(|| Progress::new(&label, total as u64)).set(done as u64);
        if done == total
            && let Some(p) = current.take()
        {
            p.finish();
        }
    }
}

fn clock(seconds: f64) -> String {
    let s = seconds.max(0.0) as u64;
    if s >= 3600 { format!("{}h{:02}m", s / 3600, s % 3600 / 60) } else { format!("{}m{:02}s", s / 60, s % 60) }
}

impl Observer for Console {
    fn on(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Start { total_steps, epoch_steps, step } => {
                (self.total, self.epoch_steps) = (*total_steps, (*epoch_steps).max(1));
                if let Some(b) = &self.bar {
                    b.set_length(*total_steps);
                    b.set_position(*step);
                    b.reset_eta();
                }
                if *step > 0 {
                    self.say(&format!("resumed at step {step}"));
                }
            }
            Event::Step { step, epoch, loss, items, seconds, .. } => {
                // Averages over about the last hundred steps.
                self.items = 0.99 * self.items + *items as f64;
                self.seconds = 0.99 * self.seconds + seconds;
                self.steps = 0.99 * self.steps + 1.0;
                self.loss = if self.loss.is_nan() { *loss } else { 0.95 * self.loss + 0.05 * loss };
                let rate = self.items / self.seconds.max(1e-9);
                if let Some(b) = &self.bar {
                    b.set_position(*step);
                    b.set_message(format!("epoch {} loss {:.3} {rate:.0} items/s", epoch + 1, self.loss));
                } else if self.last_line.elapsed() >= LINE_EVERY {
                    self.last_line = Instant::now();
                    let left =
                        (self.epoch_steps - (step - 1) % self.epoch_steps - 1) as f64 * self.seconds / self.steps;
                    self.say(&format!(
                        "epoch {} step {step}/{} loss {:.3} {rate:.0} items/s, epoch ends in {}",
                        epoch + 1,
                        self.total,
                        self.loss,
                        clock(left)
                    ));
                }
            }
            Event::Validation { epoch, metrics, best, train_loss, epoch_seconds, .. } => {
                let value = metrics.get(&self.metric).copied().unwrap_or(f64::NAN);
                let star = if *best { " *" } else { "" };
                self.say(&format!(
                    "epoch {} loss {train_loss:.4} in {}: validation {} {value:.5}{star}",
                    epoch + 1,
                    clock(*epoch_seconds),
                    self.metric
                ));
            }
            Event::End { reason, .. } => {
                if let Some(b) = &self.bar {
                    b.finish_and_clear();
                }
                self.say(&format!("done: {reason}"));
            }
        }
        Ok(())
    }
}
