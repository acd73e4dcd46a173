//! What a publisher is made from. [`crate::settings`] reads and checks it.

/// What Home Assistant is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeAssistantSettings {
    /// Below which topic it looks for devices.
    pub discovery_prefix: String,
    /// Channels whose last record is shown, as module and channel.
    pub channels: Vec<(String, String)>,
}
