//! Rows of the tensor, one after the other, out of the rows of the frame.
//!
//! Rows first: the source rows of an output row are weighed and summed up, and only the sum is taken apart into its samples
//! and resized along the row. Between the two a sample keeps bits behind the point ([`FRACTION`](super::vector::FRACTION)): it is rounded to a gray level once. So what is not needed is never converted, and nothing larger than a few rows is ever kept.

use super::{
    axis::Sampling,
    luma,
    plan::{BandPlan, LanePlan, Plan},
    source::{Samples, Source},
    vector::{Vector, round},
};

/// Bytes of a pixel of three colours.
const COLORS: usize = 3;

/// A row of pixels, each kind of samples apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Row<'a> {
    Gray(&'a [u8]),
    /// Red, green and blue.
    Colors([&'a [u8]; 3]),
}

/// The rows under way; they keep their room from frame to frame.
pub(super) struct Rows {
    vector: Vector,
    /// The weighed sum of source rows.
    sum: Vec<i16>,
    /// Samples out of it, each kind apart.
    samples: [Vec<i16>; 3],
    /// The same at the tensor's width, for each kind.
    done: [Vec<u8>; 3],
}

impl Rows {
    pub(super) fn new() -> Self {
        Self { vector: Vector::detect(), sum: Vec::new(), samples: Default::default(), done: Default::default() }
    }

    /// Row `y` of the tensor.
    pub(super) fn make(&mut self, source: &Source<'_>, plan: &Plan, y: usize) -> Row<'_> {
        let Self { vector, sum, samples, done } = self;
        let width = plan.key.width;
        let mut kinds = done.iter_mut();
        for band in &plan.bands {
            let row = weigh(*vector, source, band, y, sum);
            let lanes = band.lanes.iter().zip(&mut kinds).map(|(lane, to)| (lane, room(to, width)));
            if band.lanes.iter().all(|lane| lane.lane.step == COLORS) {
                resize_colors(*vector, row, band, samples, lanes);
            } else {
                let [samples, ..] = &mut *samples;
                lanes.for_each(|(lane, to)| resize(*vector, row, lane, samples, to));
            }
        }
        let [a, b, c] = done.each_mut().map(|row| room(row, width));
        match (plan.samples, plan.key.gray) {
            (Samples::Gray, _) => Row::Gray(a),
            (Samples::Luma, _) => {
                a.iter_mut().for_each(|sample| *sample = expand(*sample));
                Row::Gray(a)
            }
            (Samples::Rgb, true) => {
                for ((red, green), blue) in a.iter_mut().zip(b.iter()).zip(c.iter()) {
                    *red = luma(*red, *green, *blue);
                }
                Row::Gray(a)
            }
            (Samples::Rgb, false) => Row::Colors([a, b, c]),
            (Samples::Yuv, _) => {
                vector.rgb(a, b, c);
                Row::Colors([a, b, c])
            }
        }
    }
}

/// The part of a source row that is read, or of the weighed sum of several.
fn weigh<'a>(vector: Vector, source: &Source<'_>, band: &BandPlan, y: usize, sum: &'a mut Vec<i16>) -> &'a [i16] {
    let base = if band.band.below { source.height } else { 0 } + band.first;
    let sum = room(sum, band.len);
    let mut one = |row: usize| vector.widen(source.from(base + row, band.from), sum);
    match &band.rows {
        Sampling::Same => one(y),
        Sampling::Chosen(rows) => one(rows.get(y).copied().unwrap_or_default()),
        Sampling::Weighed(weights) => {
            let (first, window) = weights.window(y);
            let rows = source.from(base + first, band.from);
            vector.blend(rows, source.stride, (window, weights.precision), sum);
        }
    }
    sum
}

/// The samples of one kind in `row`, at the tensor's width.
fn resize(vector: Vector, row: &[i16], plan: &LanePlan, samples: &mut Vec<i16>, to: &mut [u8]) {
    let groups = row.get(plan.start..).unwrap_or_default();
    let samples = room(samples, room_for(plan));
    vector.pick(groups, plan.lane.step, plan.lane.offset, samples.get_mut(..plan.count).unwrap_or_default());
    narrow(vector, samples, plan, to);
}

/// The same for pixels of three samples, which are much quicker taken apart all at once.
fn resize_colors<'a>(
    vector: Vector,
    row: &[i16],
    band: &BandPlan,
    samples: &mut [Vec<i16>; 3],
    lanes: impl Iterator<Item = (&'a LanePlan, &'a mut [u8])>,
) {
    let most = band.lanes.iter().map(room_for).max().unwrap_or(0);
    vector.split(row, samples.each_mut().map(|samples| room(samples, most)));
    for (plan, to) in lanes {
        narrow(vector, samples.get(plan.lane.offset).map(Vec::as_slice).unwrap_or_default(), plan, to);
    }
}

/// The room that the samples of a row take. What stands behind them weighs nothing, but must be there.
fn room_for(plan: &LanePlan) -> usize {
    match &plan.columns {
        Sampling::Weighed(weights) => plan.count + weights.taps,
        Sampling::Same | Sampling::Chosen(_) => plan.count,
    }
}

/// Samples to gray levels at the tensor's width.
fn narrow(vector: Vector, samples: &[i16], plan: &LanePlan, to: &mut [u8]) {
    match &plan.columns {
        Sampling::Same => vector.round(samples, to),
        Sampling::Chosen(columns) => {
            for (to, column) in to.iter_mut().zip(columns) {
                *to = round(samples.get(*column).copied().unwrap_or_default());
            }
        }
        Sampling::Weighed(weights) => vector.dots(samples, weights, to),
    }
}

/// The first `len` places of a buffer, which only ever grows.
fn room<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
    buffer.get_mut(..len).unwrap_or_default()
}

/// Limited-range luma to 0..=255: what a colourless pixel becomes.
fn expand(luma: u8) -> u8 {
    ((298 * (i32::from(luma) - 16) + 128) >> 8).clamp(0, 255) as u8
}
