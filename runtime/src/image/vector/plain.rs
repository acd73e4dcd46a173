//! The definition of what [`Vector`](super::Vector) computes, without instructions of a kind of processor.
//!
//! Colours are BT.601, limited range, in the usual integers of 8 fractional bits. Rows are worked on in blocks of a fixed length
//! and without a branch, so that the compiler makes vectors of it.

use super::FRACTION;
use crate::image::axis::Weights;

/// Bytes of a block.
const BLOCK: usize = 32;

/// As [`Vector::widen`](super::Vector::widen).
#[inline(always)]
pub(super) fn widen(row: &[u8], out: &mut [i16]) {
    out.iter_mut().zip(row).for_each(|(to, byte)| *to = i16::from(*byte) << FRACTION);
}

/// As [`Vector::round`](super::Vector::round).
#[inline(always)]
pub(super) fn rounded(row: &[i16], out: &mut [u8]) {
    out.iter_mut().zip(row).for_each(|(to, sample)| *to = round(*sample));
}

/// The nearest gray level of a sample.
#[inline(always)]
pub(in crate::image) fn round(sample: i16) -> u8 {
    byte((i32::from(sample) + half(FRACTION)) >> FRACTION)
}

/// As [`Vector::blend`](super::Vector::blend), from byte `x` of the rows on.
pub(super) fn blend(rows: &[u8], stride: usize, (weights, precision): (&[i16], u32), x: usize, out: &mut [i16]) {
    let precision = precision - FRACTION;
    for (block, x) in out.chunks_mut(BLOCK).zip((x..).step_by(BLOCK)) {
        let mut sums = [half(precision); BLOCK];
        for (weight, at) in weights.iter().zip((x..).step_by(stride)) {
            // A window is filled up with weights of nothing, and the rows behind them need not be there.
            let row = rows.get(at..).unwrap_or_default();
            match row.first_chunk::<BLOCK>() {
                Some(row) => add(&mut sums, row, *weight),
                None => add(&mut sums, row, *weight),
            }
        }
        for (to, sum) in block.iter_mut().zip(sums) {
            // At most 255 with its fraction: weights are one together.
            *to = (sum >> precision) as i16;
        }
    }
}

#[inline(always)]
fn add(sums: &mut [i32; BLOCK], row: &[u8], weight: i16) {
    for (sum, sample) in sums.iter_mut().zip(row) {
        *sum += i32::from(weight) * i32::from(*sample);
    }
}

/// As [`Vector::dots`](super::Vector::dots), from the window `at` on.
pub(super) fn dots(row: &[i16], weights: &Weights, at: usize, out: &mut [u8]) {
    let precision = weights.precision + FRACTION;
    for (to, at) in out.iter_mut().zip(at..) {
        let (first, window) = weights.window(at);
        let samples = row.get(first..).unwrap_or_default();
        let sum: i32 = samples.iter().zip(window).map(|(sample, weight)| i32::from(*weight) * i32::from(*sample)).sum();
        *to = byte((sum + half(precision)) >> precision);
    }
}

/// As [`Vector::pick`](super::Vector::pick).
#[inline(always)]
pub(super) fn pick(row: &[i16], step: usize, offset: usize, out: &mut [i16]) {
    match (step, offset) {
        (1, 0) => each::<1, 0>(row, out),
        (2, 0) => each::<2, 0>(row, out),
        (2, 1) => each::<2, 1>(row, out),
        (3, 0) => each::<3, 0>(row, out),
        (3, 1) => each::<3, 1>(row, out),
        (3, 2) => each::<3, 2>(row, out),
        (4, 1) => each::<4, 1>(row, out),
        (4, 3) => each::<4, 3>(row, out),
        _ => row.iter().skip(offset).step_by(step).zip(out).for_each(|(sample, to)| *to = *sample),
    }
}

/// As [`Vector::split`](super::Vector::split).
#[inline(always)]
pub(super) fn split(row: &[i16], [first, second, third]: [&mut [i16]; 3]) {
    let groups = row.as_chunks::<3>().0.iter();
    for (((group, first), second), third) in groups.zip(first).zip(second).zip(third) {
        (*first, *second, *third) = (group[0], group[1], group[2]);
    }
}

#[inline(always)]
fn each<const STEP: usize, const OFFSET: usize>(row: &[i16], out: &mut [i16]) {
    for (to, group) in out.iter_mut().zip(row.as_chunks::<STEP>().0) {
        *to = group[OFFSET];
    }
}

/// As [`Vector::rgb`](super::Vector::rgb): red is `(298 (y - 16) + 409 (v - 128) + 128) / 256`, rounded down, and so on.
#[inline(always)]
pub(super) fn rgb(luma: &mut [u8], u: &mut [u8], v: &mut [u8]) {
    for ((luma, u), v) in luma.iter_mut().zip(u).zip(v) {
        let whole = 298 * (i32::from(*luma) - 16) + 128;
        let (blue, red) = (i32::from(*u) - 128, i32::from(*v) - 128);
        *luma = byte((whole + 409 * red) >> 8);
        *u = byte((whole - 100 * blue - 208 * red) >> 8);
        *v = byte((whole + 516 * blue) >> 8);
    }
}

fn half(precision: u32) -> i32 {
    (1 << precision) >> 1
}

#[inline(always)]
fn byte(value: i32) -> u8 {
    value.clamp(0, 255) as u8
}
