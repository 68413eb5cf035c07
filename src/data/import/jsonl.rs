//! JSON lines: one object per line. Columns are the keys of the first lines; numbers and booleans become text, lists of
//! text are joined by spaces, null and absent keys become empty.

use super::lines::Lines;
use super::rows::{Fault, Fields, Rows};
use crate::data::policy::Encoding;
use crate::error::{DataError, Error};
use serde_json::{Map, Value};
use std::collections::VecDeque;
use std::path::Path;

/// Number of lines read ahead to find the keys: rare keys of Amazon's metadata occur within the first few hundred
/// lines.
const AHEAD: usize = 1000;

type Ahead = (u64, Result<Map<String, Value>, DataError>);

pub struct Jsonl {
    lines: Lines,
    columns: Vec<String>,
    ahead: VecDeque<Ahead>,
    line: u64,
}

impl Jsonl {
    /// Opens a file; returns its reader and column names.
    pub fn open(path: &Path, encoding: Encoding) -> Result<(Self, Vec<String>), Error> {
        let lines = Lines::open(path, encoding)?;
        let mut rows = Self { lines, columns: Vec::new(), ahead: VecDeque::new(), line: 0 };
        let mut ahead = VecDeque::new();
        while ahead.len() < AHEAD {
            let Some(next) = rows.object()? else { break };
            if let Ok(map) = &next.1 {
                for key in map.keys() {
                    if !rows.columns.contains(key) {
                        rows.columns.push(key.clone());
                    }
                }
            }
            ahead.push_back(next);
        }
        if rows.columns.is_empty() {
            return Err(match ahead.pop_front() {
                Some((_, Err(e))) => e.into(),
                _ => DataError::new(path, "is empty").into(),
            });
        }
        rows.ahead = ahead;
        let columns = rows.columns.clone();
        Ok((rows, columns))
    }

    fn object(&mut self) -> Result<Option<Ahead>, Error> {
        loop {
            match self.lines.advance() {
                Ok(false) => return Ok(None),
                Ok(true) if self.lines.text.trim().is_empty() => {}
                Ok(true) => break,
                Err(Fault::Row(e)) => return Ok(Some((self.lines.number, Err(e)))),
                Err(Fault::File(e)) => return Err(e),
            }
        }
        let number = self.lines.number;
        let parsed = serde_json::from_str(&self.lines.text).map_err(|e| {
            let m = format!("not a JSON object (column {}): {e}", e.column());
            DataError::new(self.lines.path(), m).line(number).remedy("mend the line, or pass `--skip-malformed N`")
        });
        Ok(Some((number, parsed)))
    }
}

fn push(value: &Value, row: &mut Fields) {
    match value {
        Value::Null => row.push(""),
        Value::String(s) => row.push(s),
        Value::Bool(_) | Value::Number(_) => row.push(&value.to_string()),
        Value::Array(list) if list.iter().all(|part| part.is_string() || part.is_number()) => {
            for (i, part) in list.iter().enumerate() {
                row.append(if i > 0 { " " } else { "" });
                match part {
                    Value::String(s) => row.append(s),
                    _ => row.append(&part.to_string()),
                }
            }
            row.end();
        }
        // Nested values are read as empty, so that they do not stop an import that does not use their columns.
        Value::Array(_) | Value::Object(_) => row.push(""),
    }
}

impl Rows for Jsonl {
    fn advance(&mut self, row: &mut Fields) -> Result<bool, Fault> {
        let next = match self.ahead.pop_front() {
            Some(next) => Some(next),
            None => self.object()?,
        };
        let Some((line, parsed)) = next else { return Ok(false) };
        self.line = line;
        let map = parsed.map_err(Fault::Row)?;
        for name in &self.columns {
            push(map.get(name).unwrap_or(&Value::Null), row);
        }
        Ok(true)
    }
    fn line(&self) -> u64 {
        self.line
    }
    fn progress(&self) -> (u64, u64) {
        self.lines.progress()
    }
}
