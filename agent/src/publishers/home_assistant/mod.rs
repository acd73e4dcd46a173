//! Home Assistant finds the device, its modules and what they measure by itself: retained discovery messages say where each value is in
//! what the device reports anyway.
//!
//! Purpose: the gateway is a device of Home Assistant, and each module one behind it. What they are is made of the reported state by
//! `configs`; this module knows which of it the broker has.
//!
//! Invariants: messages go to `{discovery_prefix}/device/{device}/…` alone, a subtree that an access list can give to each device. A
//! module that is gone is taken back by an empty retained message, and a value of a device that is gone by one that names it without a
//! configuration. What an earlier run of the agent left is found, since the subtree is subscribed to, and taken back too.
//!
//! Failure modes: what the link does not take waits, and only the newest message of each topic does; after each connection all of it is published
//! anew. Limits: as the reported state: at most 512 metrics in all.

mod configs;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sanderling_protocol::{
    reported::Reported,
    topics::{DeviceId, Topics},
};
use serde_json::{Value, json};

use self::configs::Names;
use super::HomeAssistantSettings;
use crate::link::Publish;

/// At most this many topics are looked after on one connection: somebody else may write there too.
const MOST_FOUND: usize = 256;

/// What Home Assistant was told, and what it is to be told.
#[derive(Debug)]
pub struct HomeAssistant {
    names: Names,
    settings: HomeAssistantSettings,
    /// By topic, what is to be known. `None` before the first report.
    wanted: Option<BTreeMap<String, Value>>,
    /// Topics that have a message at the broker, as it said on this connection.
    found: BTreeSet<String>,
    queue: VecDeque<(String, Vec<u8>)>,
}

impl HomeAssistant {
    /// Nothing was told yet.
    pub fn new(settings: HomeAssistantSettings, device: &DeviceId, topics: &Topics) -> Self {
        let names = Names::new(&settings.discovery_prefix, device, topics);
        Self { names, settings, wanted: None, found: BTreeSet::new(), queue: VecDeque::new() }
    }

    /// What to subscribe to.
    pub fn filter(&self) -> String {
        format!("{}/+/config", self.names.subtree())
    }

    /// The connection is new: the broker may have lost everything.
    pub fn link_up(&mut self) {
        self.queue.clear();
        self.found.clear();
        for (topic, config) in self.wanted.iter().flatten() {
            self.queue.push_back((topic.clone(), bytes(config)));
        }
    }

    /// This is what the device reports now.
    pub fn reported(&mut self, report: &Reported) {
        let wanted = configs::all(&self.names, &self.settings, report);
        let before = self.wanted.replace(wanted.clone()).unwrap_or_default();
        let known: BTreeSet<String> = before.keys().chain(&self.found).cloned().collect();
        for topic in known.into_iter().filter(|topic| !wanted.contains_key(topic)) {
            self.say(topic, Vec::new());
        }
        // Each is taken back once.
        self.found.retain(|topic| wanted.contains_key(topic));
        for (topic, config) in wanted {
            match before.get(&topic) {
                Some(old) if *old == config => {}
                Some(old) => {
                    if let Some(step) = without(old, &config) {
                        self.queue.push_back((topic.clone(), bytes(&step)));
                    }
                    self.queue.push_back((topic, bytes(&config)));
                }
                None => self.say(topic, bytes(&config)),
            }
        }
    }

    /// A message came. Says whether it belongs here.
    pub fn heard(&mut self, topic: &str, payload: &[u8]) -> bool {
        if !self.names.is_ours(topic) {
            return false;
        }
        if payload.is_empty() {
            self.found.remove(topic);
        } else if self.found.len() < MOST_FOUND && self.found.insert(topic.to_owned()) {
            let gone = self.wanted.as_ref().is_some_and(|wanted| !wanted.contains_key(topic));
            if gone {
                self.say(topic.to_owned(), Vec::new());
            }
        }
        true
    }

    /// Waits in the place of what waits for the topic.
    fn say(&mut self, topic: String, payload: Vec<u8>) {
        self.queue.retain(|(waiting, _)| *waiting != topic);
        self.queue.push_back((topic, payload));
    }

    /// The next message. It is sent when [`HomeAssistant::sent`] says so.
    pub fn next(&self) -> Option<Publish> {
        let (topic, payload) = self.queue.front()?;
        Some(Publish::new(topic.clone(), payload.clone()).retained())
    }

    /// The link took the first message, or never takes it.
    pub fn sent(&mut self) {
        self.queue.pop_front();
    }
}

/// The new configuration, with what is in the old one alone named as gone; `None` where nothing is.
fn without(old: &Value, new: &Value) -> Option<Value> {
    let parts = |config: &Value| config.get(configs::PARTS).and_then(Value::as_object).cloned().unwrap_or_default();
    let (old, mut all) = (parts(old), parts(new));
    let count = all.len();
    for (name, part) in old {
        all.entry(name).or_insert_with(|| json!({ "p": part.get("p") }));
    }
    let mut step = new.clone();
    let gone = all.len() > count;
    if let Some(parts) = step.get_mut(configs::PARTS) {
        *parts = all.into();
    }
    gone.then_some(step)
}

fn bytes(config: &Value) -> Vec<u8> {
    config.to_string().into_bytes()
}
