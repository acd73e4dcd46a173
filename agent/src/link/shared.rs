//! What the caller's side and the connection's side of a link share: subscriptions and what waits to be sent.
//!
//! Invariants: no lock is held across an await; nothing here grows past the bounds of the parent module. Of one topic only
//! the latest wish waits, and what the broker was never told of is not taken back: however long a broker withholds an
//! acknowledgement, at most [`MAX_TOPICS`] subscriptions wait, and as many ends of subscriptions.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{LinkRefusal, MAX_PACKET, MAX_TOPICS, MAX_WAITING, Publish};
use crate::health::progress::Pulse;

/// At most this many topics go into one SUBSCRIBE or UNSUBSCRIBE.
pub(super) const TOPICS_PER_PACKET: usize = 64;
/// What a topic takes in a SUBSCRIBE beside itself, in bytes: its length and its options.
const TOPIC: usize = 3;
/// What a SUBSCRIBE takes beside its topics at most, in bytes: header, packet id and the length of no properties.
const CONTROL: usize = 8;
/// What topic, properties and header of a PUBLISH take at most beside what is counted, in bytes.
const HEADER: usize = 64;

/// One SUBSCRIBE or UNSUBSCRIBE, not sent yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Control {
    Subscribe(Vec<String>),
    Unsubscribe(Vec<String>),
}

/// What is wished of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wish {
    topic: String,
    subscribe: bool,
}

#[derive(Debug, Default)]
struct State {
    up: bool,
    closing: bool,
    topics: BTreeSet<String>,
    /// What the broker was told to send, and was not told to stop.
    told: BTreeSet<String>,
    /// In the order in which they are sent; each topic once.
    wishes: VecDeque<Wish>,
    publishes: VecDeque<Publish>,
}

impl State {
    fn wish(&mut self, topics: Vec<String>, subscribe: bool) {
        for topic in topics {
            self.wishes.retain(|wish| wish.topic != topic);
            if subscribe || self.told.contains(&topic) {
                self.wishes.push_back(Wish { topic, subscribe });
            }
        }
    }

    /// A connection begins or ends: the broker knows nothing, and nothing waits.
    fn forget(&mut self) {
        self.told.clear();
        self.wishes.clear();
    }
}

/// The state of a link that both its sides see.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Woken when there is something to send, or the link is to close.
    pub(super) work: Notify,
    /// How far the task is that serves the connection.
    pub(super) pulse: Pulse,
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
            state.wish(topics, true);
            drop(state);
            self.work.notify_one();
        }
        Ok(())
    }

    pub(super) fn unsubscribe(&self, topics: &[String]) {
        let mut state = self.lock();
        let known: Vec<String> = topics.iter().filter(|topic| state.topics.remove(*topic)).cloned().collect();
        if state.up && !known.is_empty() {
            state.wish(known, false);
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
        state.forget();
        state.wish(topics, true);
        state.up = true;
        !state.wishes.is_empty()
    }

    /// The connection is gone, and with it what waited for it.
    pub(super) fn down(&self) {
        let mut state = self.lock();
        state.up = false;
        state.forget();
        state.publishes.clear();
    }

    /// What is to be sent next, in at most `most` bytes but for a single topic that takes more. A refused topic is not asked
    /// for again on this connection; it stays known for the next.
    pub(super) fn next_control(&self, may_subscribe: bool, most: usize) -> Option<Control> {
        let mut state = self.lock();
        let subscribe = state.wishes.front()?.subscribe;
        if subscribe && !may_subscribe {
            return None;
        }
        let mut bytes = CONTROL;
        let mut topics = Vec::new();
        while let Some(wish) = state.wishes.front() {
            bytes = bytes.saturating_add(wish.topic.len() + TOPIC);
            let fits = topics.is_empty() || (topics.len() < TOPICS_PER_PACKET && bytes <= most);
            if wish.subscribe != subscribe || !fits {
                break;
            }
            topics.extend(state.wishes.pop_front().map(|wish| wish.topic));
        }
        if subscribe {
            state.told.extend(topics.iter().cloned());
            Some(Control::Subscribe(topics))
        } else {
            topics.iter().for_each(|topic| _ = state.told.remove(topic));
            Some(Control::Unsubscribe(topics))
        }
    }

    pub(super) fn next_publish(&self) -> Option<Publish> {
        self.lock().publishes.pop_front()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn next(shared: &Shared, may_subscribe: bool) -> Option<Control> {
        shared.next_control(may_subscribe, usize::MAX)
    }

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
        assert_eq!(next(&shared, false), None);
        assert_eq!(next(&shared, true), Some(Control::Subscribe(topics(0..64))));
        assert_eq!(next(&shared, true), Some(Control::Subscribe(topics(64..100))));
        assert_eq!(next(&shared, true), None);
    }

    #[test]
    fn order_is_kept_between_subscribing_and_unsubscribing() {
        let shared = Shared::default();
        shared.up();
        shared.subscribe(topics(0..2)).unwrap();
        assert_eq!(next(&shared, true), Some(Control::Subscribe(topics(0..2))));
        shared.subscribe(topics(2..3)).unwrap();
        shared.unsubscribe(&topics(0..1));
        shared.subscribe(topics(3..4)).unwrap();
        let taken: Vec<_> = std::iter::from_fn(|| next(&shared, true)).collect();
        let wanted =
            [Control::Subscribe(topics(2..3)), Control::Unsubscribe(topics(0..1)), Control::Subscribe(topics(3..4))];
        assert_eq!(taken, wanted);
    }

    #[test]
    fn of_one_topic_the_latest_wish_counts() {
        let shared = Shared::default();
        shared.up();
        shared.subscribe(topics(0..1)).unwrap();
        assert_eq!(next(&shared, true), Some(Control::Subscribe(topics(0..1))));
        shared.unsubscribe(&topics(0..1));
        shared.subscribe(topics(0..1)).unwrap();
        assert_eq!(next(&shared, true), Some(Control::Subscribe(topics(0..1))), "its retained message comes again");
        shared.subscribe(topics(0..1)).unwrap();
        shared.unsubscribe(&topics(0..1));
        assert_eq!(next(&shared, true), Some(Control::Unsubscribe(topics(0..1))));
        shared.subscribe(topics(0..1)).unwrap();
        shared.unsubscribe(&topics(0..1));
        assert_eq!(next(&shared, true), None, "the broker knows nothing of it");
    }

    #[test]
    fn what_waits_is_bounded_however_long_the_broker_withholds_its_answer() {
        let shared = Shared::default();
        shared.up();
        shared.subscribe(topics(0..8)).unwrap();
        assert!(next(&shared, true).is_some());
        for round in 1..2000 {
            shared.unsubscribe(&topics(8 * (round - 1)..8 * round));
            shared.subscribe(topics(8 * round..8 * (round + 1))).unwrap();
            assert_eq!(next(&shared, false).is_some(), round == 1, "only what was told is taken back");
            assert!(shared.lock().wishes.len() <= 8);
        }
    }

    #[test]
    fn a_packet_is_no_longer_than_the_broker_takes() {
        let shared = Shared::default();
        shared.up();
        shared.subscribe(topics(0..5)).unwrap();
        // Two topics of six characters.
        let most = CONTROL + 2 * (6 + TOPIC);
        let taken: Vec<_> = std::iter::from_fn(|| shared.next_control(true, most)).collect();
        assert_eq!(taken, [0..2, 2..4, 4..5].map(|names| Control::Subscribe(topics(names))));
        shared.subscribe(topics(0..2)).unwrap();
        assert_eq!(shared.next_control(true, 1), Some(Control::Subscribe(topics(0..1))), "one at least");
    }

    #[test]
    fn every_connection_subscribes_to_all_that_is_wanted_then() {
        let shared = Shared::default();
        shared.subscribe(topics(0..3)).unwrap();
        assert_eq!(next(&shared, true), None);
        for _ in 0..2 {
            shared.up();
            assert_eq!(next(&shared, true), Some(Control::Subscribe(topics(0..3))));
            assert_eq!(next(&shared, true), None);
            shared.down();
        }
        shared.unsubscribe(&topics(1..3));
        shared.up();
        assert_eq!(next(&shared, true), Some(Control::Subscribe(topics(0..1))));
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
