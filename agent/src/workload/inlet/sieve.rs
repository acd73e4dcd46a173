//! Which frames the policy of a lane lets through, and the windows that it cuts of a series.
//!
//! A window is filled from one frame after the other, whatever their length; the next begins `hop` samples after it. It is numbered by itself,
//! and was captured when the frame that filled it was.
//!
//! Invariants: no sample is in a window that does not follow the one before it: where the sensor's count has a gap, or the series
//! changes its form, the window at hand is given up and counted.
//!
//! Limits: a window takes at most [`MOST_WAITING`] bytes; a series of which it would take more is unfit. In steady state nothing is allocated.

use std::time::Duration;

use sanderling_guest::frame::{Format, FrameHeader, Kind};
use sanderling_protocol::deployment::{Policy, Sample, Window};

use super::MOST_WAITING;
use crate::frames::{Frame, Pool};

/// What a policy lets through.
#[derive(Debug)]
pub(super) enum Sieve {
    /// Every frame.
    All,
    /// The first of `of`; `since` came after the last that passed.
    Every { of: u32, since: u32 },
    /// One in `period`; the next not before `next`.
    Paced { period: Duration, next: Duration },
    /// What is cut anew.
    Cut(Cutter),
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is given to the module.
    Passes,
    /// It is left out.
    Skipped,
}

impl Sieve {
    pub(super) fn new(policy: Policy) -> Self {
        match policy {
            Policy::Latest | Policy::Queue(_) => Self::All,
            Policy::Sample(Sample::Every(of)) => Self::Every { of, since: 0 },
            Policy::Sample(Sample::PerSecond(rate)) => {
                // Checked to lie between 0.0001 and 100,000.
                let period = Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::MAX);
                Self::Paced { period, next: Duration::ZERO }
            }
            Policy::Window(window) => Self::Cut(Cutter::new(window)),
        }
    }

    /// Whether a frame that comes at `now` passes.
    pub(super) fn judge(&mut self, now: Duration) -> Verdict {
        let passes = match self {
            Self::All | Self::Cut(_) => true,
            Self::Every { of, since } => {
                let first = *since == 0;
                *since = (*since + 1) % (*of).max(1);
                first
            }
            Self::Paced { period, next } => {
                let due = now >= *next;
                if due {
                    // The pace is kept over frames that come a little late, but what was missed is not made up for.
                    let kept = next.saturating_add(*period);
                    *next = if kept > now { kept } else { now.saturating_add(*period) };
                }
                due
            }
        };
        if passes { Verdict::Passes } else { Verdict::Skipped }
    }
}

/// What was lost while a frame was cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Loss {
    /// The frame is no series, or one too large.
    pub(super) unfit: bool,
    /// The window at hand was given up.
    pub(super) broken: bool,
}

/// The form of a series: what all samples of a window have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Form {
    format: Format,
    channels: u32,
    rate_mhz: u32,
}

impl Form {
    fn of(header: &FrameHeader) -> Option<Self> {
        let is_series = header.kind == Kind::Series && header.channels > 0;
        is_series.then_some(Self { format: header.format, channels: header.channels, rate_mhz: header.rate_mhz })
    }

    /// Bytes of one sample of all channels.
    fn sample(self) -> Option<usize> {
        let element = match self.format {
            Format::F32 | Format::I32 => 4,
            Format::I16 => 2,
            _ => return None,
        };
        (self.channels as usize).checked_mul(element)
    }
}

/// Cuts windows.
#[derive(Debug)]
pub(super) struct Cutter {
    window: Window,
    form: Option<Form>,
    /// The number that the sensor's next frame has, if none is missing.
    follows: u64,
    /// The beginning of the next window.
    held: Vec<u8>,
    /// Bytes to leave out before it.
    skip: usize,
    /// Windows so far.
    count: u64,
}

impl Cutter {
    fn new(window: Window) -> Self {
        Self { window, form: None, follows: 0, held: Vec::new(), skip: 0, count: 0 }
    }

    /// Takes a frame, and gives the windows that it fills.
    pub(super) fn push(&mut self, frame: &Frame, pool: &Pool, mut give: impl FnMut(&Frame)) -> Loss {
        let fit = Form::of(&frame.header).and_then(|form| {
            let sample = form.sample()?;
            let length = sample.checked_mul(self.window.samples as usize)?;
            let fits = length <= MOST_WAITING && frame.content().len().is_multiple_of(sample);
            fits.then_some((form, sample, length))
        });
        let Some((form, sample, length)) = fit else { return Loss { unfit: true, broken: self.begin(None) } };
        let follows = self.form == Some(form) && self.follows == frame.header.seq;
        let broken = !follows && self.begin(Some(form));
        self.follows = frame.header.seq.wrapping_add(1);
        let hop = sample.saturating_mul(self.window.hop() as usize);
        let mut rest = frame.content();
        while !rest.is_empty() {
            let (left_out, kept) = rest.split_at(self.skip.min(rest.len()));
            self.skip -= left_out.len();
            let (more, after) = kept.split_at((length - self.held.len()).min(kept.len()));
            self.held.reserve_exact(length - self.held.len());
            self.held.extend_from_slice(more);
            rest = after;
            if self.held.len() == length {
                self.give(form, &frame.header, pool, &mut give);
                self.skip = hop.saturating_sub(length);
                self.held.drain(..hop.min(length));
            }
        }
        Loss { unfit: false, broken }
    }

    /// Begins anew; `true` where a window is given up for that.
    fn begin(&mut self, form: Option<Form>) -> bool {
        let broken = !self.held.is_empty();
        (self.form, self.skip) = (form, 0);
        self.held.clear();
        broken
    }

    fn give(&mut self, form: Form, newest: &FrameHeader, pool: &Pool, give: &mut impl FnMut(&Frame)) {
        let length = self.held.len();
        let Some(mut block) = pool.take(length) else { return };
        let Some(room) = block.bytes_mut().and_then(|bytes| bytes.get_mut(..length)) else { return };
        room.copy_from_slice(&self.held);
        self.count += 1;
        let header = FrameHeader {
            seq: self.count,
            kind: Kind::Series,
            format: form.format,
            width: self.window.samples,
            height: 1,
            stride: u32::try_from(length).unwrap_or(u32::MAX),
            channels: form.channels,
            rate_mhz: form.rate_mhz,
            ..*newest
        };
        if let Some(window) = block.frame(header, 0, length) {
            give(&window);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame of these samples, of one channel.
    fn frame(pool: &Pool, seq: u64, samples: &[f32]) -> Frame {
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let mut block = pool.take(bytes.len()).unwrap();
        block.bytes_mut().unwrap()[..bytes.len()].copy_from_slice(&bytes);
        let header = FrameHeader {
            seq,
            kind: Kind::Series,
            format: Format::F32,
            channels: 1,
            captured_mono_ns: seq * 100,
            ..FrameHeader::new("vib", 0)
        };
        block.frame(header, 0, bytes.len()).unwrap()
    }

    fn samples(window: &Frame) -> Vec<f32> {
        window.content().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
    }

    fn cutter(samples: u32, hop: u32) -> Cutter {
        Cutter::new(Window { samples, hop: Some(hop), queue: 1 })
    }

    fn push(cutter: &mut Cutter, frame: &Frame, pool: &Pool) -> (Vec<Frame>, Loss) {
        let mut windows = Vec::new();
        let loss = cutter.push(frame, pool, |window| windows.push(window.clone()));
        (windows, loss)
    }

    #[test]
    fn every_nth_frame_passes_beginning_with_the_first() {
        let mut sieve = Sieve::new(Policy::Sample(Sample::Every(3)));
        let passed: Vec<bool> = (0..7).map(|_| sieve.judge(Duration::ZERO) == Verdict::Passes).collect();
        assert_eq!(passed, [true, false, false, true, false, false, true]);
    }

    #[test]
    fn a_pace_is_kept_and_what_was_missed_is_not_made_up_for() {
        let mut sieve = Sieve::new(Policy::Sample(Sample::PerSecond(10.0)));
        let mut passed = |ms: u64| sieve.judge(Duration::from_millis(ms)) == Verdict::Passes;
        // At 30 frames a second, ten of them.
        assert_eq!((1000..2000).step_by(33).filter(|ms| passed(*ms)).count(), 10);
        assert!(passed(9000));
        assert!(!passed(9099));
        assert!(passed(9100));
        assert!(passed(9205));
        assert!(passed(9300), "a frame that was a little late does not shift those after it");
    }

    #[test]
    fn windows_overlap_or_leave_out_as_the_hop_says() {
        let pool = Pool::new(1 << 20);
        let all: Vec<f32> = (0..10u8).map(f32::from).collect();
        let mut overlapping = cutter(4, 2);
        let (windows, loss) = push(&mut overlapping, &frame(&pool, 1, &all), &pool);
        assert_eq!(windows.iter().map(samples).collect::<Vec<_>>(), [&all[0..4], &all[2..6], &all[4..8], &all[6..10]]);
        assert_eq!(loss, Loss::default());
        assert_eq!(windows.iter().map(|window| window.header.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
        let header = windows[3].header;
        assert_eq!((header.width, header.height, header.stride, header.channels, header.len), (4, 1, 16, 1, 16));
        assert_eq!((header.captured_mono_ns, header.sensor()), (100, "vib"));
        let mut apart = cutter(2, 5);
        let (windows, _) = push(&mut apart, &frame(&pool, 1, &all), &pool);
        assert_eq!(windows.iter().map(samples).collect::<Vec<_>>(), [&all[0..2], &all[5..7]]);
    }

    #[test]
    fn a_gap_or_another_form_gives_up_the_window_at_hand() {
        let pool = Pool::new(1 << 20);
        let mut cutter = cutter(4, 4);
        assert_eq!(push(&mut cutter, &frame(&pool, 1, &[1.0, 2.0]), &pool).1, Loss::default());
        let (windows, loss) = push(&mut cutter, &frame(&pool, 3, &[5.0, 6.0, 7.0, 8.0]), &pool);
        assert_eq!(loss, Loss { unfit: false, broken: true });
        assert_eq!(samples(&windows[0]), [5.0, 6.0, 7.0, 8.0]);
        push(&mut cutter, &frame(&pool, 4, &[1.0]), &pool);
        let mut faster = frame(&pool, 5, &[1.0]);
        faster.header.rate_mhz = 7;
        assert!(push(&mut cutter, &faster, &pool).1.broken);
        let mut image = frame(&pool, 6, &[1.0]);
        image.header.kind = Kind::Image;
        assert_eq!(push(&mut cutter, &image, &pool).1, Loss { unfit: true, broken: true });
        assert_eq!(push(&mut cutter, &image, &pool).1, Loss { unfit: true, broken: false });
    }

    #[test]
    fn what_is_no_whole_sample_or_too_large_a_window_is_unfit() {
        let pool = Pool::new(1 << 20);
        let mut torn = frame(&pool, 1, &[1.0]);
        torn.header.channels = 3;
        assert!(push(&mut cutter(4, 4), &torn, &pool).1.unfit);
        torn.header.channels = u32::MAX;
        assert!(push(&mut cutter(1 << 20, 1), &torn, &pool).1.unfit);
        assert!(push(&mut cutter(1 << 23, 1), &frame(&pool, 1, &[1.0]), &pool).1.unfit);
    }

    #[test]
    fn steady_windows_use_the_same_memory_again() {
        let pool = Pool::new(1 << 20);
        let mut cutter = cutter(64, 32);
        let input = frame(&pool, 1, &[0.0; 48]);
        for seq in 1..1000 {
            let mut input = input.clone();
            input.header.seq = seq;
            cutter.push(&input, &pool, |_| {});
        }
        assert_eq!(pool.made(), 2);
        assert_eq!(cutter.held.capacity(), 64 * 4);
    }

    proptest! {
        #[test]
        fn windows_are_those_of_the_whole_series_however_it_is_cut(
            lengths in proptest::collection::vec(0usize..40, 1..20), window in 1u32..30, hop in 1u32..40,
        ) {
            let pool = Pool::new(1 << 20);
            let mut cutter = cutter(window, hop);
            let (mut all, mut found) = (Vec::new(), Vec::new());
            for (seq, length) in lengths.into_iter().enumerate() {
                let part: Vec<f32> = (all.len()..all.len() + length).map(|sample| sample as f32).collect();
                all.extend(&part);
                let (windows, loss) = push(&mut cutter, &frame(&pool, seq as u64, &part), &pool);
                prop_assert_eq!(loss, Loss::default());
                found.extend(windows.iter().map(samples));
            }
            let starts = (0..all.len()).step_by(hop as usize);
            let expected: Vec<Vec<f32>> =
                starts.filter_map(|start| Some(all.get(start..start + window as usize)?.to_vec())).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
