//! `capture`: the next frame of a sensor, as it was delivered, in pieces; or a capsule of what a module makes of its next frame.
//!
//! Invariants: no frame is copied or held unless somebody asks; one captured frame is kept for a minute, so that its other pieces can be
//! asked for; a few may wait for sensors and modules at a time.

use std::time::Duration;

use sanderling_guest::frame::{Format, Kind};
use sanderling_protocol::{
    capsule::{PIECE, Piece},
    command::{Answer, CaptureRequest, Captured, FrameRequest, KeptCapsule, ModuleRequest},
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
    waiting: Vec<Waiting>,
}

/// Somebody waits for a capture, until some time.
struct Waiting {
    of: Source,
    asked: Asked,
    until: Duration,
}

/// What a capture is of.
#[derive(PartialEq, Eq)]
enum Source {
    Sensor(String),
    Module(String),
}

impl Source {
    /// Why nothing came.
    fn silence(&self) -> String {
        let patience = PATIENCE.as_secs();
        match self {
            Self::Sensor(_) => {
                format!("the sensor gave no frame within {patience} s; see its error in the reported state")
            }
            Self::Module(name) => {
                format!(
                    "module {name:?} handled no frame within {patience} s; the capsule is kept when it does (see `sanderling capsule list`)"
                )
            }
        }
    }
}

impl Captures {
    /// When something of it is over.
    pub(super) fn due_at(&self) -> Option<Duration> {
        let kept = self.kept.as_ref().map(|(.., until)| *until);
        self.waiting.iter().map(|waiting| waiting.until).chain(kept).min()
    }
}

impl Driver {
    /// Answers a piece of a frame that was captured, or waits for the next frame of a sensor or a module.
    pub(super) fn capture(&mut self, request: &CaptureRequest, asked: Asked) -> Option<Answer> {
        match request {
            CaptureRequest::Frame(request) => self.capture_frame(request, asked),
            CaptureRequest::Module(ModuleRequest { module }) => self.capture_module(module, asked),
        }
    }

    fn capture_frame(&mut self, request: &FrameRequest, asked: Asked) -> Option<Answer> {
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
        let refused = self.wait_for(Source::Sensor(request.sensor.clone()), asked);
        if refused.is_none() {
            self.works.router().tap(&request.sensor);
        }
        refused
    }

    fn capture_module(&mut self, module: &str, asked: Asked) -> Option<Answer> {
        if let Err(why) = self.works.capture(self.sync.generation(), module) {
            return Some(refusal(why));
        }
        self.wait_for(Source::Module(module.to_owned()), asked)
    }

    /// Waits; `Some` where too many do.
    fn wait_for(&mut self, of: Source, asked: Asked) -> Option<Answer> {
        if self.captures.waiting.len() >= WAITING {
            return Some(refusal("too many captures wait already; ask again"));
        }
        self.captures.waiting.push(Waiting { of, asked, until: self.mono() + PATIENCE });
        None
    }

    /// What a module made of a frame was kept, or not.
    pub(super) fn module_captured(&mut self, module: &str, kept: Result<KeptCapsule, String>) {
        let answer = match kept {
            Ok(kept) => answer(&kept),
            Err(why) => refusal(why),
        };
        self.reply(&Source::Module(module.to_owned()), &answer);
    }

    /// Gives what was captured to those who wait for it, and turns those away who waited too long.
    pub(super) fn settle_captures(&mut self) {
        let now = self.mono();
        for (sensor, frame) in self.works.router().tapped() {
            self.reply(&Source::Sensor(sensor.clone()), &piece(&frame, 0));
            self.captures.kept = Some((sensor, frame, now + KEPT));
        }
        if self.captures.kept.as_ref().is_some_and(|(.., until)| *until <= now) {
            self.captures.kept = None;
        }
        for late in self.take_waiting(|waiting| waiting.until <= now) {
            self.answer_asked(late.asked, &refusal(late.of.silence()));
        }
    }

    /// Answers all who wait for this.
    fn reply(&mut self, of: &Source, answer: &Answer) {
        for served in self.take_waiting(|waiting| waiting.of == *of) {
            self.answer_asked(served.asked, answer);
        }
    }

    fn take_waiting(&mut self, which: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let (taken, waiting) = std::mem::take(&mut self.captures.waiting).into_iter().partition(which);
        self.captures.waiting = waiting;
        taken
    }

    fn answer_asked(&self, asked: Asked, answer: &Answer) {
        if let Some(response) = asked {
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
