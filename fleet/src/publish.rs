//! Publishing what was signed: only what the broker does not hold already, in an order that never shows a device what is not there.
//!
//! What the broker holds is read back and checked against its digest, so that a publish that was cut off goes on where it was, and
//! one that was done changes nothing. With `quick` chunks are not read back where the broker holds the index that lists them: it was
//! published after them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use sanderling_protocol::{
    blob::ChunkDecoder,
    digest::Digest,
    topics::{self, Topics},
};

use crate::{
    connection::Connection,
    home::Home,
    progress::Progress,
    repo::{Ledger, Message, Payload, Phase, Plan, newer_timestamp},
    session::{self, Session, WINDOW_BYTES, WINDOW_TOPICS},
};

/// What was published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Published {
    /// Messages that were sent.
    pub(crate) uploaded: usize,
    /// Messages that the broker held already.
    pub(crate) skipped: usize,
    /// The payloads that were sent, in bytes.
    pub(crate) bytes: u64,
    /// The version of the timestamp.
    pub(crate) timestamp: u64,
    /// The version of the snapshot.
    pub(crate) snapshot: u64,
}

/// Brings the broker to hold all messages of the plan.
pub(crate) async fn publish(
    connection: Connection,
    home: &Home,
    topics: &Topics,
    plan: &Plan,
    quick: bool,
) -> Result<Published> {
    session::with(connection, topics, "publishing", async |session| {
        let held = held(session, home, topics, plan, quick).await?;
        let missing: Vec<&Message> =
            plan.messages.iter().filter(|message| !held.contains(message.topic.as_str())).collect();
        let mut progress = Progress::new("publishing", missing.iter().map(|message| message.weight()).sum());
        let mut bytes = 0;
        for phase in [Phase::Chunk, Phase::Index, Phase::Targets, Phase::Snapshot, Phase::Root, Phase::Timestamp] {
            if phase == Phase::Timestamp {
                Ledger::begin(home, plan.snapshot)?;
            }
            let now = missing.iter().filter(|message| message.phase == phase);
            let now = now.map(|message| Ok((message.topic.as_str(), message.bytes()?)));
            bytes += session.send(now, &mut progress).await?;
        }
        Ledger::finish(home, plan.snapshot)?;
        let (uploaded, skipped) = (missing.len(), plan.messages.len() - missing.len());
        Ok(Published { uploaded, skipped, bytes, timestamp: plan.timestamp, snapshot: plan.snapshot })
    })
    .await
}

/// The topics whose messages the broker holds as they are to be.
async fn held<'p>(
    session: &mut Session,
    home: &Home,
    topics: &Topics,
    plan: &'p Plan,
    quick: bool,
) -> Result<BTreeSet<&'p str>> {
    let (chunks, others): (Vec<&Message>, Vec<&Message>) =
        plan.messages.iter().partition(|message| message.phase == Phase::Chunk);
    let mut progress =
        Progress::new("looking at what the broker holds", plan.messages.iter().map(Message::weight).sum());
    let mut held = BTreeSet::new();
    let timestamp = topics.published(&topics::Published::Timestamp);
    for window in windows(&others) {
        let found = look(session, &window, &mut held, &mut progress).await?;
        if let Some(found) = found.get(&timestamp).filter(|_| !held.contains(timestamp.as_str()))
            && let Some(version) = newer_timestamp(home, found, plan.timestamp)?
        {
            bail!(
                "the broker holds timestamp {version}, signed with this fleet's key, and this folder has {}: it is not the copy that was published last. Bring that one here; devices would refuse this one as a rollback",
                plan.timestamp
            );
        }
    }
    let unsure = |message: &&&Message| match &message.payload {
        Payload::Chunk(place) if quick => !held.contains(index_topic(topics, &place.blob).as_str()),
        _ => true,
    };
    let (unsure, sure): (Vec<&Message>, Vec<&Message>) = chunks.iter().partition(|message| unsure(message));
    held.extend(sure.iter().map(|message| message.topic.as_str()));
    for window in windows(&unsure) {
        look(session, &window, &mut held, &mut progress).await?;
    }
    Ok(held)
}

fn index_topic(topics: &Topics, blob: &Digest) -> String {
    topics.published(&topics::Published::Index(*blob))
}

async fn look<'p>(
    session: &mut Session,
    window: &[&'p Message],
    held: &mut BTreeSet<&'p str>,
    progress: &mut Progress,
) -> Result<BTreeMap<String, Vec<u8>>> {
    let wanted: Vec<String> = window.iter().map(|message| message.topic.clone()).collect();
    let found = session.read(&wanted).await?;
    let mut decoder = ChunkDecoder::new();
    for message in window {
        if found.get(&message.topic).is_some_and(|found| is_same(message, found, &mut decoder)) {
            held.insert(message.topic.as_str());
        }
        progress.add(message.weight());
    }
    Ok(found)
}

/// A chunk may be compressed in another way; what counts is its content.
fn is_same(message: &Message, found: &[u8], decoder: &mut ChunkDecoder) -> bool {
    match &message.payload {
        Payload::Bytes(bytes) => bytes == found,
        Payload::Chunk(place) => decoder.decode(found, &place.chunk).is_ok(),
    }
}

/// Windows of so many messages that a broker's queue holds them.
fn windows<'m, 'p>(messages: &'m [&'p Message]) -> impl Iterator<Item = Vec<&'p Message>> + use<'m, 'p> {
    let mut rest = messages.iter().copied().peekable();
    std::iter::from_fn(move || {
        let mut window = vec![rest.next()?];
        let mut bytes = window.iter().map(|message| message.weight()).sum::<u64>();
        while window.len() < WINDOW_TOPICS
            && let Some(next) = rest.next_if(|next| bytes + next.weight() <= WINDOW_BYTES)
        {
            bytes += next.weight();
            window.push(next);
        }
        Some(window)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use sanderling_protocol::blob::{ChunkRef, encode_chunk};

    use super::*;
    use crate::repo::ChunkPlace;

    fn message(length: usize) -> Message {
        Message { phase: Phase::Index, topic: "t".to_owned(), payload: Payload::Bytes(vec![0; length]) }
    }

    #[test]
    fn windows_are_bounded_in_messages_and_bytes_and_lose_none() {
        let messages: Vec<Message> = (0..100).map(|at| message(if at < 50 { 100_000 } else { 10 })).collect();
        let all: Vec<&Message> = messages.iter().collect();
        let windows: Vec<Vec<&Message>> = windows(&all).collect();
        assert_eq!(windows.iter().map(Vec::len).sum::<usize>(), 100);
        for window in &windows {
            assert!(window.len() <= WINDOW_TOPICS);
            assert!(window.iter().map(|message| message.weight()).sum::<u64>() <= WINDOW_BYTES);
        }
        assert_eq!(windows[0].len(), 10);
        let large = message(2 << 20);
        assert_eq!(super::windows(&[&large]).count(), 1, "what is larger than a window is one of its own");
    }

    #[test]
    fn a_chunk_is_the_same_by_content_and_all_else_by_bytes() {
        let content = vec![7; 1000];
        let chunk = ChunkRef { digest: Digest::of(&content), length: 1000 };
        let place = ChunkPlace { file: "none".into(), blob: chunk.digest, offset: 0, chunk };
        let chunk = Message { payload: Payload::Chunk(place), ..message(0) };
        let same = |found: &[u8]| is_same(&chunk, found, &mut ChunkDecoder::new());
        assert!(same(&encode_chunk(&content)));
        assert!(same(&[&[0], &content[..]].concat()));
        assert!(!same(&encode_chunk(&[8; 1000])) && !same(b""));
        assert!(is_same(&message(3), &[0; 3], &mut ChunkDecoder::new()));
        assert!(!is_same(&message(3), &[0; 4], &mut ChunkDecoder::new()));
    }
}
