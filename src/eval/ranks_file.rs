//! Per-user ranks as Parquet, for significance tests and error analysis.

use super::Rank;
use crate::data::{Dataset, Split};
use crate::error::{Error, Result};
use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray, UInt32Array};
use parquet::arrow::ArrowWriter;
use std::path::Path;
use std::sync::Arc;

/// Writes one row a question: user, target item, candidates above and tied, whether the target was masked, history
/// length, training events of the target.
pub fn write(path: &Path, data: &Dataset, split: &Split, cases: &[crate::data::Case], ranks: &[Rank]) -> Result<()> {
    let user = |c: &crate::data::Case| data.users[split.users[c.user as usize] as usize].as_str();
    let item = |c: &crate::data::Case| data.items.ids[split.items[c.target as usize] as usize].as_str();
    let u32s = |f: &dyn Fn(usize) -> u32| Arc::new(UInt32Array::from_iter_values((0..cases.len()).map(f))) as ArrayRef;
    let columns: [(&str, ArrayRef); 7] = [
        ("user", Arc::new(StringArray::from_iter_values(cases.iter().map(user)))),
        ("item", Arc::new(StringArray::from_iter_values(cases.iter().map(item)))),
        ("above", u32s(&|i| ranks[i].above)),
        ("tied", u32s(&|i| ranks[i].equal)),
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
