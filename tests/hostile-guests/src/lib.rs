//! Guests that try to break out, to take too much or never to end, and models that do the same: each with what must become of it.
//!
//! Purpose: the tests of this crate run each guest twice, in the runtime as a library and in a real confined worker under the agent's
//! supervisor, and hold it to its [`Outcome`]; from that they make the table `docs/hostile-guests.md`.
//!
//! Where a guest comes from: [`files`] are texts in `guests/`, which say themselves what they try and how they must end; [`bombs`] are
//! binaries that no text would show; [`models`] are ONNX files, written by hand; [`edges`] has a guest for each host function there is,
//! which calls it with everything that it does not expect.
//!
//! Failure modes: a guest that is written wrongly is a panic that names it.

#![deny(missing_docs)]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a harness: whatever is not as it should be fails the test")]

pub mod binary;
pub mod bombs;
pub mod edges;
pub mod files;
pub mod models;
pub mod onnx;
mod outcome;
pub mod signatures;

pub use outcome::Outcome;
use sanderling_guest::frame::{Format, FrameHeader, Kind};
use sanderling_protocol::deployment::Limits;

/// The side of the image that every guest is given, in pixels.
pub const SIDE: u32 = 8;
/// The name under which a guest finds its model.
pub const MODEL: &str = "m";
/// The channel that guests may emit on.
pub const CHANNEL: &str = "out";

/// A guest, and what must become of it.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Its name in the table.
    pub name: String,
    /// What it tries, a sentence.
    pub tries: String,
    /// Its module.
    pub module: Vec<u8>,
    /// Its model, where it has one.
    pub model: Option<Vec<u8>>,
    /// What it may use.
    pub limits: Limits,
    /// What it may do.
    pub grants: Vec<String>,
    /// What must become of it.
    pub end: Outcome,
    /// What its calls must have answered, for those of [`edges`].
    pub answers: Vec<edges::Call>,
}

/// What every guest may use that does not say otherwise: more fuel than time.
pub fn limits() -> Limits {
    Limits { deadline_ms: 100, fuel_per_frame: 1 << 40, ..Limits::default() }
}

impl Guest {
    /// A guest with a module alone, within the usual limits.
    pub fn new(name: &str, tries: &str, module: Vec<u8>, end: &str) -> Self {
        Self {
            name: name.to_owned(),
            tries: tries.to_owned(),
            module,
            model: None,
            limits: limits(),
            grants: Vec::new(),
            end: end.parse().unwrap_or_else(|error| panic!("{name}: {error}")),
            answers: Vec::new(),
        }
    }
}

/// The whole corpus, in the order of the table.
pub fn corpus() -> Vec<Guest> {
    let parts = [files::guests(), bombs::guests(), models::guests(), edges::guests()];
    parts.into_iter().flatten().collect()
}

/// The frame that every guest is given: a small gray image.
pub fn frame(seq: u64) -> (FrameHeader, Vec<u8>) {
    let pixels: Vec<u8> = (0..SIDE * SIDE).map(|pixel| (pixel % 251) as u8).collect();
    let header = FrameHeader {
        seq,
        kind: Kind::Image,
        format: Format::Gray8,
        width: SIDE,
        height: SIDE,
        stride: SIDE,
        ..FrameHeader::new("victim", SIDE * SIDE)
    };
    (header, pixels)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_guest_has_a_name_of_its_own_and_says_what_it_tries() {
        let corpus = corpus();
        let names: BTreeSet<&str> = corpus.iter().map(|guest| guest.name.as_str()).collect();
        assert_eq!(names.len(), corpus.len());
        assert!(corpus.len() >= 150, "{}", corpus.len());
        assert!(corpus.iter().all(|guest| guest.tries.ends_with('.') && !guest.tries.contains('|')));
    }
}
