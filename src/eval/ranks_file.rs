//! Ranks of test cases as a Parquet file, for significance tests and error analysis.

use super::Rank;
use crate::data::{Dataset, Split};
use crate::error::{Error, Result};
use crate::fsio::{caught, open_regular};
use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::UInt32Type;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::path::Path;
use std::sync::Arc;

/// Writes one row per case: user, target item, candidates above and tied (and tied with a smaller index), whether the
/// target was masked, history length, training events of the target.
pub fn write(path: &Path, data: &Dataset, split: &Split, cases: &[crate::data::Case], ranks: &[Rank]) -> Result<()> {
    let user = |c: &crate::data::Case| data.users[split.users[c.user as usize] as usize].as_str();
    let item = |c: &crate::data::Case| data.items.ids[split.items[c.target as usize] as usize].as_str();
    let u32s = |f: &dyn Fn(usize) -> u32| Arc::new(UInt32Array::from_iter_values((0..cases.len()).map(f))) as ArrayRef;
    let columns: [(&str, ArrayRef); 8] = [
        ("user", Arc::new(StringArray::from_iter_values(cases.iter().map(user)))),
        ("item", Arc::new(StringArray::from_iter_values(cases.iter().map(item)))),
        ("above", u32s(&|i| ranks[i].above)),
        ("tied", u32s(&|i| ranks[i].equal)),
        ("tied_before", u32s(&|i| ranks[i].equal_before)),
        ("masked", Arc::new(BooleanArray::from(ranks.iter().map(|r| r.masked).collect::<Vec<_>>()))),
        ("history", u32s(&|i| cases[i].until)),
        ("train_events", u32s(&|i| split.counts[cases[i].target as usize])),
    ];
    let batch = RecordBatch::try_from_iter(columns).map_err(|e| Error::model(path, e.to_string()))?;
    crate::fsio::write_atomic(path, |w| {
        let bad = |e: parquet::errors::ParquetError| Error::model(path, e.to_string());
        let mut out = ArrowWriter::try_new(w, batch.schema(), None).map_err(bad)?;
        out.write(&batch).map_err(bad)?;
        out.close().map_err(bad)?;
        Ok(())
    })
}

/// Contents of a ranks file, as written by `write`.
#[derive(Debug, Clone, Default)]
pub struct Ranks {
    /// Raw id of each case's user.
    pub users: Vec<String>,
    /// Raw id of each target item.
    pub items: Vec<String>,
    /// Rank of each target.
    pub ranks: Vec<Rank>,
    /// Length of each history.
    pub history: Vec<u32>,
    /// Number of training events of each target.
    pub train_events: Vec<u32>,
}

/// Reads `ranks.parquet`.
pub fn read(path: &Path) -> Result<Ranks> {
    let bad = |m: String| {
        Error::model(path, format!("{m}; rank again: `morec train … --force`, or `morec evaluate --ranks`"))
    };
    let file = open_regular(path).map_err(Error::model_io(path))?;
    let panicked = || bad("damaged: the Parquet reader panicked".into());
    let mut reader = caught(|| ParquetRecordBatchReaderBuilder::try_new(file).and_then(|b| b.build()))
        .ok_or_else(panicked)?
        .map_err(|e| bad(format!("not a file of ranks: {e}")))?;
    let mut out = Ranks::default();
    while let Some(batch) = caught(|| reader.next()).ok_or_else(panicked)? {
        let batch = batch.map_err(|e| bad(format!("damaged: {e}")))?;
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| bad(format!("no column `{name}`")));
        let text = |name: &str, to: &mut Vec<String>| -> Result<()> {
            let c = column(name)?.as_string_opt::<i32>().ok_or_else(|| bad(format!("`{name}` is not text")))?;
            to.extend(c.iter().map(|v| v.unwrap_or_default().to_string()));
            Ok(())
        };
        let number = |name: &str| -> Result<Vec<u32>> {
            let c =
                column(name)?.as_primitive_opt::<UInt32Type>().ok_or_else(|| bad(format!("`{name}` is no number")))?;
            Ok(c.values().to_vec())
        };
        text("user", &mut out.users)?;
        text("item", &mut out.items)?;
        let (above, equal, before) = (number("above")?, number("tied")?, number("tied_before")?);
        let masked = column("masked")?.as_boolean_opt().ok_or_else(|| bad("`masked` is not yes or no".into()))?;
        if (0..batch.num_rows()).any(|i| before[i] > equal[i] || above[i].checked_add(equal[i]).is_none()) {
            return Err(bad("damaged: a rank is larger than any catalogue".into()));
        }
        out.ranks.extend((0..batch.num_rows()).map(|i| Rank {
            above: above[i],
            equal: equal[i],
            equal_before: before[i],
            masked: masked.value(i),
        }));
        out.history.extend(number("history")?);
        out.train_events.extend(number("train_events")?);
    }
    Ok(out)
}
