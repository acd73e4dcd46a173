//! A link without a broker, for tests: what was sent is recorded, what comes is said by the test.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;

use super::{Link, LinkEvent, LinkEvents, LinkRefusal, MAX_TOPICS, MAX_WAITING, Publish};
use crate::health::progress::Mark;

/// What was done with a fake link.
#[derive(Debug, Default)]
struct State {
    up: bool,
    closed: bool,
    topics: BTreeSet<String>,
    asked: Vec<String>,
    published: Vec<Publish>,
}

/// [`Link`] in memory; clones share it.
#[derive(Clone, Debug)]
pub struct FakeLink {
    state: Arc<Mutex<State>>,
    events: Arc<Mutex<Option<mpsc::Sender<LinkEvent>>>>,
}

impl FakeLink {
    /// A link that is down, and its events. Any number of events fits that a test may want.
    pub fn new() -> (Self, LinkEvents) {
        let (events, receiver) = mpsc::channel(1024);
        (Self { state: Arc::default(), events: Arc::new(Mutex::new(Some(events))) }, receiver)
    }

    /// Gives an event to whoever reads them. `Up` and `Down` change what [`Link::publish`] answers.
    pub fn happen(&self, event: LinkEvent) {
        let mut state = self.lock();
        match &event {
            LinkEvent::Up { .. } => state.up = true,
            LinkEvent::Down { .. } => {
                state.up = false;
                state.published.clear();
            }
            _ => {}
        }
        drop(state);
        if let Some(events) = self.events.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            // A test that dropped the events is not interested in them.
            let _ = events.try_send(event);
        }
    }

    /// What was published since the last call, in order.
    pub fn take_published(&self) -> Vec<Publish> {
        std::mem::take(&mut self.lock().published)
    }

    /// The topics that [`Link::subscribe`] was called with since the last call, in order, again and again ones included.
    pub fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().asked)
    }

    /// What is subscribed now.
    pub fn topics(&self) -> BTreeSet<String> {
        self.lock().topics.clone()
    }

    /// Whether [`Link::close`] was called.
    pub fn closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link for FakeLink {
    fn subscribe(&self, topics: Vec<String>) -> Result<(), LinkRefusal> {
        let mut state = self.lock();
        let mut all = state.topics.clone();
        all.extend(topics.iter().cloned());
        if all.len() > MAX_TOPICS {
            return Err(LinkRefusal::TooManyTopics);
        }
        state.topics = all;
        state.asked.extend(topics);
        Ok(())
    }

    fn unsubscribe(&self, topics: &[String]) {
        let mut state = self.lock();
        state.topics.retain(|topic| !topics.contains(topic));
    }

    fn publish(&self, publish: Publish) -> Result<(), LinkRefusal> {
        let mut state = self.lock();
        if !state.up {
            return Err(LinkRefusal::Down);
        }
        if state.published.len() >= MAX_WAITING {
            return Err(LinkRefusal::Busy);
        }
        state.published.push(publish);
        Ok(())
    }

    fn room(&self) -> usize {
        let state = self.lock();
        if state.up { MAX_WAITING.saturating_sub(state.published.len()) } else { 0 }
    }

    fn mark(&self) -> Mark {
        Mark { steps: 0, within: None }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.events.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::link::{BrokerLimits, LinkError};

    #[test]
    fn behaves_as_the_port_says() {
        let (link, mut events) = FakeLink::new();
        assert_eq!(link.publish(Publish::new("t", "x")), Err(LinkRefusal::Down));
        link.subscribe(vec!["a".to_owned(), "b".to_owned()]).unwrap();
        link.subscribe(vec!["a".to_owned()]).unwrap();
        link.unsubscribe(&["b".to_owned()]);
        assert_eq!(link.topics(), BTreeSet::from(["a".to_owned()]));
        assert_eq!(link.take_asked(), ["a", "b", "a"]);
        link.happen(LinkEvent::Up { session: "s".to_owned(), session_present: false, broker: BrokerLimits::default() });
        link.publish(Publish::new("t", "x").with_token(7)).unwrap();
        assert_eq!(link.take_published().remove(0).token, Some(7));
        link.happen(LinkEvent::Down { error: LinkError::Host("x".to_owned()), retry_in: Duration::ZERO });
        assert_eq!(link.room(), 0);
        link.close();
        assert!(matches!(events.try_recv(), Ok(LinkEvent::Up { .. })));
        assert!(matches!(events.try_recv(), Ok(LinkEvent::Down { .. })));
        assert!(link.closed() && events.try_recv().is_err());
    }
}
