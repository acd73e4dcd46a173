//! How far a pull is, for tests.

use sanderling_protocol::digest::Digest;

use super::{Pull, State, Wanted};

impl Pull {
    /// How far a blob is, in a word.
    pub(in crate::sync) fn phase(&self, blob: &Digest) -> &'static str {
        let is_writing = |wanted: &Wanted| wanted.writing > 0 && wanted.places.iter().any(|(of, _)| of == blob);
        match self.blobs.get(blob).map(|blob| &blob.state) {
            _ if self.surveying => "surveying",
            Some(State::Index) => "index",
            Some(State::Beginning(_)) => "beginning",
            Some(State::Filling { .. }) if self.chunks.values().any(is_writing) => "writing",
            Some(State::Filling { .. }) => "filling",
            Some(State::Finishing) => "finishing",
            Some(State::Failed { .. }) => "failed",
            Some(State::Whole) => "whole",
            None => "unwanted",
        }
    }

    /// The number of the last survey.
    pub(in crate::sync) fn survey(&self) -> u64 {
        self.survey
    }
}
