//! Collecting retained messages that nothing refers to any more.
//!
//! What was ever published is known from the metadata in `repo/metadata/`, whose versions all stay there; each of its messages is looked
//! for by its topic. With `sweep` the broker is also asked for everything that it retains, which finds what this folder knows nothing of
//! (see docs/decisions/0008-publishing-and-collecting.md for what that can and cannot find).
//!
//! Invariants: roots and the timestamp stay; so does what the current state, the one that the broker names, and `keep` published states
//! before it refer to. Metadata goes first, then indexes, then chunks: an index in the broker says that its chunks are there.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use sanderling_protocol::{
    blob::{BlobIndex, cut},
    topics::{Published, Topics},
};

use crate::{
    connection::Connection,
    home::{self, Home},
    progress::Progress,
    repo::{History, Ledger, Referenced, blob_path, newer_timestamp, snapshot_of, timestamp_version},
    session::{self, Session, WINDOW_TOPICS},
};

/// The most that a chunk or an index message has.
const MESSAGE: u64 = 64 * 1024;

/// What is kept, and how far is looked.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct GcOptions {
    /// How many published states before the current one stay whole, for devices in the middle of a pull.
    #[arg(long, default_value_t = 1)]
    pub(crate) keep: usize,
    /// Only say what would be removed.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Also ask the broker for everything that it retains, to find what this folder knows nothing of. Reads all content. Not while
    /// somebody publishes from another copy of this folder: what that has not finished yet is referred to by nothing.
    #[arg(long)]
    pub(crate) sweep: bool,
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Collected {
    /// Metadata messages.
    pub(crate) metadata: usize,
    /// Indexes of blobs.
    pub(crate) indexes: usize,
    /// Chunks.
    pub(crate) chunks: usize,
    /// Their payloads, in bytes.
    pub(crate) bytes: u64,
    /// Whether it was only looked.
    pub(crate) dry_run: bool,
    /// The snapshots that stay whole.
    pub(crate) kept_snapshots: BTreeSet<u64>,
    /// After a sweep: how many messages of the kept states the broker did not deliver. More than none says that its queue dropped some,
    /// so that others may have been missed too.
    pub(crate) unseen: Option<usize>,
}

/// What may be at the broker, with the length of its payload once it was seen there.
type Found = BTreeMap<Published, u64>;

/// Looks for what nothing refers to, and removes it.
pub(crate) async fn collect(
    connection: Connection,
    home: &Home,
    topics: &Topics,
    options: GcOptions,
) -> Result<Collected> {
    session::with(connection, topics, "collecting", async |session| {
        let (history, ledger) = (History::load(home)?, Ledger::load(home)?);
        let at_broker = current(session, home, topics, &history).await?;
        let kept_snapshots = history.kept(&ledger, Some(at_broker), options.keep);
        let referenced = history.referenced(&kept_snapshots)?;
        let kept = messages(session, home, topics, &referenced).await?;
        let ever = messages(session, home, topics, &history.ever()).await?;
        let suspects: Vec<Published> = ever.difference(&kept).cloned().collect();
        let mut garbage = look(session, topics, &suspects).await?;
        let mut unseen = None;
        if options.sweep {
            let found = sweep(session, topics).await?;
            unseen = Some(kept.iter().filter(|what| !found.contains_key(what)).count());
            garbage.extend(found.into_iter().filter(|(what, _)| is_garbage(what, &kept)));
        }
        if !options.dry_run {
            remove(session, topics, &garbage).await?;
        }
        Ok(summary(&garbage, options.dry_run, kept_snapshots, unseen))
    })
    .await
}

fn summary(garbage: &Found, dry_run: bool, kept_snapshots: BTreeSet<u64>, unseen: Option<usize>) -> Collected {
    let count = |fits: fn(&Published) -> bool| garbage.keys().filter(|what| fits(what)).count();
    Collected {
        metadata: count(|what| matches!(what, Published::Metadata { .. })),
        indexes: count(|what| matches!(what, Published::Index(_))),
        chunks: count(|what| matches!(what, Published::Chunk(_))),
        bytes: garbage.values().sum(),
        dry_run,
        kept_snapshots,
        unseen,
    }
}

fn is_garbage(what: &Published, kept: &BTreeSet<Published>) -> bool {
    match what {
        Published::Timestamp => false,
        Published::Metadata { role, .. } if role == "root" => false,
        what => !kept.contains(what),
    }
}

/// The snapshot that the broker's timestamp names. Refuses where another copy of the folder has published since.
async fn current(session: &mut Session, home: &Home, topics: &Topics, history: &History) -> Result<u64> {
    let topic = topics.published(&Published::Timestamp);
    let found = session.read(std::slice::from_ref(&topic)).await?;
    let found = found
        .get(&topic)
        .with_context(|| format!("nothing is published on {topic}: check --prefix, or publish first"))?;
    let named = snapshot_of(home, found)?.with_context(|| {
        format!("what the broker holds on {topic} was not signed with this fleet's timestamp key: publish first, or check --prefix")
    })?;
    if let Some(version) = newer_timestamp(home, found, timestamp_version(home)?.saturating_add(1))? {
        bail!(
            "the broker holds timestamp {version}, which this folder does not know: it is not the copy that was published last; collect from that one"
        );
    }
    if !history.has_snapshot(named) {
        bail!(
            "the broker names snapshot {named}, which is not in repo/metadata: bring {named}.snapshot.json and what it lists back"
        );
    }
    Ok(named)
}

/// The messages of what metadata refers to. Chunks are told from the blob's file, or from the index in the broker where there is none.
async fn messages(
    session: &mut Session,
    home: &Home,
    topics: &Topics,
    referenced: &Referenced,
) -> Result<BTreeSet<Published>> {
    let mut messages = referenced.metadata.clone();
    let mut elsewhere = Vec::new();
    for (blob, length) in &referenced.blobs {
        messages.insert(Published::Index(*blob));
        let file = blob_path(home, blob);
        if file.exists() {
            messages.extend(cut(&home::read(&file)?)?.0.chunks().iter().map(|chunk| Published::Chunk(chunk.digest)));
        } else {
            elsewhere.push((*blob, *length));
        }
    }
    for window in elsewhere.chunks(WINDOW_TOPICS) {
        let wanted: Vec<String> = window.iter().map(|(blob, _)| topics.published(&Published::Index(*blob))).collect();
        let found = session.read(&wanted).await?;
        for ((_, length), topic) in window.iter().zip(&wanted) {
            // An index that is not there, or is none, tells of no chunk that a device could pull.
            let index = found.get(topic).and_then(|message| BlobIndex::decode(message, *length).ok());
            let chunks = index.iter().flat_map(BlobIndex::chunks);
            messages.extend(chunks.map(|chunk| Published::Chunk(chunk.digest)));
        }
    }
    Ok(messages)
}

/// Those of the messages that the broker holds.
async fn look(session: &mut Session, topics: &Topics, suspects: &[Published]) -> Result<Found> {
    let mut progress = Progress::new("looking at what the broker holds", suspects.len() as u64 * MESSAGE);
    let mut held = Found::new();
    for window in suspects.chunks(WINDOW_TOPICS) {
        let wanted: Vec<String> = window.iter().map(|what| topics.published(what)).collect();
        let found = session.read(&wanted).await?;
        let lengths =
            window.iter().zip(&wanted).filter_map(|(what, topic)| Some((what.clone(), found.get(topic)?.len() as u64)));
        held.extend(lengths);
        progress.add(window.len() as u64 * MESSAGE);
    }
    Ok(held)
}

/// All that the broker delivers of what it retains under `repo/`, `blob/` and `chunk/`.
async fn sweep(session: &mut Session, topics: &Topics) -> Result<Found> {
    let mut found = Found::new();
    for kind in ["repo", "blob", "chunk"] {
        session
            .sweep(format!("{}/{kind}/+", topics.prefix()), |message| {
                if let Some(what) = topics.parse_published(&message.topic).filter(|_| !message.payload.is_empty()) {
                    found.insert(what, message.payload.len() as u64);
                }
            })
            .await?;
    }
    Ok(found)
}

/// Clears the topics: metadata, then indexes, then chunks.
async fn remove(session: &mut Session, topics: &Topics, garbage: &Found) -> Result<()> {
    let mut progress = Progress::new("collecting", 0);
    let kinds: [fn(&Published) -> bool; 3] = [
        |what| matches!(what, Published::Metadata { .. }),
        |what| matches!(what, Published::Index(_)),
        |what| matches!(what, Published::Chunk(_)),
    ];
    for is_kind in kinds {
        let cleared: Vec<String> =
            garbage.keys().filter(|what| is_kind(what)).map(|what| topics.published(what)).collect();
        session.send(cleared.iter().map(|topic| Ok((topic.as_str(), Vec::new()))), &mut progress).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use sanderling_protocol::digest::Digest;

    use super::*;

    fn metadata(version: u64, role: &str) -> Published {
        Published::Metadata { version, role: role.to_owned() }
    }

    #[test]
    fn roots_and_the_timestamp_are_never_garbage() {
        let kept = BTreeSet::from([metadata(2, "snapshot"), Published::Chunk(Digest::of(b"kept"))]);
        for what in [Published::Timestamp, metadata(1, "root"), metadata(99, "root"), metadata(2, "snapshot")] {
            assert!(!is_garbage(&what, &kept), "{what:?}");
        }
        assert!(!is_garbage(&Published::Chunk(Digest::of(b"kept")), &kept));
        for what in [metadata(1, "snapshot"), metadata(1, "releases"), Published::Chunk(Digest::of(b"old"))] {
            assert!(is_garbage(&what, &kept), "{what:?}");
        }
        assert!(is_garbage(&Published::Index(Digest::of(b"kept")), &kept), "an index is not the chunk of that digest");
    }

    #[test]
    fn the_summary_counts_by_kind() {
        let garbage = Found::from([
            (metadata(1, "snapshot"), 100),
            (Published::Index(Digest::of(b"a")), 10),
            (Published::Chunk(Digest::of(b"a")), 1000),
            (Published::Chunk(Digest::of(b"b")), 1000),
        ]);
        let told = summary(&garbage, true, BTreeSet::from([2]), None);
        assert_eq!((told.metadata, told.indexes, told.chunks, told.bytes), (1, 1, 2, 2110));
    }
}
