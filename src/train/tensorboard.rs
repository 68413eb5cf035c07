//! TensorBoard event files: TFRecord framing around hand-encoded `Event` messages (tensorflow's event.proto).

use super::events::{Event, Observer};
use crate::error::{Error, Result};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// CRC-32C (Castagnoli), masked as TFRecord requires.
fn masked_crc(data: &[u8]) -> u32 {
    let mut crc = !0u32;
    for &b in data {
        crc ^= u32::from(b);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn bytes_field(out: &mut Vec<u8>, field: u8, data: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, data.len() as u64);
    out.extend_from_slice(data);
}

/// Writer of a run's scalars below `dir`.
pub struct TensorBoard {
    file: File,
    path: PathBuf,
    every: u64,
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

impl TensorBoard {
    /// Creates the event file of a session that continues after `step`; only every `every`-th step is written.
    pub fn create(dir: &Path, step: u64, every: u64) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(Error::io(dir))?;
        let (at, mut n) = (now() as u64, 0);
        let path = loop {
            let p = dir.join(format!("events.out.tfevents.{at}.morec.{n}"));
            if !p.exists() {
                break p;
            }
            n += 1;
        };
        let file = File::create(&path).map_err(Error::io(&path))?;
        let mut tb = Self { file, path, every };
        let mut head = vec![];
        bytes_field(&mut head, 3, b"brain.Event:2");
        tb.record(0, &head)?;
        if step > 0 {
            // SessionLog{status: START}: readers discard what an earlier, interrupted session wrote from this step on.
            let mut restart = vec![];
            bytes_field(&mut restart, 7, &[1 << 3, 1]);
            tb.record(step + 1, &restart)?;
        }
        Ok(tb)
    }
    fn record(&mut self, step: u64, payload: &[u8]) -> Result<()> {
        let mut event = vec![1 << 3 | 1];
        event.extend_from_slice(&now().to_le_bytes());
        event.push(2 << 3);
        varint(&mut event, step);
        event.extend_from_slice(payload);
        let len = (event.len() as u64).to_le_bytes();
        let mut out = len.to_vec();
        out.extend_from_slice(&masked_crc(&len).to_le_bytes());
        out.extend_from_slice(&event);
        out.extend_from_slice(&masked_crc(&event).to_le_bytes());
        self.file.write_all(&out).map_err(Error::io(&self.path))
    }
    /// Writes the scalars of one step.
    pub fn scalars(&mut self, step: u64, values: &[(String, f64)]) -> Result<()> {
        let mut summary = vec![];
        for (tag, v) in values {
            let mut value = vec![];
            bytes_field(&mut value, 1, tag.as_bytes());
            value.push(2 << 3 | 5);
            value.extend_from_slice(&(*v as f32).to_le_bytes());
            bytes_field(&mut summary, 1, &value);
        }
        let mut payload = vec![];
        bytes_field(&mut payload, 5, &summary);
        self.record(step, &payload)
    }
}

impl Observer for TensorBoard {
    fn on(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Step { step, loss, grad_norm, lr_factor, .. } if step % self.every == 0 => self.scalars(
                *step,
                &[
                    ("train/loss".into(), *loss),
                    ("train/grad_norm".into(), *grad_norm),
                    ("train/lr_factor".into(), *lr_factor),
                ],
            ),
            Event::Validation { step, metrics, .. } => {
                let values: Vec<_> = metrics.iter().map(|(k, v)| (format!("valid/{k}"), *v)).collect();
                self.scalars(*step, &values)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn crc_of_the_standard_vector() {
        // "123456789" has CRC-32C e3069283.
        let masked = 0xe306_9283u32.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(super::masked_crc(b"123456789"), masked);
    }
}
