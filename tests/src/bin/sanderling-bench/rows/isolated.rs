//! A fresh instance for each frame: beside the interpreter alone that does the same, and beside one instance for all frames.

use anyhow::{Context, Result, anyhow};
use sanderling_protocol::deployment::Execution;
use sanderling_runtime::FrameHeader;
use wasmi::{Engine, Linker, Module, Store};

use crate::{
    kernels::{engine, give, load_as, plain, start},
    measure::take_turns,
    report::{Budget, Row},
};

/// Adds the bytes of a frame up.
const SUM: &str = r#"
(func (export "sanderling_buffer") (param i32) (result i32) (i32.const 1024))
(func (export "sanderling_frame") (result i32) (local $i i32) (local $sum i32)
  (loop $bytes
    (local.set $sum (i32.add (local.get $sum) (i32.load8_u offset=1024 (local.get $i))))
    (br_if $bytes (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 64))))
  (i32.store (i32.const 0) (local.get $sum))
  (i32.const 0))"#;
const SMALL: &[u8] = &[7; 64];

/// A 3x3 convolution of 640x480 gray pixels, whose values above a threshold are counted.
const EDGES: &str = r#"
(func (export "sanderling_buffer") (param i32) (result i32) (i32.const 65536))
(func (export "sanderling_frame") (result i32) (local $at i32) (local $sum i32) (local $count i32)
  (local.set $at (i32.const 641))
  (loop $pixels
    (local.set $sum (i32.sub (i32.shl (i32.load8_u offset=65536 (local.get $at)) (i32.const 3))
      (i32.add
        (i32.add (i32.add (i32.load8_u offset=64895 (local.get $at)) (i32.load8_u offset=64896 (local.get $at)))
          (i32.add (i32.load8_u offset=64897 (local.get $at)) (i32.load8_u offset=65535 (local.get $at))))
        (i32.add (i32.add (i32.load8_u offset=65537 (local.get $at)) (i32.load8_u offset=66175 (local.get $at)))
          (i32.add (i32.load8_u offset=66176 (local.get $at)) (i32.load8_u offset=66177 (local.get $at)))))))
    (local.set $count (i32.add (local.get $count) (i32.gt_s (local.get $sum) (i32.const 96))))
    (br_if $pixels (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 306559))))
  (i32.store (i32.const 0) (local.get $count))
  (i32.const 0))"#;
const PIXELS: u32 = 640 * 480;

/// Measures the rows.
pub(crate) fn measure() -> Result<Vec<Row>> {
    Ok(vec![small()?, large()?])
}

fn small() -> Result<Row> {
    let module = plain(1, SUM)?;
    let mut guest = load_as(Execution::Isolated, &module, None)?;
    let bare = Bare::new(&module)?;
    let header = FrameHeader::new("bench", SMALL.len() as u32);
    let turns = take_turns(151, 200, &mut [&mut || give(&mut guest, &header, SMALL), &mut || bare.frame(SMALL)])?;
    let row = Row::new("isolated-64", "a fresh instance and a frame of 64 bytes", "µs", turns.median(0) * 1e6);
    let row = row.beside("wasmi alone, the same", turns.median(1) * 1e6).ratio(turns.ratio(0, 1));
    Ok(row.within(Budget::RatioAtMost(1.5)))
}

fn large() -> Result<Row> {
    let module = plain(6, EDGES)?;
    let mut guest = load_as(Execution::Isolated, &module, None)?;
    let mut persistent = start(&module, None)?;
    let content: &'static [u8] = (0..PIXELS).map(|at| (at.wrapping_mul(at) >> 7) as u8).collect::<Vec<_>>().leak();
    let header = FrameHeader::new("bench", PIXELS);
    let turns = take_turns(
        101,
        1,
        &mut [&mut || give(&mut guest, &header, content), &mut || give(&mut persistent, &header, content)],
    )?;
    let what = "3x3 convolution of 640x480 in a fresh instance";
    let row = Row::new("isolated-640x480", what, "ms", turns.median(0) * 1e3);
    let row = row.beside("one instance for all frames", turns.median(1) * 1e3).ratio(turns.ratio(0, 1));
    Ok(row.within(Budget::RatioAtMost(1.02)))
}

/// A module that is compiled once, in the interpreter alone.
struct Bare {
    engine: Engine,
    module: Module,
    linker: Linker<()>,
}

impl Bare {
    fn new(module: &[u8]) -> Result<Self> {
        let engine = engine(false);
        Ok(Self { module: Module::new(&engine, module)?, linker: Linker::new(&engine), engine })
    }

    /// What an isolated frame is at the least: a store, an instance, its exports, the copy, the calls.
    fn frame(&self, content: &[u8]) -> Result<()> {
        let mut store = Store::new(&self.engine, ());
        let instance = self.linker.instantiate_and_start(&mut store, &self.module)?;
        let memory = instance.get_memory(&store, "memory").context("the guest has no memory")?;
        let buffer = instance.get_typed_func::<i32, i32>(&store, "sanderling_buffer")?;
        let frame = instance.get_typed_func::<(), i32>(&store, "sanderling_frame")?;
        let place = buffer.call(&mut store, i32::try_from(content.len())?)?;
        memory.write(&mut store, usize::try_from(place)?, content)?;
        match frame.call(&mut store, ())? {
            0 => Ok(()),
            code => Err(anyhow!("the guest returned {code}")),
        }
    }
}
