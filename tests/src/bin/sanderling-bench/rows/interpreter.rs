//! What metering costs: our runtime, with fuel in slices and a deadline, beside the interpreter alone.

use anyhow::Result;
use sanderling_runtime::FrameHeader;

use crate::{
    kernels::{Bare, give, plain, start},
    measure::take_turns,
    report::{Budget, Row},
};

/// Many short turns: whatever else the machine does then falls on all alike.
const ROUNDS: usize = 151;

/// The three kinds of work of CoreMark: a matrix, a checksum bit by bit, a linked list.
const MIX: &str = r#"
(func $matrix (result i32) (local $i i32) (local $j i32) (local $k i32) (local $sum i32) (local $all i32)
  (loop $rows (local.set $j (i32.const 0))
    (loop $columns (local.set $k (i32.const 0)) (local.set $sum (i32.const 0))
      (loop $terms
        (local.set $sum (i32.add (local.get $sum) (i32.mul
          (i32.load offset=4096 (i32.shl (i32.add (i32.mul (local.get $i) (i32.const 24)) (local.get $k)) (i32.const 2)))
          (i32.load offset=8192 (i32.shl (i32.add (i32.mul (local.get $k) (i32.const 24)) (local.get $j)) (i32.const 2))))))
        (br_if $terms (i32.lt_u (local.tee $k (i32.add (local.get $k) (i32.const 1))) (i32.const 24))))
      (local.set $all (i32.xor (local.get $all) (local.get $sum)))
      (br_if $columns (i32.lt_u (local.tee $j (i32.add (local.get $j) (i32.const 1))) (i32.const 24))))
    (br_if $rows (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 24))))
  (local.get $all))
(func $crc (result i32) (local $at i32) (local $bit i32) (local $crc i32)
  (loop $bytes
    (local.set $crc (i32.xor (local.get $crc) (i32.load8_u offset=4096 (local.get $at))))
    (local.set $bit (i32.const 0))
    (loop $bits
      (if (i32.and (local.get $crc) (i32.const 1))
        (then (local.set $crc (i32.xor (i32.shr_u (local.get $crc) (i32.const 1)) (i32.const 0xa001))))
        (else (local.set $crc (i32.shr_u (local.get $crc) (i32.const 1)))))
      (br_if $bits (i32.lt_u (local.tee $bit (i32.add (local.get $bit) (i32.const 1))) (i32.const 8))))
    (br_if $bytes (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 1024))))
  (local.get $crc))
(func $list (result i32) (local $at i32) (local $step i32) (local $sum i32)
  (loop $nodes
    (local.set $sum (i32.add (local.get $sum) (i32.load offset=16388 (local.get $at))))
    (i32.store offset=16388 (local.get $at) (local.get $sum))
    (local.set $at (i32.and (i32.add (i32.mul (local.get $at) (i32.const 5)) (i32.const 8)) (i32.const 0x1ff8)))
    (br_if $nodes (i32.lt_u (local.tee $step (i32.add (local.get $step) (i32.const 1))) (i32.const 4096))))
  (local.get $sum))
(func (export "sanderling_frame") (result i32) (local $times i32)
  (loop $again
    (drop (i32.add (call $matrix) (i32.add (call $crc) (call $list))))
    (br_if $again (i32.lt_u (local.tee $times (i32.add (local.get $times) (i32.const 1))) (i32.const 12))))
  (i32.const 0))"#;

/// A loop over memory, without a call.
const LOOPS: &str = r#"
(func (export "sanderling_frame") (result i32) (local $i i32) (local $x i32) (local $at i32)
  (loop $again
    (local.set $x (i32.add (i32.mul (local.get $x) (i32.const 1664525)) (i32.const 1013904223)))
    (local.set $at (i32.and (i32.shr_u (local.get $x) (i32.const 16)) (i32.const 0xfffc)))
    (i32.store (local.get $at) (i32.add (i32.load (local.get $at)) (local.get $i)))
    (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 300000))))
  (i32.const 0))"#;

/// Calls and little else.
const CALLS: &str = r#"
(func $fib (param $n i32) (result i32)
  (if (result i32) (i32.lt_u (local.get $n) (i32.const 2))
    (then (local.get $n))
    (else (i32.add (call $fib (i32.sub (local.get $n) (i32.const 1))) (call $fib (i32.sub (local.get $n) (i32.const 2)))))))
(func (export "sanderling_frame") (result i32) (drop (call $fib (i32.const 23))) (i32.const 0))"#;

/// Measures the rows.
pub(crate) fn measure() -> Result<Vec<Row>> {
    Ok(vec![
        row("interpreter", "matrix, checksum and list in a guest", MIX, true, 1.0 / 0.97)?,
        row("metering-loops", "a loop, fuel in slices and a deadline", LOOPS, false, 1.08)?,
        row("metering-calls", "calls, fuel in slices and a deadline", CALLS, false, 1.25)?,
    ])
}

fn row(name: &'static str, what: &str, body: &str, fuel: bool, most: f64) -> Result<Row> {
    let module = plain(1, body)?;
    let mut guest = start(&module, None)?;
    let (mut bare, mut fuelled) = (Bare::new(&module, false)?, Bare::new(&module, true)?);
    let header = FrameHeader::new("bench", 0);
    let turns = take_turns(
        ROUNDS,
        1,
        &mut [&mut || give(&mut guest, &header, &[]), &mut || bare.call(), &mut || fuelled.call()],
    )?;
    let (beside, reference) = if fuel { ("wasmi alone, with fuel", 2) } else { ("wasmi alone, without fuel", 1) };
    let what = match fuel {
        true => what.to_owned(),
        false => format!("{what} (fuel in wasmi alone costs {:.2}x)", turns.ratio(2, 1)),
    };
    let row = Row::new(name, what, "ms", turns.median(0) * 1e3).beside(beside, turns.median(reference) * 1e3);
    Ok(row.ratio(turns.ratio(0, reference)).within(Budget::RatioAtMost((most * 1000.0).round() / 1000.0)))
}
