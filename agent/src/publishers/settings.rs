//! What a publisher is made from. [`crate::settings`] reads and checks it.

/// What Home Assistant is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeAssistantSettings {
    /// Below which topic it looks for devices.
    pub discovery_prefix: String,
    /// Channels whose last record is shown, as module and channel.
    pub channels: Vec<(String, String)>,
}

/// What hosts of Sparkplug B are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SparkplugSettings {
    /// The group that the node is in.
    pub group: String,
    /// The node's name; `None`: the device id.
    pub edge_node: Option<String>,
}
