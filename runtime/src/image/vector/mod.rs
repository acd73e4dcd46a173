//! What is done to a row of samples, many at a time: weighed sums of rows, weighed sums within a row, samples picked out of
//! a row, colours.
//!
//! Samples come as bytes and end as bytes; between they have [`FRACTION`] bits behind the point.
//!
//! Invariant: every way of computing gives the same bytes, those of [`plain`]; tests compare them. Only x86-64 with AVX2 has
//! a way of its own; elsewhere the compiler makes vectors of the plain one as far as the target's instructions allow.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod plain;
#[cfg(test)]
mod tests;

pub(super) use plain::round;

use super::axis::Weights;

/// The samples after the end of a row that [`Vector::dots`] may read: they weigh nothing, but must be there.
pub(super) const FILL: usize = 16;
/// Rows are weighed in pairs.
pub(super) const PAIR: usize = 2;
/// Bits behind the point of a sample that is resized along one axis. A sixteenth of a gray level at most is lost there; more bits would
/// take them from the weights, which matter more where windows are long.
pub(super) const FRACTION: u32 = 3;

/// The instructions that this processor has.
#[derive(Clone, Copy, Debug)]
pub(super) enum Vector {
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
}

impl Vector {
    /// The best that this processor can do.
    pub(super) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = avx2::Avx2::detect() {
            return Self::Avx2(avx2);
        }
        Self::Plain
    }

    /// The bytes of a row as samples.
    pub(super) fn widen(self, row: &[u8], out: &mut [i16]) {
        match self {
            Self::Plain => plain::widen(row, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.widen(row, out),
        }
    }

    /// The weighed sum of rows: of the first `out.len()` bytes of `rows`, of as many `stride` bytes later, and so on.
    pub(super) fn blend(self, rows: &[u8], stride: usize, (weights, precision): (&[i16], u32), out: &mut [i16]) {
        match self {
            Self::Plain => plain::blend(rows, stride, (weights, precision), 0, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.blend(rows, stride, (weights, precision), out),
        }
    }

    /// Samples to the nearest gray levels.
    pub(super) fn round(self, row: &[i16], out: &mut [u8]) {
        match self {
            Self::Plain => plain::rounded(row, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.round(row, out),
        }
    }

    /// The weighed sums of samples of `row`, which goes on for at least a window after its last sample, as gray levels.
    pub(super) fn dots(self, row: &[i16], weights: &Weights, out: &mut [u8]) {
        match self {
            Self::Plain => plain::dots(row, weights, 0, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.dots(row, weights, out),
        }
    }

    /// One sample of each group of `step`, the one at `offset`.
    pub(super) fn pick(self, row: &[i16], step: usize, offset: usize, out: &mut [i16]) {
        match self {
            Self::Plain => plain::pick(row, step, offset, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.pick(row, step, offset, out),
        }
    }

    /// All three samples of each group of three; together they are much quicker to pick than one by one.
    pub(super) fn split(self, row: &[i16], out: [&mut [i16]; 3]) {
        match self {
            Self::Plain => plain::split(row, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.split(row, out),
        }
    }

    /// Luma and chroma, in place, to red, green and blue.
    pub(super) fn rgb(self, luma: &mut [u8], u: &mut [u8], v: &mut [u8]) {
        match self {
            Self::Plain => plain::rgb(luma, u, v),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.rgb(luma, u, v),
        }
    }
}
