//! One axis of a resize: which samples of a line each output is made of, and how much each of them weighs.
//!
//! The windows and weights are Pillow's (`BILINEAR`, `BOX`, `NEAREST`). Weights are rounded to integers of 16 bits with as many
//! fractional bits as the largest of them leaves room for, so that two samples are weighed by one instruction; those of an output are
//! one together, to the bit, so that an even image stays as it is. An axis that keeps its size keeps its samples, and chroma is repeated along it.

use sanderling_guest::image::Filter;

/// The most fractional bits of a weight: the weighed sum of samples with [`FRACTION`](super::vector::FRACTION) bits of their own, which
/// is at most 2040 times one, then still fits 31 bits.
const MAX_PRECISION: u32 = 20;

/// The samples of an axis that a crop touches. Samples of chroma are two pixels wide, so a crop may begin in the middle of one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Span {
    /// The first sample.
    pub(super) first: usize,
    /// How many there are; never 0.
    pub(super) count: usize,
    /// Where the crop begins, in samples after the first.
    from: f64,
    /// Where it ends.
    to: f64,
}

impl Span {
    /// The samples, each `shared` pixels wide, of the `len` pixels from `start` on.
    pub(super) fn of(start: usize, len: usize, shared: usize) -> Self {
        let first = start / shared;
        let count = (start + len).div_ceil(shared) - first;
        let from = (start % shared) as f64 / shared as f64;
        Self { first, count, from, to: from + len as f64 / shared as f64 }
    }
}

/// How a line of samples becomes a line of another length.
#[derive(Debug)]
pub(super) enum Sampling {
    /// As it is.
    Same,
    /// One sample for each output, counted from the span's first.
    Chosen(Vec<usize>),
    /// A weighed sum for each output.
    Weighed(Weights),
}

impl Sampling {
    /// From the `len` pixels at `start`, in samples of `shared` pixels, to `out` pixels; windows are filled up to a multiple of `fill`.
    pub(super) fn new(filter: Filter, (start, len): (usize, usize), shared: usize, out: usize, fill: usize) -> Self {
        if len == out && shared == 1 {
            return Self::Same;
        }
        let span = Span::of(start, len, shared);
        if len == out || filter == Filter::Nearest {
            let pixels = nearest(len, out);
            return Self::Chosen(pixels.map(|pixel| (start + pixel) / shared - span.first).collect());
        }
        Self::Weighed(Weights::new(filter, &span, out, fill))
    }

    /// At most this many bytes are what [`Sampling::new`] keeps.
    pub(super) fn needs(len: usize, out: usize, fill: usize) -> usize {
        let taps = len.div_ceil(out).saturating_mul(2).saturating_add(3).next_multiple_of(fill);
        out.saturating_mul(size_of::<usize>().saturating_add(taps.saturating_mul(size_of::<i16>())))
    }
}

/// The nearest pixel of `len` to the middle of each of `out`. Steps are added up, as Pillow does, and not multiplied.
fn nearest(len: usize, out: usize) -> impl Iterator<Item = usize> {
    let step = len as f64 / out as f64;
    let middles = std::iter::successors(Some(step * 0.5), move |middle| Some(middle + step));
    middles.take(out).map(move |middle| (middle as usize).min(len - 1))
}

/// Windows of one length with their weights.
#[derive(Debug)]
pub(super) struct Weights {
    /// Fractional bits of the weights.
    pub(super) precision: u32,
    /// Samples in a window, those that weigh nothing included.
    pub(super) taps: usize,
    /// Where each window begins, counted from the span's first sample.
    pub(super) firsts: Vec<usize>,
    /// The weights of all windows, one after the other.
    pub(super) weights: Vec<i16>,
}

impl Weights {
    fn new(filter: Filter, span: &Span, out: usize, fill: usize) -> Self {
        let windows: Vec<Window> = (0..out).map(|at| Window::new(filter, span, out, at)).collect();
        let heaviest = windows.iter().flat_map(|window| &window.weights).copied().fold(0.0, f64::max);
        let fits = |bits: &u32| scaled(heaviest, *bits) < f64::from(i16::MAX);
        let precision = (0..=MAX_PRECISION).rev().find(fits).unwrap_or(0);
        let longest = windows.iter().map(|window| window.weights.len()).max().unwrap_or(0);
        let taps = longest.next_multiple_of(fill);
        let mut weights = Vec::with_capacity(out * taps);
        for (window, end) in windows.iter().zip((taps..).step_by(taps)) {
            weights.extend(fixed(&window.weights, precision));
            weights.resize(end, 0);
        }
        Self { precision, taps, firsts: windows.iter().map(|window| window.first).collect(), weights }
    }

    /// The first sample of a window, and its weights.
    pub(super) fn window(&self, at: usize) -> (usize, &[i16]) {
        let first = self.firsts.get(at).copied().unwrap_or_default();
        (first, self.weights.get(at * self.taps..(at + 1) * self.taps).unwrap_or_default())
    }
}

/// Weights as whole numbers. Not each of them is rounded but the sum up to each, so that what one gains the next one lacks.
fn fixed(weights: &[f64], precision: u32) -> impl Iterator<Item = i16> {
    let (mut sum, mut given) = (0.0, 0.0);
    weights.iter().map(move |weight| {
        sum += weight;
        let fixed = scaled(sum, precision).round() - given;
        given += fixed;
        // At most `i16::MAX`, by the choice of the precision: it is less than one away from the weight itself.
        fixed as i16
    })
}

fn scaled(weight: f64, precision: u32) -> f64 {
    weight * f64::from(1_u32 << precision)
}

/// The samples under the filter of one output.
struct Window {
    first: usize,
    weights: Vec<f64>,
}

impl Window {
    fn new(filter: Filter, span: &Span, out: usize, at: usize) -> Self {
        let scale = (span.to - span.from) / out as f64;
        let wide = scale.max(1.0);
        let reach = if filter == Filter::Area { 0.5 * wide } else { wide };
        let middle = span.from + (at as f64 + 0.5) * scale;
        let first = (middle - reach + 0.5).max(0.0) as usize;
        let end = ((middle + reach + 0.5) as usize).min(span.count);
        let mut weights: Vec<f64> =
            (first..end).map(|sample| weight(filter, (sample as f64 - middle + 0.5) / wide)).collect();
        let sum: f64 = weights.iter().sum();
        if sum > 0.0 {
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        Self { first, weights }
    }
}

/// How much a sample weighs at this distance from the middle, in filter widths.
fn weight(filter: Filter, distance: f64) -> f64 {
    match filter {
        Filter::Area if distance > -0.5 && distance <= 0.5 => 1.0,
        Filter::Area => 0.0,
        Filter::Bilinear | Filter::Nearest => (1.0 - distance.abs()).max(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crop_of_chroma_begins_and_ends_in_the_middle_of_a_sample() {
        assert_eq!(Span::of(3, 4, 2), Span { first: 1, count: 3, from: 0.5, to: 2.5 });
        assert_eq!(Span::of(3, 4, 1), Span { first: 3, count: 4, from: 0.0, to: 4.0 });
        assert_eq!(Span::of(4, 1, 2), Span { first: 2, count: 1, from: 0.0, to: 0.5 });
    }

    #[test]
    fn windows_lie_inside_of_the_span_and_weigh_one_together() {
        for filter in [Filter::Bilinear, Filter::Area] {
            for (start, len, shared, out) in
                [(0, 640, 1, 64), (3, 17, 2, 40), (0, 1, 1, 9), (5, 2, 2, 1), (0, 4096, 1, 1), (7, 100, 2, 99)]
            {
                let Sampling::Weighed(weights) = Sampling::new(filter, (start, len), shared, out, 2) else {
                    unreachable!("the size changes");
                };
                let count = Span::of(start, len, shared).count;
                assert!(weights.taps.is_multiple_of(2));
                assert!(out * (8 + 2 * weights.taps) <= Sampling::needs(len, out, 2), "{len} {out}");
                for at in 0..out {
                    let (first, window) = weights.window(at);
                    let used = window.iter().rposition(|weight| *weight != 0).unwrap_or(0);
                    assert!(first + used < count, "{filter:?} {start} {len} {out}");
                    let sum: i32 = window.iter().map(|weight| i32::from(*weight)).sum();
                    assert_eq!(sum, 1 << weights.precision, "{filter:?} {start} {len} {out}");
                }
            }
        }
    }

    #[test]
    fn repeats_chroma_along_an_axis_that_keeps_its_size() {
        let chosen = |start, len| match Sampling::new(Filter::Bilinear, (start, len), 2, len, 2) {
            Sampling::Chosen(samples) => samples,
            other => unreachable!("{other:?}"),
        };
        assert_eq!(chosen(0, 5), [0, 0, 1, 1, 2]);
        assert_eq!(chosen(3, 4), [0, 1, 1, 2]);
    }
}
