//! The topics of protocol.md: where everything lies in the broker.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{deployment::is_name, digest::Digest};

/// The prefix of all topics unless the operator sets another.
pub const DEFAULT_PREFIX: &str = "sanderling/v1";

/// Why a text is not a device id or a topic prefix.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TopicError {
    /// Device ids are also client certificates' common names and topic levels.
    #[error("{0:?} is not a device id: 1 to 64 characters of A-Z a-z 0-9 . _ - are")]
    DeviceId(String),
    /// A prefix is one or more levels without wildcards.
    #[error("{0:?} is not a topic prefix: levels of A-Z a-z 0-9 . _ - joined by / are, at most 128 characters")]
    Prefix(String),
}

/// A device's identity: the common name of its client certificate, and its MQTT client id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceId(String);

impl DeviceId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceId {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        if is_name(text) { Ok(Self(text.to_owned())) } else { Err(TopicError::DeviceId(text.to_owned())) }
    }
}

impl TryFrom<String> for DeviceId {
    type Error = TopicError;

    fn try_from(text: String) -> Result<Self, TopicError> {
        text.parse()
    }
}

impl From<DeviceId> for String {
    fn from(id: DeviceId) -> Self {
        id.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a message under `repo/`, `blob/` or `chunk/` is, by its topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Published {
    /// `repo/timestamp`.
    Timestamp,
    /// `repo/{version}.{role}`.
    Metadata {
        /// The version in the name.
        version: u64,
        /// The role, unescaped.
        role: String,
    },
    /// `blob/{sha256}`: the index of a blob.
    Index(Digest),
    /// `chunk/{sha256}`.
    Chunk(Digest),
}

/// Builds and reads topics under one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    prefix: String,
}

impl Topics {
    /// Topics under `prefix`.
    ///
    /// # Errors
    /// [`TopicError::Prefix`] where it is empty, too long, or has a wildcard or an empty level.
    pub fn new(prefix: &str) -> Result<Self, TopicError> {
        if prefix.len() <= 128 && prefix.split('/').all(is_name) {
            Ok(Self { prefix: prefix.to_owned() })
        } else {
            Err(TopicError::Prefix(prefix.to_owned()))
        }
    }

    /// The prefix.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The topic of a published message.
    pub fn published(&self, what: &Published) -> String {
        match what {
            Published::Timestamp => format!("{}/repo/timestamp", self.prefix),
            Published::Metadata { version, role } => {
                format!("{}/repo/{version}.{}", self.prefix, escape(role))
            }
            Published::Index(digest) => format!("{}/blob/{digest}", self.prefix),
            Published::Chunk(digest) => format!("{}/chunk/{digest}", self.prefix),
        }
    }

    /// What a topic names, `None` if it is not one of ours. Each message has one topic: other spellings of it are not ours.
    pub fn parse_published(&self, topic: &str) -> Option<Published> {
        let (kind, rest) = topic.strip_prefix(&self.prefix)?.strip_prefix('/')?.split_once('/')?;
        let what = match kind {
            "repo" if rest == "timestamp" => Published::Timestamp,
            "repo" => {
                let (version, role) = rest.split_once('.')?;
                Published::Metadata { version: version.parse().ok()?, role: unescape(role)? }
            }
            "blob" => Published::Index(rest.parse().ok()?),
            "chunk" => Published::Chunk(rest.parse().ok()?),
            _ => return None,
        };
        (self.published(&what) == topic).then_some(what)
    }

    /// The subtree of a device: `device/{id}/{rest}`, where `rest` is `status`, `reported`, `event`, `log`, or a longer path.
    pub fn device(&self, id: &DeviceId, rest: &str) -> String {
        format!("{}/device/{id}/{rest}", self.prefix)
    }

    /// `device/{id}/data/{module}/{channel}`.
    pub fn data(&self, id: &DeviceId, module: &str, channel: &str) -> String {
        self.device(id, &format!("data/{module}/{channel}"))
    }

    /// The filter for all commands to a device.
    pub fn commands(&self, id: &DeviceId) -> String {
        self.device(id, "cmd/+")
    }

    /// The device and the rest of a topic under `device/`.
    pub fn parse_device<'t>(&self, topic: &'t str) -> Option<(DeviceId, &'t str)> {
        let (id, rest) = topic.strip_prefix(&self.prefix)?.strip_prefix("/device/")?.split_once('/')?;
        Some((id.parse().ok()?, rest))
    }
}

impl Default for Topics {
    fn default() -> Self {
        Self { prefix: DEFAULT_PREFIX.to_owned() }
    }
}

/// Role names are free text in TUF; a topic level is not. What is outside `[A-Za-z0-9._-]` becomes `%XX`.
fn escape(role: &str) -> String {
    role.bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' => char::from(b).to_string(),
            _ => format!("%{b:02X}"),
        })
        .collect()
}

fn unescape(level: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(level.len());
    let mut rest = level.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_published_topic_reads_back() {
        let topics = Topics::default();
        for what in [
            Published::Timestamp,
            Published::Metadata { version: 7, role: "root".into() },
            Published::Metadata { version: 1, role: "a/b +#ü%".into() },
            Published::Index(Digest::of(b"x")),
            Published::Chunk(Digest::of(b"y")),
        ] {
            let topic = topics.published(&what);
            assert!(!topic.contains(['+', '#']), "{topic}");
            assert_eq!(topics.parse_published(&topic), Some(what));
        }
    }

    #[test]
    fn foreign_topics_are_not_ours() {
        let topics = Topics::default();
        for topic in
            ["", "sanderling/v1", "sanderling/v1/repo/x", "sanderling/v2/repo/timestamp", "sanderling/v1/chunk/00"]
        {
            assert_eq!(topics.parse_published(topic), None, "{topic}");
        }
        for other_spelling in
            ["repo/07.root", "repo/+7.root", "repo/7.%72oot", "repo/7.a%2fb", "repo/7.a/b", "repo/7.%+1"]
        {
            assert_eq!(topics.parse_published(&format!("sanderling/v1/{other_spelling}")), None, "{other_spelling}");
        }
    }

    #[test]
    fn refuses_ids_and_prefixes_with_wildcards() {
        assert!("a/b".parse::<DeviceId>().is_err());
        assert!("".parse::<DeviceId>().is_err());
        assert!(Topics::new("site/+").is_err());
        assert!(Topics::new("").is_err());
        assert!(Topics::new("site/7").is_ok());
    }

    #[test]
    fn finds_the_device_of_a_topic() {
        let topics = Topics::default();
        let id: DeviceId = "gw-1".parse().unwrap();
        let topic = topics.data(&id, "scratch", "defects");
        assert_eq!(topics.parse_device(&topic), Some((id, "data/scratch/defects")));
    }
}
