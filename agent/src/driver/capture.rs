//! `capture`: the next frame of a sensor, as it was delivered, in pieces.
//!
//! Invariants: no frame is copied or held unless somebody asks; one captured frame is kept for a minute, so that its other pieces can be
//! asked for; a few may wait for sensors at a time.

use std::time::Duration;

use sanderling_guest::frame::{Format, Kind};
use sanderling_protocol::{
    capsule::{PIECE, Piece},
    command::{Answer, CaptureRequest, Captured},
};

use super::{
    Driver,
    capsules::{Asked, answer, refusal},
};
use crate::frames::Frame;

/// A captured frame is kept for this time.
const KEPT: Duration = Duration::from_secs(60);
/// A frame is waited for so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many may wait.
const WAITING: usize = 8;

/// Frames that are asked for and that were captured.
#[derive(Default)]
pub(super) struct Captures {
    kept: Option<(String, Frame, Duration)>,
    waiting: Vec<(String, Asked, Duration)>,
}

impl Captures {
    /// When something of it is over.
    pub(super) fn due_at(&self) -> Option<Duration> {
        let kept = self.kept.as_ref().map(|(.., until)| *until);
        self.waiting.iter().map(|(.., until)| *until).chain(kept).min()
    }
}

impl Driver {
    /// Answers a piece of a frame that was captured, or waits for the next frame.
    pub(super) fn capture(&mut self, request: &CaptureRequest, asked: Asked) -> Option<Answer> {
        let now = self.mono();
        if let Some(seq) = request.seq {
            let kept = self.captures.kept.as_ref();
            let kept = kept.filter(|(sensor, frame, _)| *sensor == request.sensor && frame.header.seq == seq);
            return Some(match kept {
                Some((_, frame, _)) => piece(frame, request.offset),
                None => refusal("that frame is no longer kept; capture another"),
            });
        }
        if !self.settings.sensors.contains_key(&request.sensor) {
            let known: Vec<&str> = self.settings.sensors.keys().map(String::as_str).collect();
            return Some(refusal(format!("there is no sensor {:?}; there are: {}", request.sensor, known.join(", "))));
        }
        if self.captures.waiting.len() >= WAITING {
            return Some(refusal("too many captures wait already; ask again"));
        }
        self.works.router().tap(&request.sensor);
        self.captures.waiting.push((request.sensor.clone(), asked, now + PATIENCE));
        None
    }

    /// Gives what was captured to those who wait for it, and turns those away who waited too long.
    pub(super) fn settle_captures(&mut self) {
        let now = self.mono();
        for (sensor, frame) in self.works.router().tapped() {
            let (served, waiting) =
                std::mem::take(&mut self.captures.waiting).into_iter().partition(|(wanted, ..)| *wanted == sensor);
            self.captures.waiting = waiting;
            self.reply_all(served, &piece(&frame, 0));
            self.captures.kept = Some((sensor, frame, now + KEPT));
        }
        if self.captures.kept.as_ref().is_some_and(|(.., until)| *until <= now) {
            self.captures.kept = None;
        }
        let (late, waiting) =
            std::mem::take(&mut self.captures.waiting).into_iter().partition(|(.., until)| *until <= now);
        self.captures.waiting = waiting;
        let why =
            format!("the sensor gave no frame within {} s; see its error in the reported state", PATIENCE.as_secs());
        self.reply_all(late, &refusal(why));
    }

    fn reply_all(&self, waited: Vec<(String, Asked, Duration)>, answer: &Answer) {
        for response in waited.into_iter().filter_map(|(_, asked, _)| asked) {
            self.answer(&response, answer);
        }
    }
}

fn piece(frame: &Frame, offset: u64) -> Answer {
    let (header, content) = (&frame.header, frame.content());
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
    let rest = content.get(from..).unwrap_or_default();
    let bytes = rest.get(..PIECE).unwrap_or(rest);
    let total = u64::try_from(content.len()).unwrap_or(u64::MAX);
    answer(&Captured {
        seq: header.seq,
        captured_unix_ns: header.captured_unix_ns,
        format: format(header.kind, header.format).to_owned(),
        width: header.width,
        height: header.height,
        stride: header.stride,
        piece: Piece::of(bytes, u64::try_from(from).unwrap_or(u64::MAX), total),
    })
}

fn format(kind: Kind, format: Format) -> &'static str {
    match (kind, format) {
        (Kind::Json, _) => "json",
        (_, Format::Gray8) => "gray8",
        (_, Format::Rgb8) => "rgb8",
        (_, Format::Bgr8) => "bgr8",
        (_, Format::Yuyv) => "yuyv",
        (_, Format::Nv12) => "nv12",
        (_, Format::Gray16) => "gray16",
        (_, Format::Jpeg) => "jpeg",
        (_, Format::Png) => "png",
        (_, Format::F32) => "f32",
        (_, Format::I16) => "i16",
        (_, Format::I32) => "i32",
        _ => "bytes",
    }
}
