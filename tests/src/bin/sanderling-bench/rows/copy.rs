//! A frame of 300 KB on its way into guest memory, beside a plain copy.

use std::hint::black_box;

use anyhow::Result;
use sanderling_runtime::FrameHeader;

use crate::{
    kernels::{give, plain, start},
    measure::take_turns,
    report::{Budget, Row},
};

const LENGTH: u32 = 300_000;

const GUEST: &str = r#"
(func (export "sanderling_buffer") (param i32) (result i32) (i32.const 65536))
(func (export "sanderling_frame") (result i32) (i32.const 0))"#;

/// Measures the row.
pub(crate) fn measure() -> Result<Vec<Row>> {
    let mut guest = start(&plain(8, GUEST)?, None)?;
    let content: &'static [u8] = vec![7; LENGTH as usize].leak();
    let header = FrameHeader::new("bench", LENGTH);
    let mut to = vec![0; content.len()];
    let turns = take_turns(
        201,
        20,
        &mut [&mut || give(&mut guest, &header, content), &mut || {
            black_box(&mut to).copy_from_slice(black_box(content));
            Ok(())
        }],
    )?;
    let row = Row::new("frame-copy", "300 KB into guest memory and an empty call", "µs", turns.median(0) * 1e6);
    let row = row.beside("copy_from_slice", turns.median(1) * 1e6).ratio(turns.ratio(0, 1));
    Ok(vec![row.within(Budget::RatioAtMost(1.1))])
}
