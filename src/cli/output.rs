//! Output on stdout: text, tables, JSON.

use crate::error::{Error, Result};
use crate::terminal;
use serde::Serialize;
use std::io::{ErrorKind, Write};

/// Prints text with its control characters escaped, except line feeds and tabs.
pub(super) fn print(text: &str) -> Result<()> {
    write_all(&terminal::lines(text))
}

/// Writes to stdout; a closed pipe (`morec … | head`) is not an error.
fn write_all(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::io("stdout")(e)),
        _ => Ok(()),
    }
}

/// Prints pretty JSON and a final newline.
pub(super) fn print_json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::io("stdout")(std::io::Error::other(e)))?;
    write_all(&(text + "\n"))
}

/// Maximum number of characters of a table cell; longer text is cut.
const LONGEST_CELL: usize = 300;

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST_CELL) {
        Some((at, _)) => text[..at].to_string() + "…",
        None => text.to_string(),
    }
}

/// Left-aligned columns, two spaces apart; the last one is not padded. Control characters of a cell are escaped, long
/// cells are cut.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let shown = |row: &Vec<String>| row.iter().map(|c| shortened(&terminal::line(c))).collect();
    let rows: &[Vec<String>] = &rows.iter().map(shown).collect::<Vec<_>>();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |row: &Vec<String>, i: usize| row.get(i).map_or(0, |c| c.chars().count());
    let widths: Vec<usize> = (0..columns).map(|i| rows.iter().map(|r| cell(r, i)).max().unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        // Rust's formatter limits widths to 65,535.
        let padded = |(c, w): (&String, &usize)| c.clone() + &" ".repeat(w - c.chars().count());
        let cells: Vec<String> = row.iter().zip(&widths).map(padded).collect();
        cells.join("  ").trim_end().to_string() + "\n"
    };
    rows.iter().map(line).collect()
}

/// Formats a number of bytes in powers of ten: `90.9 MB`.
pub(super) fn bytes(n: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_cell_stays_in_its_line() {
        let rows = [["id", "title", "x"], ["1", "a\n\u{1b}[2J", "y"]].map(|r| r.map(String::from).to_vec());
        assert_eq!(super::table(&rows), "id  title         x\n1   a\\n\\u{1b}[2J  y\n");
    }

    #[test]
    fn a_long_cell_is_cut() {
        let rows = [vec!["x".repeat(70_000), "é".repeat(301), "end".to_string()]];
        assert_eq!(super::table(&rows), format!("{}…  {}…  end\n", "x".repeat(300), "é".repeat(300)));
    }

    #[test]
    fn sizes() {
        assert_eq!(super::bytes(999), "999 B");
        assert_eq!(super::bytes(90_868_376), "90.9 MB");
        assert_eq!(super::bytes(1_000_000_000), "1.0 GB");
    }
}
