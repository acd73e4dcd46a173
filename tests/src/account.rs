//! Holds a module to account for every frame: handled exactly once, or dropped and counted.
//!
//! The guests of [`crate::guests::counts`] emit for each frame its number and how many frames the host says it dropped before
//! it. So a frame that is missing without having been counted shows, whichever worker of whichever version lost it.

use sanderling_protocol::topics::DeviceId;

use crate::{Seen, guests::TICKS};

/// A frame that a guest of [`crate::guests::counts`] has handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Handled {
    /// The frame's number, counted by the sensor.
    pub seq: u64,
    /// Which guest it was.
    pub tag: u8,
    /// Frames that the host dropped before this one.
    pub dropped: u32,
}

/// What became of the frames of a sensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Frames that were handled.
    pub handled: u64,
    /// Frames that were dropped and counted.
    pub dropped: u64,
}

impl Handled {
    fn read(payload: &[u8]) -> Self {
        let seq = payload.get(..8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        let dropped = payload.get(17..21).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
        let (Some(seq), Some(&tag), Some(dropped)) = (seq, payload.get(16), dropped) else {
            panic!("not what a counting guest emits: {payload:?}")
        };
        Self { seq, tag, dropped }
    }
}

impl Seen<'_> {
    /// The frames that a module has handled, in the order in which it said so.
    pub fn handled(self, device: &DeviceId, module: &str) -> Vec<Handled> {
        self.of(device, &format!("data/{module}/{TICKS}")).map(|message| Handled::read(&message.payload)).collect()
    }
}

impl Account {
    /// Goes through all frames from the first to the last that a module has handled.
    ///
    /// # Errors
    /// The first frame that was handled twice, or is missing and was not counted as dropped.
    pub fn of(handled: &[Handled]) -> Result<Self, String> {
        let mut frames = handled.to_vec();
        frames.sort_unstable();
        let mut account = Self { handled: frames.len() as u64, dropped: 0 };
        for pair in frames.windows(2) {
            let &[before, frame] = pair else { continue };
            if before.seq == frame.seq {
                return Err(format!("frame {} was handled twice: {before:?}, {frame:?}", frame.seq));
            }
            let missing = frame.seq - before.seq - 1;
            if missing != u64::from(frame.dropped) {
                return Err(format!("{missing} frames are missing between {before:?} and {frame:?}"));
            }
            account.dropped += missing;
        }
        Ok(account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(seq: u64, dropped: u32) -> Handled {
        Handled { seq, tag: b'a', dropped }
    }

    #[test]
    fn every_frame_is_handled_once_or_counted() {
        let good = [frame(7, 3), frame(9, 0), frame(8, 0), frame(12, 2)];
        assert_eq!(Account::of(&good), Ok(Account { handled: 4, dropped: 2 }));
        assert!(Account::of(&[frame(7, 0), frame(7, 0)]).unwrap_err().contains("twice"));
        assert!(Account::of(&[frame(7, 0), frame(9, 0)]).unwrap_err().contains("1 frames are missing"));
        assert!(Account::of(&[frame(7, 0), frame(8, 1)]).is_err(), "nor is one counted that was not dropped");
    }
}
