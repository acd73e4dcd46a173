//! What a guest says during a local run: kept until the frame is over, counted to the end.
//!
//! Invariants: what is kept between two calls of [`Heard::take`] stays below [`MOST`] bytes, since a guest may emit far more
//! within its limits than a terminal is for; what is not kept is counted all the same.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sanderling_runtime::Output;

/// Records and lines of one frame that are kept, in bytes.
const MOST: usize = 8 << 20;
/// What a kept record or line is counted with besides its bytes.
const EACH: usize = 64;

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its channel.
    pub(crate) channel: String,
    /// What the guest emitted.
    pub(crate) payload: Vec<u8>,
}

/// What was said since the last call of [`Heard::take`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// Records, in order.
    pub(crate) records: Vec<Record>,
    /// Lines with their level, in order.
    pub(crate) lines: Vec<(u8, String)>,
    /// Records and lines that were not kept.
    pub(crate) left_out: u64,
    kept: usize,
}

#[derive(Debug, Default)]
struct Inner {
    said: Said,
    by_channel: BTreeMap<String, u64>,
}

/// The output port of a local run. Clones share what they hear.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(Arc<Mutex<Inner>>);

impl Heard {
    /// Takes what was said since the last call.
    pub(crate) fn take(&self) -> Said {
        std::mem::take(&mut self.lock().said)
    }

    /// Records by channel, all of them.
    pub(crate) fn by_channel(&self) -> BTreeMap<String, u64> {
        self.lock().by_channel.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Said {
    fn has_room(&mut self, bytes: usize) -> bool {
        let kept = self.kept.saturating_add(bytes).saturating_add(EACH);
        let fits = kept <= MOST;
        if fits {
            self.kept = kept;
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
        fits
    }
}

impl Output for Heard {
    fn emit(&mut self, _seq: u64, channel: &str, payload: &[u8]) {
        let Inner { said, by_channel } = &mut *self.lock();
        match by_channel.get_mut(channel) {
            Some(count) => *count = count.saturating_add(1),
            None => _ = by_channel.insert(channel.to_owned(), 1),
        }
        if said.has_room(payload.len()) {
            said.records.push(Record { channel: channel.to_owned(), payload: payload.to_vec() });
        }
    }

    fn log(&mut self, level: u8, text: &str) {
        let said = &mut self.lock().said;
        if said.has_room(text.len()) {
            said.lines.push((level, text.to_owned()));
        }
    }

    // The host counts refusals; the summary takes them from there.
    fn denied(&mut self, _function: &'static str) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_was_said_since_the_last_look() {
        let heard = Heard::default();
        let mut port: Box<dyn Output> = Box::new(heard.clone());
        port.emit(1, "a", b"1");
        port.log(1, "hot");
        let said = heard.take();
        assert_eq!(said.records, [Record { channel: "a".into(), payload: b"1".into() }]);
        assert_eq!((said.lines, said.left_out), (vec![(1, "hot".to_owned())], 0));
        assert_eq!(heard.take(), Said::default());
    }

    #[test]
    fn counts_what_it_has_no_room_for() {
        let mut heard = Heard::default();
        let record = [0; 64 << 10];
        let emitted = 2 * MOST / record.len();
        for _ in 0..emitted {
            heard.emit(1, "a", &record);
        }
        let said = heard.take();
        assert!(said.records.len() < emitted && said.kept <= MOST);
        assert_eq!(said.records.len() as u64 + said.left_out, emitted as u64);
        assert_eq!(heard.by_channel().get("a"), Some(&(emitted as u64)));
    }
}
