//! Emits the mean of each window of a series.

use sanderling_guest::sdk::{self, Fault, Frame, Guest};
use serde::Serialize;

#[derive(Serialize)]
struct Record {
    seq: u64,
    mean: f32,
}

struct Mean;

impl Guest for Mean {
    fn start() -> Result<Self, Fault> {
        Ok(Self)
    }

    fn frame(&mut self, frame: &mut Frame) -> Result<(), Fault> {
        let seq = frame.header().seq;
        let (sum, count) = frame.samples()?.fold((0.0, 0.0_f32), |(sum, count), sample| (sum + sample, count + 1.0));
        Ok(sdk::emit_json("{{name}}", &Record { seq, mean: sum / count.max(1.0) })?)
    }
}

sanderling_guest::guest!(Mean);
