//! Asks the broker for retained messages, a window of bytes at a time, until each has come.
//!
//! To ask is to subscribe: the broker then sends the retained message of that topic. What has come is unsubscribed.
//! A message that does not come, or comes wrong, is asked for again after a growing wait, for ever, and is reported.
//!
//! Invariants: what is asked for and not yet done with is never more than the window, but for a single message that is
//! larger than it. Nothing is asked for while the link is down; at link up everything is asked for again.
//!
//! The broker bounds what it has under way with one client, and drops what its queue has no room for; it announces the first
//! of these bounds when the link comes up, and no more messages than that are asked for at once.
//!
//! A message is taken as absent when nothing at all came for [`Limits::stall_ms`] — so a slow link is not punished with
//! questions asked twice — or when messages asked for after it came and it still had not after [`Limits::overtaken_ms`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sanderling_protocol::topics::Published;

use super::backoff::{Backoff, Chance};

/// What bounds the asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The bytes that may be on their way at once.
    pub window: u64,
    /// The messages that may be on their way at once. Brokers queue a bounded number for a client, and drop the rest.
    pub messages: usize,
    /// Silence after which all that was asked for is taken as lost, in milliseconds.
    pub stall_ms: u64,
    /// How long a message may come later than one that was asked for after it, in milliseconds.
    pub overtaken_ms: u64,
    /// The waits between questions.
    pub backoff: Backoff,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window: 512 * 1024,
            messages: 100,
            stall_ms: 20_000,
            overtaken_ms: 5_000,
            backoff: Backoff { first_ms: 1_000, longest_ms: 300_000 },
        }
    }
}

/// What a [`Fetch`] wants done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Subscribe to these, in one packet.
    pub subscribe: Vec<Published>,
    /// Unsubscribe from these, in one packet.
    pub unsubscribe: Vec<Published>,
    /// These did not come, that many times in a row.
    pub absent: Vec<(Published, u32)>,
}

#[derive(Clone, Debug)]
struct Want {
    what: Published,
    bytes: u64,
    failures: u32,
}

#[derive(Clone, Debug)]
struct Outstanding {
    bytes: u64,
    failures: u32,
    /// Its place in the order of asking.
    place: u64,
    /// When a message asked for later came first.
    overtaken_at: Option<u64>,
    /// It came and is being dealt with: it still fills the window, but is not awaited.
    arrived: bool,
}

/// Messages that are wanted, asked for, and waiting to be asked for again.
#[derive(Clone, Debug)]
pub(super) struct Fetch {
    limits: Limits,
    /// The messages that may be on their way at once, with this broker.
    messages: usize,
    up: bool,
    queue: VecDeque<Want>,
    /// What is in the queue, or waits to be asked for again.
    unasked: BTreeSet<Published>,
    outstanding: BTreeMap<Published, Outstanding>,
    waiting: Vec<(u64, Want)>,
    unsubscribe: Vec<Published>,
    place: u64,
    heard_at: u64,
}

impl Fetch {
    /// Nothing is wanted, and the link is down.
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            messages: limits.messages,
            up: false,
            queue: VecDeque::new(),
            unasked: BTreeSet::new(),
            outstanding: BTreeMap::new(),
            waiting: Vec::new(),
            unsubscribe: Vec::new(),
            place: 0,
            heard_at: 0,
        }
    }

    /// Wants a message of about this many bytes. Wanting it twice is wanting it once.
    pub(super) fn want(&mut self, what: Published, bytes: u64) {
        if !self.outstanding.contains_key(&what) && self.unasked.insert(what.clone()) {
            self.queue.push_back(Want { what, bytes, failures: 0 });
        }
    }

    /// Whether the message is still wanted.
    #[cfg(test)]
    pub(super) fn wants(&self, what: &Published) -> bool {
        self.outstanding.contains_key(what) || self.unasked.contains(what)
    }

    /// Whether nothing is wanted.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.outstanding.is_empty() && self.unasked.is_empty()
    }

    /// A message came. Says whether it was asked for; one that was not is to be ignored.
    ///
    /// It goes on filling the window until [`Fetch::done`] or [`Fetch::again`].
    pub(super) fn arrived(&mut self, what: &Published, now_ms: u64) -> bool {
        let Some(place) = self.outstanding.get(what).filter(|one| !one.arrived).map(|one| one.place) else {
            return false;
        };
        self.heard_at = now_ms;
        self.unsubscribe.push(what.clone());
        for (other, one) in &mut self.outstanding {
            if other == what {
                one.arrived = true;
            } else if one.place < place && one.overtaken_at.is_none() {
                one.overtaken_at = Some(now_ms);
            }
        }
        true
    }

    /// The message was taken in.
    pub(super) fn done(&mut self, what: &Published) {
        self.outstanding.remove(what);
    }

    /// The message was wrong: asks again later. Gives the number of failures in a row.
    pub(super) fn again(&mut self, what: &Published, now_ms: u64, chance: &mut Chance) -> u32 {
        let Some(one) = self.outstanding.remove(what) else { return 0 };
        let failures = one.failures.saturating_add(1);
        let at = now_ms.saturating_add(self.limits.backoff.wait_ms(failures, chance));
        self.unasked.insert(what.clone());
        self.waiting.push((at, Want { what: what.clone(), bytes: one.bytes, failures }));
        failures
    }

    /// Does not want this message any more.
    pub(super) fn forget(&mut self, what: &Published) {
        if self.unasked.remove(what) {
            self.queue.retain(|want| want.what != *what);
            self.waiting.retain(|(_, want)| want.what != *what);
        }
        if self.outstanding.remove(what).is_some_and(|one| !one.arrived) {
            self.unsubscribe.push(what.clone());
        }
    }

    /// Wants nothing any more.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.waiting.clear();
        self.unasked.clear();
        let open = std::mem::take(&mut self.outstanding);
        self.unsubscribe.extend(open.into_iter().filter(|(_, one)| !one.arrived).map(|(what, _)| what));
    }

    /// The link is up, without any subscription, to a broker that has at most so many messages under way with a client.
    pub(super) fn link_up(&mut self, messages: u16, now_ms: u64) {
        self.up = true;
        self.messages = self.limits.messages.min(usize::from(messages)).max(1);
        self.heard_at = now_ms;
        let waiting = self.waiting.drain(..).map(|(_, want)| want);
        self.queue.extend(waiting);
    }

    /// The link is down: what was on its way will not come. Gives the topics that the link is to forget.
    pub(super) fn link_down(&mut self) -> Vec<Published> {
        self.up = false;
        let mut forget = std::mem::take(&mut self.unsubscribe);
        let mut lost: Vec<_> = self.outstanding.extract_if(.., |_, one| !one.arrived).collect();
        lost.sort_by_key(|(_, one)| one.place);
        for (what, one) in lost.into_iter().rev() {
            forget.push(what.clone());
            self.unasked.insert(what.clone());
            self.queue.push_front(Want { what, bytes: one.bytes, failures: one.failures });
        }
        forget
    }

    /// What there is to do now.
    pub(super) fn poll(&mut self, now_ms: u64, chance: &mut Chance) -> Asked {
        let mut asked = Asked::default();
        if !self.up {
            return asked;
        }
        self.give_up_late(now_ms, chance, &mut asked);
        let due = self.waiting.extract_if(.., |(at, _)| *at <= now_ms);
        self.queue.extend(due.map(|(_, want)| want));
        self.fill(now_ms, &mut asked);
        if asked.subscribe.is_empty() && self.unsubscribe.len() < 32 && !self.outstanding.is_empty() {
            // The next SUBSCRIBE is near: the UNSUBSCRIBE goes out with it.
            return asked;
        }
        asked.unsubscribe = std::mem::take(&mut self.unsubscribe);
        asked.unsubscribe.retain(|what| !asked.subscribe.contains(what));
        asked
    }

    /// When [`Fetch::poll`] is to be called again though nothing happened, in milliseconds of the same clock.
    pub(super) fn wake_at(&self) -> Option<u64> {
        if !self.up {
            return None;
        }
        let retry = self.waiting.iter().map(|(at, _)| *at);
        let awaited = || self.outstanding.values().filter(|one| !one.arrived);
        let overtaken =
            awaited().filter_map(|one| one.overtaken_at).map(|at| at.saturating_add(self.limits.overtaken_ms));
        let stall = awaited().next().map(|_| self.heard_at.saturating_add(self.limits.stall_ms));
        retry.chain(overtaken).chain(stall).min()
    }

    fn give_up_late(&mut self, now_ms: u64, chance: &mut Chance, asked: &mut Asked) {
        let stalled = now_ms >= self.heard_at.saturating_add(self.limits.stall_ms);
        let overtaken = |at: u64| now_ms >= at.saturating_add(self.limits.overtaken_ms);
        let late: Vec<Published> = self
            .outstanding
            .iter()
            .filter(|(_, one)| !one.arrived && (stalled || one.overtaken_at.is_some_and(overtaken)))
            .map(|(what, _)| what.clone())
            .collect();
        for what in late {
            let failures = self.again(&what, now_ms, chance);
            self.unsubscribe.push(what.clone());
            asked.absent.push((what, failures));
        }
    }

    /// Asks for the next ones. Waits until a quarter of the window is free, so that topics go out in batches.
    fn fill(&mut self, now_ms: u64, asked: &mut Asked) {
        let mut used: u64 = self.outstanding.values().map(|one| one.bytes).sum();
        let mut count = self.outstanding.len();
        let crowded = used > self.limits.window - self.limits.window / 4 || count > self.messages * 3 / 4;
        if crowded && count > 0 {
            return;
        }
        if self.outstanding.values().all(|one| one.arrived) {
            self.heard_at = now_ms;
        }
        while let Some(want) = self.queue.front() {
            let fits = used.saturating_add(want.bytes) <= self.limits.window && count < self.messages;
            if !fits && count > 0 {
                break;
            }
            let Some(want) = self.queue.pop_front() else { break };
            self.unasked.remove(&want.what);
            used = used.saturating_add(want.bytes);
            count += 1;
            self.place += 1;
            let one = Outstanding {
                bytes: want.bytes,
                failures: want.failures,
                place: self.place,
                overtaken_at: None,
                arrived: false,
            };
            asked.subscribe.push(want.what.clone());
            self.outstanding.insert(want.what, one);
        }
    }
}

#[cfg(test)]
mod tests;
