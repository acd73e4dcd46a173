//! How frames of one kind become tensors of one kind: which samples are read and what they weigh, worked out once.

use sanderling_guest::{
    frame::Format,
    image::{Color, Filter, ImageOp},
};

use super::{
    axis::{Sampling, Span},
    source::{Band, Crop, Lane, Samples, Source},
    vector::{FILL, PAIR},
};

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    format: Format,
    /// Whether the tensor is gray.
    pub(super) gray: bool,
    crop: Crop,
    /// Of the tensor.
    pub(super) width: usize,
    height: usize,
    filter: Filter,
}

impl Key {
    pub(super) fn new(source: &Source<'_>, crop: Crop, op: &ImageOp) -> Self {
        let gray = op.color == Color::Gray;
        let (width, height) = (op.width as usize, op.height as usize);
        Self { format: source.format, gray, crop, width, height, filter: op.filter }
    }

    /// At most this many bytes are what a plan and the rows under way take: two samplings of columns and rows, the sum of
    /// rows, its samples of three kinds with a window behind them, and what comes out.
    pub(super) fn needs(&self) -> usize {
        let columns = Sampling::needs(self.crop.width, self.width, FILL);
        let rows = Sampling::needs(self.crop.height, self.height, PAIR);
        let samplings = columns.saturating_add(rows).saturating_mul(2);
        let row = self.crop.width.saturating_add(self.width).saturating_add(2 * FILL).saturating_mul(20);
        samplings.saturating_add(row)
    }
}

/// The rows of one band.
pub(super) struct BandPlan {
    pub(super) band: &'static Band,
    /// From source rows to rows of the tensor.
    pub(super) rows: Sampling,
    /// The first source row of the crop, in rows of the band.
    pub(super) first: usize,
    /// The bytes of a row that are read: where they begin …
    pub(super) from: usize,
    /// … and how many they are.
    pub(super) len: usize,
    pub(super) lanes: Vec<LanePlan>,
}

/// The samples of one kind in a row.
pub(super) struct LanePlan {
    pub(super) lane: Lane,
    /// From samples to columns of the tensor.
    pub(super) columns: Sampling,
    /// Where the first group that is read begins, in the bytes that are read.
    pub(super) start: usize,
    /// How many groups are read.
    pub(super) count: usize,
}

/// All that does not depend on the pixels.
pub(super) struct Plan {
    pub(super) key: Key,
    pub(super) samples: Samples,
    pub(super) bands: Vec<BandPlan>,
}

impl Plan {
    pub(super) fn new(key: Key, source: &Source<'_>) -> Self {
        let (samples, bands) = source.samples(key.gray);
        Self { key, samples, bands: bands.iter().map(|band| BandPlan::new(band, &key)).collect() }
    }
}

impl BandPlan {
    fn new(band: &'static Band, key: &Key) -> Self {
        let Key { crop, width, height, filter, .. } = *key;
        let rows = Sampling::new(filter, (crop.y, crop.height), band.shared, height, PAIR);
        let span = |lane: &Lane| Span::of(crop.x, crop.width, lane.shared);
        let from = band.lanes.iter().map(|lane| span(lane).first * lane.step).min().unwrap_or(0);
        let end = band.lanes.iter().map(|lane| (span(lane).first + span(lane).count) * lane.step).max().unwrap_or(from);
        let lanes = band.lanes.iter().map(|lane| {
            let columns = Sampling::new(filter, (crop.x, crop.width), lane.shared, width, FILL);
            let Span { first, count, .. } = span(lane);
            LanePlan { lane: *lane, columns, start: first * lane.step - from, count }
        });
        let first = Span::of(crop.y, crop.height, band.shared).first;
        Self { band, rows, first, from, len: end - from, lanes: lanes.collect() }
    }
}
