//! What the caller's side and the connection's side of a link share: subscriptions and what waits to be sent.
//!
//! Invariant: no lock is held across an await; nothing here grows past the bounds of the parent module.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{LinkRefusal, MAX_PACKET, MAX_TOPICS, MAX_WAITING, Publish};

/// At most this many topics go into one SUBSCRIBE or UNSUBSCRIBE.
pub(super) const TOPICS_PER_PACKET: usize = 64;
/// What topic, properties and header of a PUBLISH take at most beside what is counted, in bytes.
const HEADER: usize = 64;

/// One SUBSCRIBE or UNSUBSCRIBE, not sent yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Control {
    Subscribe(Vec<String>),
    Unsubscribe(Vec<String>),
}

impl Control {
    fn topics_mut(&mut self) -> &mut Vec<String> {
        match self {
            Self::Subscribe(topics) | Self::Unsubscribe(topics) => topics,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    up: bool,
    closing: bool,
    topics: BTreeSet<String>,
    controls: VecDeque<Control>,
    publishes: VecDeque<Publish>,
}

/// The state of a link that both its sides see.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Woken when there is something to send, or the link is to close.
    pub(super) work: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn subscribe(&self, topics: Vec<String>) -> Result<(), LinkRefusal> {
        let mut state = self.lock();
        let new = topics.iter().collect::<BTreeSet<_>>().into_iter().filter(|topic| !state.topics.contains(*topic));
        if state.topics.len() + new.count() > MAX_TOPICS {
            return Err(LinkRefusal::TooManyTopics);
        }
        state.topics.extend(topics.iter().cloned());
        if state.up {
            queue(&mut state.controls, topics, true);
            drop(state);
            self.work.notify_one();
        }
        Ok(())
    }

    pub(super) fn unsubscribe(&self, topics: &[String]) {
        let mut state = self.lock();
        let known: Vec<String> = topics.iter().filter(|topic| state.topics.remove(*topic)).cloned().collect();
        if state.up && !known.is_empty() {
            queue(&mut state.controls, known, false);
            drop(state);
            self.work.notify_one();
        }
    }

    pub(super) fn publish(&self, publish: Publish) -> Result<(), LinkRefusal> {
        let length = publish
            .topic
            .len()
            .saturating_add(publish.payload.len())
            .saturating_add(publish.correlation.as_ref().map_or(0, bytes::Bytes::len))
            .saturating_add(HEADER);
        if length > usize::try_from(MAX_PACKET).unwrap_or(usize::MAX) {
            return Err(LinkRefusal::TooLong { length });
        }
        let mut state = self.lock();
        if !state.up {
            return Err(LinkRefusal::Down);
        }
        if state.publishes.len() >= MAX_WAITING {
            return Err(LinkRefusal::Busy);
        }
        state.publishes.push_back(publish);
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    pub(super) fn room(&self) -> usize {
        let state = self.lock();
        if state.up { MAX_WAITING - state.publishes.len() } else { 0 }
    }

    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.work.notify_one();
    }

    pub(super) fn closing(&self) -> bool {
        self.lock().closing
    }

    /// A connection stands: everything is to be subscribed. False where nothing is.
    pub(super) fn up(&self) -> bool {
        let mut state = self.lock();
        let topics = state.topics.iter().cloned().collect();
        state.controls.clear();
        queue(&mut state.controls, topics, true);
        state.up = true;
        !state.controls.is_empty()
    }

    /// The connection is gone, and with it what waited for it.
    pub(super) fn down(&self) {
        let mut state = self.lock();
        state.up = false;
        state.controls.clear();
        state.publishes.clear();
    }

    /// A refused topic is not asked for again on this connection; it stays known for the next.
    pub(super) fn next_control(&self, may_subscribe: bool) -> Option<Control> {
        let mut state = self.lock();
        if matches!(state.controls.front(), Some(Control::Subscribe(_))) && !may_subscribe {
            return None;
        }
        state.controls.pop_front()
    }

    pub(super) fn next_publish(&self) -> Option<Publish> {
        self.lock().publishes.pop_front()
    }
}

/// Appends to the last packet that waits, if it is of the same kind, so that many small calls make few packets.
fn queue(controls: &mut VecDeque<Control>, topics: Vec<String>, subscribe: bool) {
    for topic in topics {
        let last = controls.back_mut().filter(|last| matches!(last, Control::Subscribe(_)) == subscribe);
        match last.map(Control::topics_mut) {
            Some(topics) if topics.len() < TOPICS_PER_PACKET => {
                if !topics.contains(&topic) {
                    topics.push(topic);
                }
            }
            _ if subscribe => controls.push_back(Control::Subscribe(vec![topic])),
            _ => controls.push_back(Control::Unsubscribe(vec![topic])),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn topics(names: std::ops::Range<usize>) -> Vec<String> {
        names.map(|n| format!("t/{n:04}")).collect()
    }

    #[test]
    fn topics_asked_for_one_by_one_join_in_one_packet() {
        let shared = Shared::default();
        shared.up();
        for topic in topics(0..100) {
            shared.subscribe(vec![topic]).unwrap();
        }
        assert_eq!(shared.next_control(false), None);
        assert_eq!(shared.next_control(true), Some(Control::Subscribe(topics(0..64))));
        assert_eq!(shared.next_control(true), Some(Control::Subscribe(topics(64..100))));
        assert_eq!(shared.next_control(true), None);
    }

    #[test]
    fn order_is_kept_between_subscribing_and_unsubscribing() {
        let shared = Shared::default();
        shared.up();
        shared.subscribe(topics(0..1)).unwrap();
        shared.unsubscribe(&topics(0..2));
        shared.subscribe(topics(0..1)).unwrap();
        let taken: Vec<_> = std::iter::from_fn(|| shared.next_control(true)).collect();
        let wanted =
            [Control::Subscribe(topics(0..1)), Control::Unsubscribe(topics(0..1)), Control::Subscribe(topics(0..1))];
        assert_eq!(taken, wanted);
    }

    #[test]
    fn every_connection_subscribes_to_all_that_is_wanted_then() {
        let shared = Shared::default();
        shared.subscribe(topics(0..3)).unwrap();
        assert_eq!(shared.next_control(true), None);
        for _ in 0..2 {
            shared.up();
            assert_eq!(shared.next_control(true), Some(Control::Subscribe(topics(0..3))));
            assert_eq!(shared.next_control(true), None);
            shared.down();
        }
        shared.unsubscribe(&topics(1..3));
        shared.up();
        assert_eq!(shared.next_control(true), Some(Control::Subscribe(topics(0..1))));
    }

    #[test]
    fn bounds_subscriptions_as_a_whole() {
        let shared = Shared::default();
        shared.subscribe(topics(0..MAX_TOPICS - 1)).unwrap();
        assert_eq!(shared.subscribe(topics(2000..2002)), Err(LinkRefusal::TooManyTopics));
        shared.subscribe(topics(0..MAX_TOPICS)).unwrap();
    }

    #[test]
    fn takes_publishes_only_while_up_and_only_so_many() {
        let shared = Shared::default();
        let message = Publish::new("t", "x");
        assert_eq!((shared.publish(message.clone()), shared.room()), (Err(LinkRefusal::Down), 0));
        shared.up();
        for _ in 0..MAX_WAITING {
            shared.publish(message.clone()).unwrap();
        }
        assert_eq!((shared.publish(message.clone()), shared.room()), (Err(LinkRefusal::Busy), 0));
        shared.down();
        shared.up();
        assert_eq!((shared.next_publish(), shared.room()), (None, MAX_WAITING));
        let long = Publish::new("t", vec![0; 132 * 1024]);
        assert!(matches!(shared.publish(long), Err(LinkRefusal::TooLong { .. })));
    }
}
