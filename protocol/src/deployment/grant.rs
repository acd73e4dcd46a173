//! Capabilities, written as `infer`, `infer:load` or `emit:<channel>`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A capability that a deployment gives to a guest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Grant {
    /// Inference with the models bound in the deployment.
    Infer,
    /// Inference with models that the guest brings itself, besides [`Grant::Infer`].
    InferLoad,
    /// Emitting records on this channel.
    Emit(String),
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Infer => f.write_str("infer"),
            Self::InferLoad => f.write_str("infer:load"),
            Self::Emit(channel) => write!(f, "emit:{channel}"),
        }
    }
}

impl FromStr for Grant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "infer" => Ok(Self::Infer),
            Some(("infer", "load")) => Ok(Self::InferLoad),
            Some(("emit", channel)) if !channel.is_empty() => Ok(Self::Emit(channel.to_owned())),
            _ => Err(format!("unknown grant {text:?}; known are `infer`, `infer:load` and `emit:<channel>`")),
        }
    }
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
