//! What the flight recorder costs: the same guest with and without one, in this process.

use anyhow::{Result, anyhow};
use sanderling_runtime::{FrameHeader, Guest};

use crate::{
    kernels::{give, load, load_recorded, with_imports},
    measure::take_turns,
    report::{Budget, Row},
};

const READ: &str = r#"(import "sanderling_v1" "frame_read" (func $read (param i32 i32 i32) (result i32)))"#;
/// Takes 64 bytes, counts them in memory, and does nothing else: the recorder weighs most where a guest does least.
const COUNTS: &str = r#"
(func (export "sanderling_frame") (result i32)
  (drop (call $read (i32.const 0) (i32.const 1024) (i32.const 64)))
  (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.load (i32.const 1024))))
  (i32.const 0))"#;
/// Takes a frame of 640x480 and adds its bytes up, 64 bits at a time, in 230 kB of memory that keeps a copy of some of it.
const SUMS: &str = r#"
(func (export "sanderling_frame") (result i32) (local $at i32) (local $sum i64)
  (drop (call $read (i32.const 0) (i32.const 65536) (i32.const 307200)))
  (loop $words
    (local.set $sum (i64.add (local.get $sum) (i64.load offset=65536 (local.get $at))))
    (br_if $words (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 307200))))
  (i64.store (i32.const 0) (local.get $sum))
  (i32.const 0))"#;

/// Measures the rows.
pub(crate) fn measure() -> Result<Vec<Row>> {
    let small: &'static [u8] = vec![7; 64].leak();
    let large: &'static [u8] = (0..640_u32 * 480).map(|at| (at.wrapping_mul(at) >> 7) as u8).collect::<Vec<_>>().leak();
    let row = |name, what, module: &[u8], content: &'static [u8], times| -> Result<Row> {
        let (mut with, mut without) = (started(load_recorded(module)?)?, started(load(module, None)?)?);
        let header = FrameHeader::new("bench", content.len() as u32);
        let turns = take_turns(
            151,
            times,
            &mut [&mut || give(&mut with, &header, content), &mut || give(&mut without, &header, content)],
        )?;
        let row = Row::new(name, what, "µs", turns.median(0) * 1e6);
        Ok(row.beside("the same without a recorder", turns.median(1) * 1e6).ratio(turns.ratio(0, 1)))
    };
    Ok(vec![
        row(
            "recording-64",
            "a frame of 64 bytes and a host call, recorded",
            &with_imports(READ, 1, COUNTS)?,
            small,
            2000,
        )?,
        row(
            "recording-640x480",
            "a frame of 640x480 that is added up, recorded",
            &with_imports(READ, 6, SUMS)?,
            large,
            10,
        )?
        .within(Budget::RatioAtMost(1.05)),
    ])
}

fn started(mut guest: Guest) -> Result<Guest> {
    guest.start().map_err(|fault| anyhow!("{fault}"))?;
    Ok(guest)
}
