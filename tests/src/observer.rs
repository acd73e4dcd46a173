//! What the operator sees: status, reported state, events, records and answers of all devices.

use std::time::Duration;

use sanderling_protocol::{
    batch::{self, BatchRecord},
    command::Answer,
    digest::Digest,
    reported::{DeploymentState, Event, Reported, Status},
    topics::{DeviceId, Topics},
};
use serde_json::Value;

use crate::{Broker, Fleet, Message, PATIENCE, Peer, Publication, until};

/// The operator at the broker: it sees everything, and may publish everything.
pub struct Observer {
    peer: Peer,
    topics: Topics,
}

/// All that an observer has seen, or the later part of it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    messages: &'a [Message],
    topics: &'a Topics,
}

/// What the guests of [`crate::guests::ticks`] emit for each frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick {
    /// The frame's number, counted by the sensor from 1 on since the agent was started.
    pub seq: u64,
    /// When it was captured, Unix nanoseconds.
    pub captured: i64,
    /// Which guest it was.
    pub tag: u8,
}

impl Observer {
    /// Connects with the operator's certificate.
    pub fn connect(fleet: &Fleet, broker: &Broker) -> Self {
        let topics = fleet.topics();
        // Not `device/#`: then the operator's own commands would have a subscriber, and nobody could tell whether the device is one.
        let filters = ["status", "reported", "event", "log", "data/#", "batch/#", "answer/#"];
        let filters = filters.map(|rest| format!("{}/device/+/{rest}", topics.prefix()));
        let peer = Peer::connect(broker, &fleet.operator(), "observer", &filters)
            .unwrap_or_else(|error| panic!("the operator cannot connect: {error}"));
        Self { peer, topics }
    }

    /// A mark of what was seen so far, for [`Seen::after`].
    pub fn mark(&self) -> usize {
        self.peer.count()
    }

    /// Looks at what was seen, again at each message, until `look` finds something. Fails the test when the limit is over.
    pub fn wait_for<T>(&self, what: &str, limit: Duration, mut look: impl FnMut(Seen<'_>) -> Option<T>) -> T {
        let topics = &self.topics;
        self.peer.wait(limit, |messages| look(Seen { messages, topics })).unwrap_or_else(|| {
            self.show();
            panic!("{what}: not within {limit:?}")
        })
    }

    /// The same for a test that goes on without: `None` when the limit is over.
    pub fn try_wait<T>(&self, limit: Duration, mut look: impl FnMut(Seen<'_>) -> Option<T>) -> Option<T> {
        let topics = &self.topics;
        self.peer.wait(limit, |messages| look(Seen { messages, topics }))
    }

    /// Waits until a device reports something that fits; gives that report.
    pub fn wait_report(&self, device: &DeviceId, what: &str, fits: impl Fn(&Reported) -> bool) -> Reported {
        self.wait_for(what, PATIENCE, |seen| seen.reported(device).filter(&fits))
    }

    /// Waits until a device reports this deployment in this state.
    pub fn wait_state(&self, device: &DeviceId, digest: Digest, state: DeploymentState) -> Reported {
        self.wait_report(device, &format!("deployment {digest} {state:?}"), |reported| {
            reported.deployment.as_ref().is_some_and(|found| found.digest == digest && found.state == state)
        })
    }

    /// Waits until this deployment is committed.
    pub fn wait_active(&self, device: &DeviceId, digest: Digest) -> Reported {
        self.wait_state(device, digest, DeploymentState::Active)
    }

    /// Waits for `count` more ticks of a module than there are now, from the guest with this tag.
    pub fn wait_ticks(&self, device: &DeviceId, module: &str, tag: u8, count: usize) -> Vec<Tick> {
        let mark = self.mark();
        self.wait_for(&format!("{count} more ticks of {module}, {}", char::from(tag)), PATIENCE, |seen| {
            let ticks: Vec<_> =
                seen.after(mark).ticks(device, module).into_iter().filter(|tick| tick.tag == tag).collect();
            (ticks.len() >= count).then_some(ticks)
        })
    }

    /// Asks a device, and waits for its answer.
    pub fn request(&self, device: &DeviceId, command: &str, payload: &[u8]) -> Answer {
        let mark = self.mark();
        let response = self.topics.device(device, "answer/tests");
        let correlation = format!("{command} {mark}").into_bytes();
        let topic = self.topics.device(device, &format!("cmd/{command}"));
        // A device that has just come online may not listen to commands yet.
        let heard = until(PATIENCE, || self.peer.ask(&topic, payload, &response, &correlation).unwrap().then_some(()));
        assert!(heard.is_some(), "{device} does not listen to commands");
        self.wait_for(&format!("the answer to {command}"), PATIENCE, |seen| {
            let answers = seen.after(mark).messages.iter().filter(|message| message.topic == response);
            let mut ours = answers.filter(|message| message.correlation.as_ref() == Some(&correlation));
            ours.next_back().and_then(|message| serde_json::from_slice(&message.payload).ok())
        })
    }

    /// Publishes as the operator.
    pub fn publish(&self, topic: &str, payload: &[u8], retain: bool) {
        self.peer.publish(topic, payload, retain).unwrap_or_else(|error| panic!("{topic}: {error}"));
    }

    /// Publishes what stands in a publication, in its order, retained.
    pub fn publish_all(&self, publication: &Publication) {
        for (topic, payload) in publication.messages(&self.topics) {
            self.publish(&topic, payload, true);
        }
    }

    /// Shows the last of what was seen: for a test that fails.
    fn show(&self) {
        let topics = &self.topics;
        self.peer.wait(Duration::ZERO, |messages| {
            eprintln!("--- {} messages were seen; the last of them:", messages.len());
            let mut devices: Vec<DeviceId> =
                messages.iter().filter_map(|message| Some(topics.parse_device(&message.topic)?.0)).collect();
            devices.sort_unstable();
            devices.dedup();
            for message in messages.iter().skip(messages.len().saturating_sub(10)) {
                eprintln!("{} {}", message.topic, String::from_utf8_lossy(&message.payload));
            }
            let seen = Seen { messages, topics };
            for device in devices {
                eprintln!(
                    "--- status and report of {device}: {:?} {:#?}",
                    seen.status(&device),
                    seen.reported(&device)
                );
            }
            Some(())
        });
    }
}

impl<'a> Seen<'a> {
    /// What came after a mark.
    pub fn after(self, mark: usize) -> Self {
        Self { messages: self.messages.get(mark..).unwrap_or_default(), ..self }
    }

    /// The messages of a device on a topic below its own, such as `event`, oldest first.
    pub fn of(self, device: &DeviceId, rest: &str) -> impl DoubleEndedIterator<Item = &'a Message> + use<'a> {
        let topic = self.topics.device(device, rest);
        self.messages.iter().filter(move |message| message.topic == topic)
    }

    /// Messages on topics that contain this.
    pub fn on(self, part: &str) -> Vec<&'a Message> {
        self.messages.iter().filter(|message| message.topic.contains(part)).collect()
    }

    /// The latest reported state.
    pub fn reported(self, device: &DeviceId) -> Option<Reported> {
        let message = self.of(device, "reported").next_back()?;
        Some(serde_json::from_slice(&message.payload).unwrap_or_else(|error| panic!("not a report: {error}")))
    }

    /// All reported states, oldest first.
    pub fn reports(self, device: &DeviceId) -> Vec<Reported> {
        let read = |message: &Message| {
            serde_json::from_slice(&message.payload).unwrap_or_else(|error| panic!("not a report: {error}"))
        };
        self.of(device, "reported").map(read).collect()
    }

    /// The latest status.
    pub fn status(self, device: &DeviceId) -> Option<Status> {
        serde_json::from_slice(&self.of(device, "status").next_back()?.payload).ok()
    }

    /// All events, oldest first.
    pub fn events(self, device: &DeviceId) -> Vec<Event> {
        let read = |message: &Message| {
            serde_json::from_slice(&message.payload).unwrap_or_else(|error| panic!("not an event: {error}"))
        };
        self.of(device, "event").map(read).collect()
    }

    /// The records of a module's channel as JSON, oldest first.
    pub fn records(self, device: &DeviceId, module: &str, channel: &str) -> Vec<Value> {
        let read = |message: &Message| {
            serde_json::from_slice(&message.payload).unwrap_or_else(|error| panic!("not a record of JSON: {error}"))
        };
        self.of(device, &format!("data/{module}/{channel}")).map(read).collect()
    }

    /// The batches of a module's channel, oldest first.
    pub fn batches(self, device: &DeviceId, module: &str, channel: &str) -> Vec<Vec<BatchRecord>> {
        let read = |message: &Message| {
            batch::decode(&message.payload).unwrap_or_else(|error| panic!("not a batch of records: {error}"))
        };
        self.of(device, &format!("{}/{module}/{channel}", batch::TOPIC)).map(read).collect()
    }

    /// The ticks of a module, oldest first, repeated ones included.
    pub fn ticks(self, device: &DeviceId, module: &str) -> Vec<Tick> {
        let messages = self.of(device, &format!("data/{module}/{}", crate::guests::TICKS));
        messages.map(|message| Tick::read(&message.payload)).collect()
    }
}

impl Tick {
    /// Reads a record.
    pub fn read(payload: &[u8]) -> Self {
        let number = |at: usize| payload.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; 8]);
        assert_eq!(payload.len(), 17, "not a tick: {payload:?}");
        Self {
            seq: u64::from_le_bytes(number(0)),
            captured: i64::from_le_bytes(number(8)),
            tag: payload.last().copied().unwrap_or(0),
        }
    }
}
