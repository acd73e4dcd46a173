//! Rows in vectors of 32 bytes, for x86-64 processors with AVX2.
//!
//! A closure that is handed to a function of the standard library is not built for the vectors of the function around it, so
//! the loops below have none.

#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256i, _mm_add_epi32, _mm_cvtsi32_si128, _mm_cvtsi128_si32, _mm_packs_epi32, _mm_packus_epi16, _mm_set1_epi32,
    _mm_sra_epi32, _mm256_add_epi32, _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_hadd_epi32,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_packs_epi32, _mm256_permute2x128_si256, _mm256_set1_epi32,
    _mm256_setzero_si256, _mm256_sra_epi32, _mm256_storeu_si256, _mm256_unpackhi_epi8, _mm256_unpacklo_epi8,
};

use super::{FILL, FRACTION, PAIR, plain};
use crate::image::axis::Weights;

/// Bytes of a vector.
const WIDE: usize = 32;
/// Windows at a time.
const FOUR: usize = 4;

/// Proof that the processor has AVX2: there is none where it has not.
#[derive(Clone, Copy, Debug)]
pub(in crate::image) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }

    /// As [`Vector::widen`](super::Vector::widen).
    pub(super) fn widen(self, row: &[u8], out: &mut [i16]) {
        // SAFETY: `self` exists, so the processor has AVX2.
        unsafe { widen(row, out) }
    }

    /// As [`Vector::round`](super::Vector::round).
    pub(super) fn round(self, row: &[i16], out: &mut [u8]) {
        // SAFETY: as above.
        unsafe { round(row, out) }
    }

    /// As [`Vector::blend`](super::Vector::blend).
    pub(super) fn blend(self, rows: &[u8], stride: usize, weights: (&[i16], u32), out: &mut [i16]) {
        // SAFETY: as above.
        unsafe { blend(rows, stride, weights, out) }
    }

    /// As [`Vector::dots`](super::Vector::dots).
    pub(super) fn dots(self, row: &[i16], weights: &Weights, out: &mut [u8]) {
        // SAFETY: as above.
        unsafe { dots(row, weights, out) }
    }

    /// As [`Vector::pick`](super::Vector::pick).
    pub(super) fn pick(self, row: &[i16], step: usize, offset: usize, out: &mut [i16]) {
        // SAFETY: as above.
        unsafe { pick(row, step, offset, out) }
    }

    /// As [`Vector::split`](super::Vector::split).
    pub(super) fn split(self, row: &[i16], out: [&mut [i16]; 3]) {
        // SAFETY: as above.
        unsafe { split(row, out) }
    }

    /// As [`Vector::rgb`](super::Vector::rgb).
    pub(super) fn rgb(self, luma: &mut [u8], u: &mut [u8], v: &mut [u8]) {
        // SAFETY: as above.
        unsafe { rgb(luma, u, v) }
    }
}

/// The plain loop, of which the compiler makes vectors of this width.
#[target_feature(enable = "avx2")]
fn widen(row: &[u8], out: &mut [i16]) {
    plain::widen(row, out);
}

/// As [`widen`].
#[target_feature(enable = "avx2")]
fn round(row: &[i16], out: &mut [u8]) {
    plain::rounded(row, out);
}

/// As [`widen`].
#[target_feature(enable = "avx2")]
fn pick(row: &[i16], step: usize, offset: usize, out: &mut [i16]) {
    plain::pick(row, step, offset, out);
}

/// As [`widen`].
#[target_feature(enable = "avx2")]
fn split(row: &[i16], out: [&mut [i16]; 3]) {
    plain::split(row, out);
}

/// As [`widen`].
#[target_feature(enable = "avx2")]
fn rgb(luma: &mut [u8], u: &mut [u8], v: &mut [u8]) {
    plain::rgb(luma, u, v);
}

/// Block by block; the last one overlaps the one before it.
#[target_feature(enable = "avx2")]
fn blend(rows: &[u8], stride: usize, weights: (&[i16], u32), out: &mut [i16]) {
    let (blocks, rest) = out.as_chunks_mut::<WIDE>();
    let mut x = 0;
    for block in &mut *blocks {
        blend_block(rows, x, stride, weights, block);
        x += WIDE;
    }
    if rest.is_empty() {
        return;
    }
    match x.checked_add(rest.len()) {
        Some(end) if end >= WIDE => {
            let mut block = [0; WIDE];
            blend_block(rows, end - WIDE, stride, weights, &mut block);
            rest.copy_from_slice(&block[WIDE - rest.len()..]);
        }
        _ => plain::blend(rows, stride, weights, x, rest),
    }
}

/// A block of the weighed sum: pairs of rows are interleaved, so that one instruction weighs and adds both.
#[inline]
#[target_feature(enable = "avx2")]
fn blend_block(rows: &[u8], x: usize, stride: usize, (weights, precision): (&[i16], u32), block: &mut [i16; WIDE]) {
    let precision = precision - FRACTION;
    let none = _mm256_setzero_si256();
    let mut sums = [_mm256_set1_epi32((1 << precision) >> 1); 4];
    let mut at = x;
    for pair in weights.as_chunks::<PAIR>().0 {
        let [even, odd] = *pair;
        let both = _mm256_set1_epi32(i32::from(even.cast_unsigned()) | i32::from(odd) << 16);
        let (first, second) = (load(rows, at), load(rows, at + stride));
        at += PAIR * stride;
        let (low, high) = (_mm256_unpacklo_epi8(first, second), _mm256_unpackhi_epi8(first, second));
        let quarters = [
            _mm256_unpacklo_epi8(low, none),
            _mm256_unpackhi_epi8(low, none),
            _mm256_unpacklo_epi8(high, none),
            _mm256_unpackhi_epi8(high, none),
        ];
        for (sum, quarter) in sums.iter_mut().zip(quarters) {
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(quarter, both));
        }
    }
    let shift = _mm_cvtsi32_si128(precision.cast_signed());
    let [a, b, c, d] = sums;
    let low = _mm256_packs_epi32(_mm256_sra_epi32(a, shift), _mm256_sra_epi32(b, shift));
    let high = _mm256_packs_epi32(_mm256_sra_epi32(c, shift), _mm256_sra_epi32(d, shift));
    // Each has the first half of one and of another sixteen.
    let sixteens = [_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31)];
    for (to, sixteen) in block.as_chunks_mut::<FILL>().0.iter_mut().zip(sixteens) {
        // SAFETY: `to` has the 16 halves of a word that are written, and needs no alignment.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), sixteen) }
    }
}

/// Windows of up to 64 samples, which nearly all are, have loops of a fixed length.
#[target_feature(enable = "avx2")]
fn dots(row: &[i16], weights: &Weights, out: &mut [u8]) {
    let parts = weights.weights.as_chunks::<FILL>().0;
    let done = out.len() - out.len() % FOUR;
    let (fours, rest) = out.split_at_mut(done);
    match weights.taps / FILL {
        1 => dots_of::<1>(row, weights, parts.as_chunks::<1>().0, fours),
        2 => dots_of::<2>(row, weights, parts.as_chunks::<2>().0, fours),
        3 => dots_of::<3>(row, weights, parts.as_chunks::<3>().0, fours),
        4 => dots_of::<4>(row, weights, parts.as_chunks::<4>().0, fours),
        _ => plain::dots(row, weights, 0, fours),
    }
    plain::dots(row, weights, done, rest);
}

/// Four windows of `N` parts at a time.
#[inline]
#[target_feature(enable = "avx2")]
fn dots_of<const N: usize>(row: &[i16], weights: &Weights, windows: &[[[i16; FILL]; N]], out: &mut [u8]) {
    let precision = weights.precision + FRACTION;
    let shift = _mm_cvtsi32_si128(precision.cast_signed());
    let half = _mm_set1_epi32((1 << precision) >> 1);
    let fours = out.as_chunks_mut::<FOUR>().0.iter_mut();
    for ((four, firsts), windows) in fours.zip(weights.firsts.as_chunks::<FOUR>().0).zip(windows.as_chunks::<FOUR>().0)
    {
        let front = _mm256_hadd_epi32(dot(row, firsts[0], &windows[0]), dot(row, firsts[1], &windows[1]));
        let back = _mm256_hadd_epi32(dot(row, firsts[2], &windows[2]), dot(row, firsts[3], &windows[3]));
        let halves = _mm256_hadd_epi32(front, back);
        let sums = _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
        let sums = _mm_sra_epi32(_mm_add_epi32(sums, half), shift);
        let words = _mm_packs_epi32(sums, sums);
        *four = _mm_cvtsi128_si32(_mm_packus_epi16(words, words)).to_le_bytes();
    }
}

/// The sums of one window's products, in eight parts.
#[inline]
#[target_feature(enable = "avx2")]
fn dot<const N: usize>(row: &[i16], first: usize, weights: &[[i16; FILL]; N]) -> __m256i {
    let mut sums = _mm256_setzero_si256();
    let Some(samples) = row.get(first..) else { return sums };
    let Some(samples) = samples.as_chunks::<FILL>().0.first_chunk::<N>() else { return sums };
    for (samples, weights) in samples.iter().zip(weights) {
        // SAFETY: both have the 16 halves of a word that are read, and need no alignment.
        let (samples, weights) =
            unsafe { (_mm256_loadu_si256(samples.as_ptr().cast()), _mm256_loadu_si256(weights.as_ptr().cast())) };
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(samples, weights));
    }
    sums
}

/// The block of `rows` at `at`. What lies behind their end weighs nothing.
#[inline]
#[target_feature(enable = "avx2")]
fn load(rows: &[u8], at: usize) -> __m256i {
    let Some(rest) = rows.get(at..) else { return _mm256_setzero_si256() };
    let Some(block) = rest.first_chunk::<WIDE>() else { return _mm256_setzero_si256() };
    // SAFETY: `block` has the 32 bytes that are read, and needs no alignment.
    unsafe { _mm256_loadu_si256(block.as_ptr().cast()) }
}
