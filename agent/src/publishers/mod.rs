//! Publishers: what a device tells other systems at its broker beside its fleet, in their own words. Optional, each a table
//! `[publish.<name>]` and a Cargo feature.
//!
//! A publisher adds no measurement of its own: it is made of the reported state, and says nothing that is not in it.

#[cfg(feature = "home-assistant")]
pub mod home_assistant;
mod settings;

use sanderling_protocol::{
    reported::Reported,
    topics::{DeviceId, Topics},
};

pub use settings::HomeAssistantSettings;

use crate::{link::Publish, settings::PublishSettings};

/// The publishers that the configuration names, on the agent's own connection. Without any, all of it does nothing.
#[derive(Debug)]
pub struct Publishers {
    #[cfg(feature = "home-assistant")]
    home_assistant: Option<home_assistant::HomeAssistant>,
}

#[cfg(feature = "home-assistant")]
impl Publishers {
    /// Nothing was said yet.
    pub fn new(settings: &PublishSettings, device: &DeviceId, topics: &Topics) -> Self {
        let of = |settings| home_assistant::HomeAssistant::new(settings, device, topics);
        Self { home_assistant: settings.home_assistant.clone().map(of) }
    }

    /// What to subscribe to.
    pub fn filters(&self) -> Vec<String> {
        self.home_assistant.iter().map(home_assistant::HomeAssistant::filter).collect()
    }

    /// The connection is new.
    pub fn link_up(&mut self) {
        self.home_assistant.iter_mut().for_each(home_assistant::HomeAssistant::link_up);
    }

    /// This is what the device reports now.
    pub fn reported(&mut self, report: &Reported) {
        self.home_assistant.iter_mut().for_each(|publisher| publisher.reported(report));
    }

    /// A message came. Says whether it belongs here.
    pub fn heard(&mut self, topic: &str, payload: &[u8]) -> bool {
        self.home_assistant.as_mut().is_some_and(|publisher| publisher.heard(topic, payload))
    }

    /// The next message. It is sent when [`Publishers::sent`] says so.
    pub fn next(&self) -> Option<Publish> {
        self.home_assistant.as_ref().and_then(home_assistant::HomeAssistant::next)
    }

    /// The link took the message that [`Publishers::next`] gave, or never takes it.
    pub fn sent(&mut self) {
        self.home_assistant.iter_mut().for_each(home_assistant::HomeAssistant::sent);
    }
}

/// There are none in this program; their tables are refused.
#[cfg(not(feature = "home-assistant"))]
#[allow(missing_docs)]
impl Publishers {
    pub fn new(_settings: &PublishSettings, _device: &DeviceId, _topics: &Topics) -> Self {
        Self {}
    }

    pub fn filters(&self) -> Vec<String> {
        Vec::new()
    }

    pub fn link_up(&mut self) {}

    pub fn reported(&mut self, _report: &Reported) {}

    pub fn heard(&mut self, _topic: &str, _payload: &[u8]) -> bool {
        false
    }

    pub fn next(&self) -> Option<Publish> {
        None
    }

    pub fn sent(&mut self) {}
}
