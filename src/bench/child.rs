//! Worker process of a benchmark: reads a spec, executes steps on request and times them.

use super::{Spec, open};
use crate::error::{Error, Result};
use crate::experiment::peak_memory;
use serde_json::json;
use std::io::{BufRead, Write};
use std::time::Instant;

/// Serves the JSON-lines protocol. Input [`Spec`]: output `{"ready", "versions"}`. Input `run N`: output times and
/// values of N steps. Input `end`: output the peak memory.
pub fn serve(input: impl BufRead, mut output: impl Write) -> Result<()> {
    let mut lines = input.lines();
    let mut say = |v: serde_json::Value| -> Result<()> {
        writeln!(output, "{v}").and_then(|()| output.flush()).map_err(Error::io("stdout"))
    };
    let first = lines.next().transpose().map_err(Error::io("stdin"))?.unwrap_or_default();
    let spec: Spec = serde_json::from_str(&first).map_err(|e| Error::Usage(format!("not a case: {e}")))?;
    let mut case = open(&spec)?;
    say(json!({"ready": true, "versions": {"morec": env!("CARGO_PKG_VERSION")}}))?;
    for line in lines {
        let line = line.map_err(Error::io("stdin"))?;
        let Some(n) = line.strip_prefix("run ").and_then(|n| n.parse::<usize>().ok()) else { break };
        let (mut seconds, mut values) = (vec![], vec![]);
        for _ in 0..n {
            let start = Instant::now();
            values.push(case.step()?);
            seconds.push(start.elapsed().as_secs_f64());
        }
        say(json!({"seconds": seconds, "values": values}))?;
    }
    say(json!({"peak_memory": peak_memory()}))
}
