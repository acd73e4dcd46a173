//! What is done where a pull does not come on: a blob is started over, with the index that the broker has then.

use sanderling_protocol::{digest::Digest, topics::Published};

use super::{Pull, State};
use crate::sync::turn::{Turn, name};

/// A chunk that came wrong or not at all so many times in a row casts doubt on the indexes that list it.
const DOUBTED_AFTER: u32 = 3;

impl Pull {
    /// A chunk came wrong or not at all, that many times in a row: the index that lists it may be the lie.
    pub(super) fn doubt(&mut self, chunk: Digest, times: u32, turn: &mut Turn<'_>) {
        if times < DOUBTED_AFTER {
            return;
        }
        let Some(wanted) = self.chunks.get(&chunk).filter(|wanted| wanted.writing == 0) else { return };
        let mut doubted: Vec<Digest> = wanted.places.iter().map(|(blob, _)| *blob).collect();
        doubted.sort_unstable();
        doubted.dedup();
        for blob in doubted {
            self.fail(
                blob,
                format!("its {} did not come right; the index is asked for again", name(&Published::Chunk(chunk))),
                turn,
            );
        }
    }

    /// Starts a blob over, later.
    pub(super) fn fail(&mut self, digest: Digest, why: impl ToString, turn: &mut Turn<'_>) {
        let Some(blob) = self.blobs.get_mut(&digest) else { return };
        blob.failures = blob.failures.saturating_add(1);
        let wait = self.backoff.wait_ms(blob.failures, turn.chance);
        blob.state = State::Failed { again_at: turn.now.ms.saturating_add(wait) };
        self.fetch.forget(&Published::Index(digest));
        self.let_go(digest);
        turn.refuse(name(&Published::Index(digest)), Some(digest), why);
    }

    /// Asks for the chunks of a blob no more, but for those that are being written or that another blob wants.
    pub(super) fn let_go(&mut self, digest: Digest) {
        self.chunks.retain(|chunk, wanted| {
            wanted.places.retain(|(blob, _)| *blob != digest || wanted.writing > 0);
            let needed = !wanted.places.is_empty();
            if !needed {
                self.fetch.forget(&Published::Chunk(*chunk));
            }
            needed
        });
    }
}
