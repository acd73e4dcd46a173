//! The broker: retained messages, of which subscribers get what they ask for.

use bytes::Bytes;
use sanderling_protocol::topics::Published;

use super::Device;
use crate::sync::{Event, Message, tests::repository::Repository};

impl Device {
    /// The broker takes what is published; subscribers get what is new.
    pub(in crate::sync::tests) fn publish(&mut self, repository: &Repository) {
        self.offer(repository);
        self.run();
    }

    /// The same, and what follows from it is still to happen.
    pub(in crate::sync::tests) fn offer(&mut self, repository: &Repository) {
        self.watch.signed.extend(&repository.signed);
        for (what, payload) in &repository.retained {
            self.retain(what.clone(), payload.clone());
        }
    }

    pub(in crate::sync::tests) fn retain(&mut self, what: Published, payload: Vec<u8>) {
        if self.broker.get(&what) != Some(&payload) {
            self.broker.insert(what.clone(), payload);
            if self.link && self.subscribed.contains(&what) {
                self.deliver(&what);
            }
        }
    }

    pub(super) fn subscribe(&mut self, what: Published) {
        if self.link {
            self.subscribed.insert(what.clone());
            self.deliver(&what);
        }
    }

    fn deliver(&mut self, what: &Published) {
        let Some(payload) = self.broker.get(what) else { return };
        if self.losses > 0 {
            self.losses -= 1;
            return;
        }
        if let Published::Chunk(digest) = what {
            self.pulled.push(*digest);
        }
        let message = Message { what: what.clone(), payload: Bytes::from(payload.clone()) };
        self.events.push_back(Event::Message(message));
    }
}
