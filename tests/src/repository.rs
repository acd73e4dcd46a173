//! A fleet's repository as messages that a test may change before they are published, and staging without the checks of the
//! operator's tool: what a broker, a thief of keys or a mistaken operator could send.

use std::fs;

use sanderling_protocol::{
    blob::{BlobIndex, cut, encode_chunk},
    digest::Digest,
    topics::{Published, Topics},
};
use serde_json::{Value, json};

use crate::Fleet;

/// Messages in the order in which they are published: chunks and indexes, then metadata, the timestamp last.
#[derive(Clone, Debug, Default)]
pub struct Publication {
    messages: Vec<(Published, Vec<u8>)>,
}

impl Publication {
    /// What `sanderling repo publish` would send.
    pub fn of(fleet: &Fleet) -> Self {
        let state = state(fleet);
        let mut publication = Self::default();
        for digest in staged(&state) {
            let content = fs::read(fleet.path(format!("repo/blobs/{digest}"))).unwrap();
            publication.blob(digest, &content);
        }
        for role in ["root", "targets", "releases", "deployments", "snapshot"] {
            let last = state["signed"][role]["version"].as_u64().unwrap();
            let first = if role == "root" { 1 } else { last };
            for version in first..=last {
                let bytes = fs::read(fleet.path(format!("repo/metadata/{version}.{role}.json"))).unwrap();
                publication.messages.push((Published::Metadata { version, role: role.to_owned() }, bytes));
            }
        }
        let timestamp = fs::read(fleet.path("repo/metadata/timestamp.json")).unwrap();
        publication.messages.push((Published::Timestamp, timestamp));
        publication
    }

    /// Publishes `content` where the blob `digest` belongs, whatever it is.
    pub fn blob(&mut self, digest: Digest, content: &[u8]) {
        let (index, chunks) = cut(content).unwrap();
        for chunk in chunks {
            self.put(Published::Chunk(Digest::of(chunk)), encode_chunk(chunk));
        }
        self.put(Published::Index(digest), index.encode());
    }

    /// Sets a message. One that is new comes before all others.
    pub fn put(&mut self, what: Published, payload: Vec<u8>) {
        match self.messages.iter_mut().find(|(found, _)| *found == what) {
            Some((_, old)) => *old = payload,
            None => self.messages.insert(0, (what, payload)),
        }
    }

    /// A message.
    pub fn get(&self, what: &Published) -> Option<Vec<u8>> {
        self.messages.iter().find(|(found, _)| found == what).map(|(_, payload)| payload.clone())
    }

    /// The chunks of a blob, as its index lists them.
    pub fn chunks(&self, digest: Digest, length: usize) -> Vec<Digest> {
        let message = self.get(&Published::Index(digest)).unwrap();
        let index = BlobIndex::decode(&message, length as u64).unwrap();
        index.chunks().iter().map(|chunk| chunk.digest).collect()
    }

    /// Topics and payloads.
    pub(crate) fn messages<'a>(&'a self, topics: &'a Topics) -> impl Iterator<Item = (String, &'a [u8])> {
        self.messages.iter().map(|(what, payload)| (topics.published(what), payload.as_slice()))
    }
}

impl Fleet {
    /// Replaces the content of a staged target by something that the tool would not take.
    pub fn restage(&self, path: &str, content: &[u8]) -> Digest {
        let digest = Digest::of(content);
        fs::write(self.path(format!("repo/blobs/{digest}")), content).unwrap();
        let mut state = state(self);
        let role = if path.starts_with("deployments/") { "deployments" } else { "releases" };
        let entry = &mut state[role][path];
        assert!(entry.is_object(), "{path} is not staged");
        entry["sha256"] = json!(digest);
        entry["length"] = json!(content.len());
        fs::write(self.path("repo/state.json"), serde_json::to_vec(&state).unwrap()).unwrap();
        digest
    }
}

fn state(fleet: &Fleet) -> Value {
    serde_json::from_slice(&fs::read(fleet.path("repo/state.json")).unwrap()).unwrap()
}

fn staged(state: &Value) -> Vec<Digest> {
    let of = |role: &str| state[role].as_object().into_iter().flatten();
    let digest = |entry: &Value| serde_json::from_value(entry["sha256"].clone()).unwrap();
    of("releases").chain(of("deployments")).map(|(_, entry)| digest(entry)).collect()
}
