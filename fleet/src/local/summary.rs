//! What a local run came to: counts, faults, and the spread of time and fuel.

use std::{collections::BTreeMap, fmt, time::Duration};

use sanderling_protocol::worker::Fault;
use sanderling_runtime::{Counters, FrameReport, Loaded};
use serde::Serialize;

/// A fault, with the file whose frame brought it about.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FaultAt {
    /// The file; none while the guest was started or stopped.
    pub(crate) file: Option<String>,
    /// What the agent would report.
    #[serde(flatten)]
    pub(crate) fault: Fault,
}

/// The measures of a run, as they come in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Frames taken from files, refused ones included.
    pub(crate) frames: u64,
    /// Frames that did not reach the guest.
    pub(crate) refused: u64,
    /// The first load.
    pub(crate) loaded: Option<Loaded>,
    /// All faults.
    pub(crate) faults: Vec<FaultAt>,
    took_ns: Vec<u64>,
    fuel: Vec<u64>,
    memory: u64,
    counters: Counters,
    denied: BTreeMap<&'static str, u64>,
}

/// Nearest-rank percentiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Spread {
    min: u64,
    p50: u64,
    p90: u64,
    p99: u64,
    max: u64,
}

/// Memory of the guest, all linear memories together, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Memory {
    loaded: u64,
    max: u64,
}

/// What is printed at the end.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    /// Tells this line from those of frames.
    what: &'static str,
    /// Whether there was no fault.
    pub(crate) ok: bool,
    frames: u64,
    done: u64,
    refused: u64,
    /// Files that were not read, because the guest was over.
    files_left: usize,
    faults: Vec<FaultAt>,
    module_us: u64,
    models_us: u64,
    took_ns: Option<Spread>,
    fuel: Option<Spread>,
    memory_bytes: Memory,
    records: BTreeMap<String, u64>,
    records_above_rate: u64,
    log_lines: u64,
    log_lines_dropped: u64,
    denied: BTreeMap<&'static str, u64>,
    elapsed_ms: u64,
    frames_per_s: f64,
}

impl Tally {
    /// Adds a frame that the guest handled.
    pub(crate) fn done(&mut self, report: &FrameReport) {
        self.took_ns.push(report.took_ns);
        self.fuel.push(report.fuel);
        self.memory = self.memory.max(report.memory_bytes);
    }

    /// Adds what a guest that is over had counted.
    pub(crate) fn over(&mut self, counters: &Counters, denied: &BTreeMap<&'static str, u64>, memory: u64) {
        let sum = &mut self.counters;
        sum.emitted += counters.emitted;
        sum.emit_refused += counters.emit_refused;
        sum.logged += counters.logged;
        sum.log_dropped += counters.log_dropped;
        for (function, count) in denied {
            *self.denied.entry(function).or_default() += count;
        }
        self.memory = self.memory.max(memory);
    }

    /// Adds it all up.
    pub(crate) fn sum(mut self, records: BTreeMap<String, u64>, files_left: usize, elapsed: Duration) -> Summary {
        let loaded = self.loaded.unwrap_or_default();
        let memory_bytes = Memory { loaded: loaded.memory_bytes, max: self.memory.max(loaded.memory_bytes) };
        let done = self.took_ns.len() as u64;
        let frames_per_s = if elapsed.is_zero() { 0.0 } else { done as f64 / elapsed.as_secs_f64() };
        Summary {
            what: "summary",
            ok: self.faults.is_empty(),
            frames: self.frames,
            done,
            refused: self.refused,
            files_left,
            faults: self.faults,
            module_us: loaded.module_us,
            models_us: loaded.models_us,
            took_ns: Spread::of(&mut self.took_ns),
            fuel: Spread::of(&mut self.fuel),
            memory_bytes,
            records,
            records_above_rate: self.counters.emit_refused,
            log_lines: self.counters.logged,
            log_lines_dropped: self.counters.log_dropped,
            denied: self.denied,
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            frames_per_s: (frames_per_s * 10.0).round() / 10.0,
        }
    }
}

impl Spread {
    fn of(values: &mut [u64]) -> Option<Self> {
        values.sort_unstable();
        let last = values.len().checked_sub(1)?;
        let at = |percent: usize| {
            let rank = (values.len() * percent).div_ceil(100).saturating_sub(1);
            values.get(rank.min(last)).copied().unwrap_or_default()
        };
        Some(Self { min: at(0), p50: at(50), p90: at(90), p99: at(99), max: at(100) })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frames, done, refused, elapsed_ms, frames_per_s, .. } = self;
        let faults = self.faults.len();
        write!(f, "frames   {frames}: {done} done, {refused} refused, {faults} faults")?;
        writeln!(f, "; {elapsed_ms} ms, {frames_per_s} frames/s")?;
        if self.files_left > 0 {
            writeln!(f, "         {} files were not read, since the guest was over", self.files_left)?;
        }
        writeln!(f, "loading  module {} us, models {} us", self.module_us, self.models_us)?;
        if let Some(Spread { min, p50, p90, p99, max }) = self.took_ns.map(Spread::to_us) {
            writeln!(f, "time     min {min} us, p50 {p50} us, p90 {p90} us, p99 {p99} us, max {max} us")?;
        }
        if let Some(Spread { min, p50, p90, p99, max }) = self.fuel {
            writeln!(f, "fuel     min {min}, p50 {p50}, p90 {p90}, p99 {p99}, max {max}")?;
        }
        let Memory { loaded, max } = self.memory_bytes;
        writeln!(f, "memory   {} KiB when loaded, {} KiB at most", loaded / 1024, max / 1024)?;
        writeln!(f, "records  {}", self.record_words())?;
        for (function, count) in &self.denied {
            writeln!(f, "denied   {function}: {count} calls{}", cure(function))?;
        }
        if self.log_lines_dropped > 0 {
            writeln!(f, "log      {} lines were dropped above the rate", self.log_lines_dropped)?;
        }
        for FaultAt { file, fault } in &self.faults {
            writeln!(f, "fault    {}", fault_words(fault, file.as_deref()))?;
        }
        Ok(())
    }
}

impl Summary {
    fn record_words(&self) -> String {
        let mut words: Vec<String> = self.records.iter().map(|(channel, count)| format!("{channel} {count}")).collect();
        if words.is_empty() {
            words.push("none".to_owned());
        }
        if self.records_above_rate > 0 {
            words.push(format!("{} refused above the rate (--emit-per-s)", self.records_above_rate));
        }
        words.join(", ")
    }
}

impl Spread {
    fn to_us(self) -> Self {
        let Self { min, p50, p90, p99, max } = self;
        let [min, p50, p90, p99, max] = [min, p50, p90, p99, max].map(|ns| ns / 1000);
        Self { min, p50, p90, p99, max }
    }
}

/// What to do about a refused host function.
fn cure(function: &str) -> &'static str {
    match function {
        "emit" => "; allow it with --grant emit:<channel>",
        "emit_evidence" => "; allow it with --grant evidence and --grant emit:<channel>",
        "state_get" | "state_set" | "state_delete" => "; allow it with --grant state:<bytes>",
        "load" => "; models are bound with --model and loaded by name",
        _ => "; allow it with --grant infer",
    }
}

/// A fault in one line.
pub(crate) fn fault_words(fault: &Fault, file: Option<&str>) -> String {
    let mut words = fault.code.to_string();
    if let Some(trap) = &fault.trap {
        words.push_str(&format!(" ({trap})"));
    }
    if let Some(export) = &fault.export {
        words.push_str(&format!(" in {export}"));
    }
    if let Some(seq) = fault.seq {
        words.push_str(&format!(", frame {seq}"));
    }
    if let Some(file) = file {
        words.push_str(&format!(", {file}"));
    }
    format!("{words}: {}", fault.message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use sanderling_protocol::worker::FaultCode;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let spread = |mut values: Vec<u64>| Spread::of(&mut values);
        assert_eq!(spread(vec![]), None);
        assert_eq!(spread(vec![7]), Some(Spread { min: 7, p50: 7, p90: 7, p99: 7, max: 7 }));
        let hundred = spread((1..=100).rev().collect());
        assert_eq!(hundred, Some(Spread { min: 1, p50: 50, p90: 90, p99: 99, max: 100 }));
        assert_eq!(spread(vec![3, 1, 2]).unwrap().p50, 2);
    }

    #[test]
    fn sums_over_guests_and_names_cures() {
        let mut tally = Tally { frames: 3, refused: 1, ..Tally::default() };
        tally.done(&FrameReport { fuel: 10, took_ns: 2_000, ended_ns: 0, memory_bytes: 4096 });
        let counters = Counters { emit_refused: 2, ..Counters::default() };
        tally.over(&counters, &BTreeMap::from([("emit", 3)]), 8192);
        tally.over(&counters, &BTreeMap::from([("emit", 1), ("compute", 1)]), 0);
        let fault = Fault { seq: Some(3), ..Fault::new(FaultCode::Fuel, "too much") };
        tally.faults.push(FaultAt { file: Some("c.png".into()), fault });
        let summary = tally.sum(BTreeMap::from([("defects".into(), 5)]), 4, Duration::from_millis(500));
        let text = summary.to_string();
        for words in [
            "frames   3: 1 done, 1 refused, 1 faults; 500 ms, 2 frames/s",
            "4 files were not read",
            "p50 2 us",
            "8 KiB at most",
            "defects 5, 4 refused above the rate",
            "emit: 4 calls; allow it with --grant emit:<channel>",
            "compute: 1 calls; allow it with --grant infer",
            "fuel, frame 3, c.png: too much",
        ] {
            assert!(text.contains(words), "{words:?} is missing in\n{text}");
        }
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(json["faults"][0]["code"], "fuel");
        assert_eq!(json["faults"][0]["file"], "c.png");
        assert_eq!(json["ok"], false);
    }
}
