//! One turn of the machine: the time, chance, and what is decided in it.

use sanderling_protocol::{digest::Digest, reported::EventKind, topics::Published};

use super::{Effect, Now, backoff::Chance, fetch::Asked, refusals::Refusals};

/// What every part of the machine is handed while it decides.
pub(super) struct Turn<'a> {
    pub(super) now: Now,
    pub(super) chance: &'a mut Chance,
    pub(super) refusals: &'a mut Refusals,
    pub(super) effects: &'a mut Vec<Effect>,
}

impl Turn<'_> {
    pub(super) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Lists a refusal, and tells of it if it is new.
    pub(super) fn refuse(&mut self, what: impl Into<String>, digest: Option<Digest>, why: impl ToString) {
        if let Some(refused) = self.refusals.refuse(what, digest, why) {
            self.effects.push(Effect::Tell(EventKind::Refused(refused)));
        }
    }

    /// Carries out what a fetch asks for, and lists what did not come.
    pub(super) fn ask(&mut self, asked: Asked) {
        if !asked.unsubscribe.is_empty() {
            self.effect(Effect::Unsubscribe(asked.unsubscribe));
        }
        if !asked.subscribe.is_empty() {
            self.effect(Effect::Subscribe(asked.subscribe));
        }
        for (what, times) in asked.absent {
            self.absent(&what, times);
        }
    }

    /// Lists what the broker did not send; an event tells of the first time only.
    pub(super) fn absent(&mut self, what: &Published, times: u32) {
        let why = format!("the broker did not send it, asked {times} times; publish the repository again");
        self.lacking(name(what), why, times <= 1);
    }

    /// Lists what is lacking until [`Refusals::came`] is told of it; an event tells of the first time only.
    pub(super) fn lacking(&mut self, what: impl Into<String>, why: String, first: bool) {
        let noted = self.refusals.missing(what, why);
        if let Some(refused) = noted.filter(|_| first) {
            self.effects.push(Effect::Tell(EventKind::Refused(refused)));
        }
    }
}

/// The topic without its prefix.
pub(super) fn name(what: &Published) -> String {
    match what {
        Published::Timestamp => "repo/timestamp".into(),
        Published::Metadata { version, role } => format!("repo/{version}.{role}"),
        Published::Index(digest) => format!("blob/{digest}"),
        Published::Chunk(digest) => format!("chunk/{digest}"),
    }
}
