//! The repository as retained messages, in the order in which they are published.

use std::collections::BTreeMap;

use anyhow::Result;
use sanderling_protocol::{
    blob::{cut, encode_chunk},
    digest::Digest,
    topics::{Published, Topics},
};

use super::{State, blob_file, metadata_file};
use crate::{
    home::{self, Home},
    keys::SigningRole,
};

/// A retained message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Its topic.
    pub(crate) topic: String,
    /// Its payload.
    pub(crate) payload: Vec<u8>,
}

/// Everything that the broker must hold: chunks and indexes, then metadata, and last the timestamp, whose arrival makes devices look at
/// the rest.
pub(crate) fn messages(home: &Home, topics: &Topics) -> Result<Vec<Message>> {
    let state = State::load(home)?;
    let mut messages = BTreeMap::new();
    let mut put = |what: &Published, payload: Vec<u8>| messages.insert(topics.published(what), payload);
    for staged in state.releases.values().chain(state.deployments.values()) {
        let content = home::read(&home.path(blob_file(&staged.sha256)))?;
        let (index, chunks) = cut(&content)?;
        for chunk in chunks {
            put(&Published::Chunk(Digest::of(chunk)), encode_chunk(chunk));
        }
        put(&Published::Index(staged.sha256), index.encode());
    }
    let mut messages: Vec<Message> = messages.into_iter().map(|(topic, payload)| Message { topic, payload }).collect();
    let mut metadata = |what: Published, version: u64, role: &str| -> Result<()> {
        let payload = home::read(&home.path(metadata_file(version, role)))?;
        messages.push(Message { topic: topics.published(&what), payload });
        Ok(())
    };
    let versioned = |role: &str, version| Published::Metadata { version, role: role.to_owned() };
    for version in 1..=state.version("root") {
        metadata(versioned("root", version), version, "root")?;
    }
    for role in [SigningRole::Targets, SigningRole::Releases, SigningRole::Deployments, SigningRole::Snapshot] {
        let version = state.version(role.name());
        metadata(versioned(role.name(), version), version, role.name())?;
    }
    metadata(Published::Timestamp, state.version("timestamp"), "timestamp")?;
    Ok(messages)
}
