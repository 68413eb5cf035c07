//! Delimited text: TSV with literal quotes, CSV after RFC 4180.
//!
//! The `csv` crate is not used, because errors must name the line of a quote that is never closed; the crate reads to
//! the end of the file without an error.

use super::lines::Lines;
use super::rows::{Fault, Fields, Rows};
use crate::data::policy::Encoding;
use crate::error::{DataError, Error};
use std::path::Path;

/// Maximum length of a quoted field in bytes; a longer one is treated as an unclosed quote.
const LONGEST_FIELD: usize = 1 << 20;

pub struct Delimited {
    lines: Lines,
    delimiter: u8,
    quotes: bool,
    /// Required number of fields per row.
    width: usize,
    /// 1-based line on which the current row starts.
    start: u64,
    /// First row of a file without header, read ahead to determine the number of columns.
    first: Option<Fields>,
}

/// Likely delimiter of a line that does not contain `delimiter`, and the remedy.
fn other_delimiter(line: &str, delimiter: u8) -> Option<(&'static str, &'static str)> {
    let csv = delimiter == b',';
    let known = [
        ("\r", "carriage returns as line ends", "convert them, for example with `tr '\\r' '\\n'`"),
        ("::", "`::` between fields", "replace it by a comma or tab, for example with `sed 's/::/,/g'`"),
        (";", "semicolons between fields", "replace them by commas, for example with `tr ';' ','`"),
        (
            ":token ",
            "spaces between fields",
            "RecBole's files have tabs: replace the spaces, for example with `tr ' ' '\\t'`",
        ),
        ("\t", "tabs between fields", "pass `--format tsv`"),
        (",", "commas between fields", "pass `--format csv`"),
    ];
    let here = |text: &str| line.contains(text) && (text != "," || !csv) && (text != "\t" || csv);
    known.into_iter().find(|(text, ..)| here(text)).map(|(_, found, remedy)| (found, remedy))
}

impl Delimited {
    /// Opens a file; returns its reader and column names (numbers from 1 without a header).
    pub fn open(
        path: &Path,
        delimiter: u8,
        quotes: bool,
        header: bool,
        encoding: Encoding,
    ) -> Result<(Self, Vec<String>), Error> {
        let lines = Lines::open(path, encoding)?;
        let mut rows = Self { lines, delimiter, quotes, width: 0, start: 0, first: None };
        let mut row = Fields::default();
        match rows.record(&mut row) {
            Ok(true) => {}
            Ok(false) => return Err(DataError::new(path, "is empty").into()),
            Err(Fault::Row(e)) => return Err(e.into()),
            Err(Fault::File(e)) => return Err(e),
        }
        if let (1, Some((found, remedy))) = (row.len(), other_delimiter(row.get(0), delimiter)) {
            let m = format!("its first line is one field, but has {found}");
            return Err(DataError::new(path, m).line(1).remedy(remedy).into());
        }
        rows.width = row.len();
        let columns = if header {
            (0..row.len()).map(|i| row.get(i).trim().to_string()).collect()
        } else {
            let names = (1..=row.len()).map(|i| i.to_string()).collect();
            rows.first = Some(row);
            names
        };
        Ok((rows, columns))
    }

    /// Reads one record; skips blank lines.
    fn record(&mut self, row: &mut Fields) -> Result<bool, Fault> {
        loop {
            self.start = self.lines.number + 1;
            if !self.lines.advance()? {
                return Ok(false);
            }
            if !self.lines.text.is_empty() {
                break;
            }
        }
        self.start = self.lines.number;
        if !self.quotes || !self.lines.text.contains('"') {
            for field in self.lines.text.split(char::from(self.delimiter)) {
                row.push(field);
            }
            return Ok(true);
        }
        self.quoted(row)?;
        Ok(true)
    }

    /// Splits a line with quoted fields; continues on the next lines while a quote is open.
    fn quoted(&mut self, row: &mut Fields) -> Result<(), Fault> {
        let mut at = 0;
        loop {
            if self.lines.text.as_bytes().get(at) != Some(&b'"') {
                let rest = &self.lines.text[at..];
                let n = rest.bytes().position(|b| b == self.delimiter);
                row.push(&rest[..n.unwrap_or(rest.len())]);
                match n {
                    Some(n) => at += n + 1,
                    None => return Ok(()),
                }
                continue;
            }
            at += 1;
            loop {
                let rest = &self.lines.text[at..];
                let Some(q) = rest.find('"') else {
                    row.append(rest);
                    row.append("\n");
                    if row.open_len() > LONGEST_FIELD || !self.lines.advance()? {
                        let m = "a quote is opened here and never closed";
                        let e = DataError::new(self.lines.path(), m).line(self.start);
                        let e = e.field(format!("{}", row.len() + 1));
                        // The rows after an unclosed quote cannot be separated, so this is an error of the file.
                        return Err(Fault::File(e.remedy("close the quote, or pass `--no-quotes`").into()));
                    }
                    at = 0;
                    continue;
                };
                row.append(&rest[..q]);
                at += q + 1;
                if self.lines.text.as_bytes().get(at) != Some(&b'"') {
                    break;
                }
                row.append("\"");
                at += 1;
            }
            row.end();
            match self.lines.text.as_bytes().get(at) {
                None => return Ok(()),
                Some(b) if *b == self.delimiter => at += 1,
                Some(_) => {
                    let e = DataError::new(self.lines.path(), "text follows a closing quote").line(self.start);
                    let remedy = "double the quotes inside a quoted field, or pass `--no-quotes`";
                    return Err(Fault::Row(e.field(format!("{}", row.len())).remedy(remedy)));
                }
            }
        }
    }
}

impl Rows for Delimited {
    fn advance(&mut self, row: &mut Fields) -> Result<bool, Fault> {
        if let Some(first) = self.first.take() {
            *row = first;
            return Ok(true);
        }
        if !self.record(row)? {
            return Ok(false);
        }
        if row.len() != self.width {
            let m = format!("{} fields where {} are expected", row.len(), self.width);
            let e = DataError::new(self.lines.path(), m).line(self.start);
            let e = e.field(format!("{}", row.len().min(self.width) + usize::from(row.len() < self.width)));
            return Err(Fault::Row(
                e.remedy("mend the row, or pass `--skip-malformed N` to leave up to N such rows out"),
            ));
        }
        Ok(true)
    }
    fn line(&self) -> u64 {
        self.start
    }
    fn progress(&self) -> (u64, u64) {
        self.lines.progress()
    }
}
