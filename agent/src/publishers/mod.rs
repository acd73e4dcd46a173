//! Publishers: what a device tells other systems at its broker beside its fleet, in their own words. Optional, each a table
//! `[publish.<name>]` and a Cargo feature.
//!
//! A publisher adds no measurement of its own: it is made of the reported state, and says nothing that is not in it.

#[cfg(feature = "home-assistant")]
pub mod home_assistant;
mod settings;
#[cfg(feature = "sparkplug")]
pub mod sparkplug;

use std::sync::Arc;

use sanderling_protocol::reported::Reported;

pub use settings::{HomeAssistantSettings, SparkplugSettings};

use crate::{clock::Clock, link::Publish, settings::Settings};

/// The publishers that the configuration names. Without any, all of it does nothing.
#[derive(Debug)]
pub struct Publishers {
    /// On the agent's own connection.
    #[cfg(feature = "home-assistant")]
    home_assistant: Option<home_assistant::HomeAssistant>,
    /// On a connection of its own.
    #[cfg(feature = "sparkplug")]
    sparkplug: Option<sparkplug::Sparkplug>,
}

impl Publishers {
    /// Nothing was said yet. Must be called within a tokio runtime.
    pub fn new(settings: &Settings, clock: &Arc<dyn Clock>, random: fn() -> u64) -> Self {
        let _ = (settings, clock, random);
        Self {
            #[cfg(feature = "home-assistant")]
            home_assistant: settings
                .publish
                .home_assistant
                .clone()
                .map(|publish| home_assistant::HomeAssistant::new(publish, &settings.device, &settings.broker.topics)),
            #[cfg(feature = "sparkplug")]
            sparkplug: settings.publish.sparkplug.as_ref().map(|publish| {
                let node = sparkplug::Node::new(publish, &settings.device);
                let client_id = format!("{}.sparkplug", settings.device);
                sparkplug::Sparkplug::start(node, settings.broker.clone(), client_id, clock.clone(), Box::new(random))
            }),
        }
    }

    /// What to subscribe to.
    pub fn filters(&self) -> Vec<String> {
        #[cfg(feature = "home-assistant")]
        if let Some(publisher) = &self.home_assistant {
            return vec![publisher.filter()];
        }
        Vec::new()
    }

    /// The connection is new.
    pub fn link_up(&mut self) {
        #[cfg(feature = "home-assistant")]
        self.home_assistant.iter_mut().for_each(home_assistant::HomeAssistant::link_up);
    }

    /// This is what the device reports now.
    pub fn reported(&mut self, report: &Reported) {
        let _ = report;
        #[cfg(feature = "home-assistant")]
        self.home_assistant.iter_mut().for_each(|publisher| publisher.reported(report));
        #[cfg(feature = "sparkplug")]
        self.sparkplug.iter().for_each(|publisher| publisher.reported(report));
    }

    /// A message came. Says whether it belongs here.
    pub fn heard(&mut self, topic: &str, payload: &[u8]) -> bool {
        let _ = (topic, payload);
        #[cfg(feature = "home-assistant")]
        if let Some(publisher) = &mut self.home_assistant {
            return publisher.heard(topic, payload);
        }
        false
    }

    /// The next message for the agent's own connection. It is sent when [`Publishers::sent`] says so.
    pub fn next(&self) -> Option<Publish> {
        #[cfg(feature = "home-assistant")]
        if let Some(publisher) = &self.home_assistant {
            return publisher.next();
        }
        None
    }

    /// The link took the message that [`Publishers::next`] gave, or never takes it.
    pub fn sent(&mut self) {
        #[cfg(feature = "home-assistant")]
        self.home_assistant.iter_mut().for_each(home_assistant::HomeAssistant::sent);
    }

    /// The end: ready when those with connections of their own have said goodbye.
    pub fn end(&mut self) -> impl Future<Output = ()> + use<> {
        #[cfg(feature = "sparkplug")]
        let task = self.sparkplug.take().map(sparkplug::Sparkplug::end);
        async move {
            #[cfg(feature = "sparkplug")]
            if let Some(task) = task {
                let _ = task.await;
            }
        }
    }
}
