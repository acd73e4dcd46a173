//! What a broker must hold, as retained messages in the order in which they are published.
//!
//! The order is what keeps a device from seeing metadata that refers to what is not there yet: chunks, then the indexes that
//! list them, then metadata from the leaves up, and last the timestamp, whose arrival makes devices look at the rest. It also means that
//! an index in the broker says that its chunks were there before it.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{Read, Seek, SeekFrom},
};

use anyhow::{Context, Result, bail};
use sanderling_protocol::{
    blob::{ChunkRef, cut, encode_chunk},
    digest::Digest,
    topics::{Published, Topics},
    tuf::{Targets, author},
};

use super::{State, audit::audit, blob_file, metadata_file};
use crate::home::{self, Home};

/// The order of publishing: all of a phase is acknowledged before the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Content.
    Chunk,
    /// Lists of chunks.
    Index,
    /// Releases, deployments and targets.
    Targets,
    /// The snapshot.
    Snapshot,
    /// Roots, oldest first.
    Root,
    /// The timestamp.
    Timestamp,
}

/// Where the content of a chunk lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChunkPlace {
    /// The blob's file.
    pub(crate) file: std::path::PathBuf,
    /// The blob.
    pub(crate) blob: Digest,
    /// Where in the blob it begins, in bytes.
    pub(crate) offset: u64,
    /// Its digest and length.
    pub(crate) chunk: ChunkRef,
}

/// What a message carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A chunk, which is read and compressed when it is sent.
    Chunk(ChunkPlace),
}

/// A retained message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// When it is sent.
    pub(crate) phase: Phase,
    /// Its topic.
    pub(crate) topic: String,
    /// What it carries.
    pub(crate) payload: Payload,
}

impl Message {
    /// The payload, as it is sent.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>> {
        let place = match &self.payload {
            Payload::Bytes(bytes) => return Ok(bytes.clone()),
            Payload::Chunk(place) => place,
        };
        let mut content = vec![0; usize::try_from(place.chunk.length)?];
        let mut read = || {
            let mut file = File::open(&place.file)?;
            file.seek(SeekFrom::Start(place.offset))?;
            file.read_exact(&mut content)
        };
        read().with_context(|| format!("could not read {}", place.file.display()))?;
        if Digest::of(&content) != place.chunk.digest {
            bail!("{} changed while it was published; publish again", place.file.display());
        }
        Ok(encode_chunk(&content))
    }

    /// About how many bytes it has; what a chunk has before it is compressed.
    pub(crate) fn weight(&self) -> u64 {
        match &self.payload {
            Payload::Bytes(bytes) => bytes.len() as u64,
            Payload::Chunk(place) => u64::from(place.chunk.length),
        }
    }
}

/// All that is to be published.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The messages, in order.
    pub(crate) messages: Vec<Message>,
    /// The version of the snapshot.
    pub(crate) snapshot: u64,
    /// The version of the timestamp.
    pub(crate) timestamp: u64,
}

/// What was signed last, as messages. What a device would refuse is refused here.
pub(crate) fn plan(home: &Home, topics: &Topics) -> Result<Plan> {
    let state = State::load(home)?;
    audit(home, &state)?;
    let mut messages = blobs(home, topics, &signed_blobs(home, &state)?)?;
    let mut metadata = |phase: Phase, version: u64, role: &str| -> Result<()> {
        let payload = Payload::Bytes(home::read(&home.path(metadata_file(version, role)))?);
        let what = match phase {
            Phase::Timestamp => Published::Timestamp,
            _ => Published::Metadata { version, role: role.to_owned() },
        };
        messages.push(Message { phase, topic: topics.published(&what), payload });
        Ok(())
    };
    for role in ["releases", "deployments", "targets"] {
        metadata(Phase::Targets, state.version(role), role)?;
    }
    metadata(Phase::Snapshot, state.version("snapshot"), "snapshot")?;
    for version in 1..=state.version("root") {
        metadata(Phase::Root, version, "root")?;
    }
    metadata(Phase::Timestamp, state.version("timestamp"), "timestamp")?;
    messages.sort_by_key(|message| message.phase);
    Ok(Plan { messages, snapshot: state.version("snapshot"), timestamp: state.version("timestamp") })
}

/// The blobs that signed metadata lists, each once.
fn signed_blobs(home: &Home, state: &State) -> Result<BTreeSet<Digest>> {
    let mut blobs = BTreeSet::new();
    for role in ["releases", "deployments"] {
        let targets: Targets = author::read(&state.read_signed(home, role)?)?;
        for (path, file) in targets.targets {
            blobs.insert(file.sha256().with_context(|| format!("{path}: signed without a SHA-256 digest"))?);
        }
    }
    Ok(blobs)
}

fn blobs(home: &Home, topics: &Topics, digests: &BTreeSet<Digest>) -> Result<Vec<Message>> {
    let mut messages = Vec::new();
    let mut known = BTreeSet::new();
    for digest in digests {
        let file = home.path(blob_file(digest));
        let content = home::read(&file)?;
        if Digest::of(&content) != *digest {
            bail!("{} is damaged: add the module, model or deployment again", file.display());
        }
        let (index, _) = cut(&content)?;
        for (offset, chunk) in index.placed() {
            if known.insert(chunk.digest) {
                let topic = topics.published(&Published::Chunk(chunk.digest));
                let place = ChunkPlace { file: file.clone(), blob: *digest, offset, chunk };
                messages.push(Message { phase: Phase::Chunk, topic, payload: Payload::Chunk(place) });
            }
        }
        let topic = topics.published(&Published::Index(*digest));
        messages.push(Message { phase: Phase::Index, topic, payload: Payload::Bytes(index.encode()) });
    }
    Ok(messages)
}
