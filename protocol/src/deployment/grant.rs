//! Capabilities, written as `infer`, `infer:load`, `emit:<channel>`, `state:<bytes>`, `evidence` or `capture`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::worker::MAX_STATE;

/// A capability that a deployment gives to a guest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Grant {
    /// Inference with the models bound in the deployment.
    Infer,
    /// Inference with models that the guest brings itself, besides [`Grant::Infer`].
    InferLoad,
    /// Emitting records on this channel.
    Emit(String),
    /// Keeping this many bytes of keys and values, durably.
    State(u64),
    /// Having parts of images encoded and emitted, on channels that are granted too.
    Evidence,
    /// Having an execution that went well kept as a capsule when an operator asks for it: a capsule holds a frame and the guest's memory.
    Capture,
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Infer => f.write_str("infer"),
            Self::InferLoad => f.write_str("infer:load"),
            Self::Emit(channel) => write!(f, "emit:{channel}"),
            Self::State(bytes) => write!(f, "state:{bytes}"),
            Self::Evidence => f.write_str("evidence"),
            Self::Capture => f.write_str("capture"),
        }
    }
}

impl FromStr for Grant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "infer" => Ok(Self::Infer),
            None if text == "evidence" => Ok(Self::Evidence),
            None if text == "capture" => Ok(Self::Capture),
            Some(("infer", "load")) => Ok(Self::InferLoad),
            Some(("emit", channel)) if !channel.is_empty() => Ok(Self::Emit(channel.to_owned())),
            Some(("state", bytes)) => number(bytes).map(Self::State).ok_or_else(|| {
                format!("the grant {text:?} names no quota; `state:<bytes>` with a number from 1 to {MAX_STATE} does")
            }),
            _ => Err(format!(
                "unknown grant {text:?}; known are `infer`, `infer:load`, `emit:<channel>`, `state:<bytes>`, `evidence` and \
                 `capture`"
            )),
        }
    }
}

/// A quota: decimal digits alone, without a zero before them, so that each grant has one form.
fn number(text: &str) -> Option<u64> {
    let is_plain = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|bytes| is_plain && (1..=MAX_STATE).contains(bytes))
}

impl Serialize for Grant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Grant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
