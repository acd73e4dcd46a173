//! The inputs of a module: whose frames it is given, and what happens when they come faster than it takes them.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

/// The name of a source is at most this long, in bytes: a frame's header has so much room for it.
pub const MAX_SOURCE: usize = 32;

/// A source of frames bound to a module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Input {
    /// Whose frames they are.
    pub source: Source,
    /// What happens when frames come faster than the module takes them.
    pub policy: Policy,
    /// To what compressed images are decoded before the guest sees them.
    pub decode: Decode,
}

/// Where frames come from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The sensor of this name in the agent's configuration.
    Sensor(String),
    /// What another module of the deployment emits on a channel: each record a frame.
    Channel {
        /// The other module.
        module: String,
        /// Its channel.
        channel: String,
    },
}

impl Source {
    /// Its name in frames and reports: that of the sensor, or `module/channel`.
    pub fn name(&self) -> Cow<'_, str> {
        match self {
            Self::Sensor(name) => Cow::Borrowed(name),
            Self::Channel { module, channel } => Cow::Owned(format!("{module}/{channel}")),
        }
    }

    /// The sensor, where it is one.
    pub fn sensor(&self) -> Option<&str> {
        match self {
            Self::Sensor(name) => Some(name),
            Self::Channel { .. } => None,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// An input as it stands in the document.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sensor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    module: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
    #[serde(default)]
    policy: Policy,
    #[serde(default)]
    decode: Decode,
}

impl TryFrom<Fields> for Input {
    type Error = &'static str;

    fn try_from(fields: Fields) -> Result<Self, Self::Error> {
        let source = match (fields.sensor, fields.module, fields.channel) {
            (Some(sensor), None, None) => Source::Sensor(sensor),
            (None, Some(module), Some(channel)) => Source::Channel { module, channel },
            _ => return Err("an input names a `sensor`, or a `module` and one of its channels as `channel`"),
        };
        Ok(Self { source, policy: fields.policy, decode: fields.decode })
    }
}

impl From<Input> for Fields {
    fn from(Input { source, policy, decode }: Input) -> Self {
        let (sensor, module, channel) = match source {
            Source::Sensor(sensor) => (Some(sensor), None, None),
            Source::Channel { module, channel } => (None, Some(module), Some(channel)),
        };
        Self { sensor, module, channel, policy, decode }
    }
}

/// What happens when frames come faster than a module takes them, and which of them it is given at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The module gets the newest frame; older ones that it did not get to are dropped.
    #[default]
    Latest,
    /// Up to this many frames wait; then the oldest is dropped.
    Queue(u32),
    /// Only some of the frames, and of those the newest.
    Sample(Sample),
    /// The samples of a series, cut anew.
    Window(Window),
}

/// Which frames of many are given to a module.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sample {
    /// The first of so many.
    Every(u32),
    /// At most so many a second.
    PerSecond(f64),
}

/// How the samples of a series are cut into frames, whatever frames they come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Samples of each channel in a frame.
    pub samples: u32,
    /// Samples from the start of one frame to that of the next; as many as are in a frame, unless told otherwise. Fewer let frames
    /// overlap, more leave samples out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hop: Option<u32>,
    /// So many frames wait; then the oldest is dropped.
    #[serde(default = "few", skip_serializing_if = "is_few")]
    pub queue: u32,
}

fn few() -> u32 {
    4
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde calls it.
fn is_few(queue: &u32) -> bool {
    *queue == few()
}

impl Window {
    /// Samples from the start of one frame to that of the next.
    pub fn hop(&self) -> u32 {
        self.hop.unwrap_or(self.samples)
    }
}

/// To what compressed images are decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decode {
    /// The frame is handed over as it came.
    #[default]
    None,
    /// One byte a pixel.
    Gray8,
    /// Three bytes a pixel, red first.
    Rgb8,
}
