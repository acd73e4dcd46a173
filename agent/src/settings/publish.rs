//! `[publish.<name>]`: what the device tells other systems at its broker.

use serde::Deserialize;

use sanderling_protocol::{
    deployment::is_name,
    topics::{DeviceId, Topics},
};

use super::{SettingsError, load::Origin};
use crate::publishers::{HomeAssistantSettings, SparkplugSettings};

/// `[publish]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishSettings {
    /// `[publish.home_assistant]`: absent, it is told nothing.
    pub home_assistant: Option<HomeAssistantSettings>,
    /// `[publish.sparkplug]`: absent, it is told nothing.
    pub sparkplug: Option<SparkplugSettings>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPublish {
    home_assistant: Option<RawHomeAssistant>,
    sparkplug: Option<RawSparkplug>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawHomeAssistant {
    discovery_prefix: Option<String>,
    channels: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawSparkplug {
    group: Option<String>,
    edge_node: Option<String>,
}

/// At most this many channels are shown.
const MOST_CHANNELS: usize = 64;

pub(super) fn check(raw: RawPublish, device: &DeviceId, origin: &Origin) -> Result<PublishSettings, SettingsError> {
    let home_assistant = raw.home_assistant.map(|raw| raw.check(device, origin)).transpose()?;
    let sparkplug = raw.sparkplug.map(|raw| raw.check(origin)).transpose()?;
    Ok(PublishSettings { home_assistant, sparkplug })
}

impl RawHomeAssistant {
    fn check(self, device: &DeviceId, origin: &Origin) -> Result<HomeAssistantSettings, SettingsError> {
        let key = |key| ["publish", "home_assistant", key];
        if cfg!(not(feature = "home-assistant")) {
            let allowed = "agents that were built with the feature `home-assistant`; remove the table";
            return Err(origin.value(&["publish", "home_assistant"], "given", allowed));
        }
        if device.as_str().contains('.') {
            let allowed = "devices whose id has no `.`, which Home Assistant does not take; remove the table";
            return Err(origin.value(&["publish", "home_assistant"], format!("given for {device}"), allowed));
        }
        let discovery_prefix = self.discovery_prefix.unwrap_or_else(|| "homeassistant".into());
        if Topics::new(&discovery_prefix).is_err() {
            let allowed = "levels of A-Z a-z 0-9 . _ - joined by /, at most 128 characters";
            return Err(origin.value(&key("discovery_prefix"), format!("{discovery_prefix:?}"), allowed));
        }
        if self.channels.len() > MOST_CHANNELS {
            let allowed = format!("at most {MOST_CHANNELS}");
            return Err(origin.value(&key("channels"), format!("{} channels", self.channels.len()), allowed));
        }
        let named = |name: &String| {
            let parts = name.split_once('/').filter(|(module, channel)| is_name(module) && is_name(channel));
            let (module, channel) = parts
                .ok_or_else(|| origin.value(&key("channels"), format!("{name:?}"), "names as \"module/channel\""))?;
            Ok((module.to_owned(), channel.to_owned()))
        };
        let channels = self.channels.iter().map(named).collect::<Result<_, SettingsError>>()?;
        Ok(HomeAssistantSettings { discovery_prefix, channels })
    }
}

impl RawSparkplug {
    fn check(self, origin: &Origin) -> Result<SparkplugSettings, SettingsError> {
        if cfg!(not(feature = "sparkplug")) {
            let allowed = "agents that were built with the feature `sparkplug`; remove the table";
            return Err(origin.value(&["publish", "sparkplug"], "given", allowed));
        }
        let named = |key: &str, name: Option<String>| match name {
            Some(name) if !is_name(&name) => {
                let allowed = "1 to 64 characters of A-Z a-z 0-9 . _ -";
                Err(origin.value(&["publish", "sparkplug", key], format!("{name:?}"), allowed))
            }
            name => Ok(name),
        };
        let group = named("group", self.group)?.unwrap_or_else(|| "sanderling".to_owned());
        Ok(SparkplugSettings { group, edge_node: named("edge_node", self.edge_node)? })
    }
}
