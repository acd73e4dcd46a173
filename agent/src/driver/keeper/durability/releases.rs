//! Deployments to install: blobs of a few chunks, of which each version shares most with the one before.

use std::{collections::BTreeMap, sync::Arc};

use sanderling_protocol::{
    blob::{BlobIndex, ChunkRef, MIN_CHUNK_LEN},
    digest::Digest,
};

use crate::{store::sim::Dice, sync::Slot};

/// A blob as it is published.
#[derive(Debug)]
pub(super) struct Blob {
    pub(super) index: Arc<BlobIndex>,
    pub(super) chunks: Vec<Arc<[u8]>>,
}

impl Blob {
    fn of(chunks: Vec<Arc<[u8]>>) -> (Digest, Self) {
        let refs: Vec<ChunkRef> =
            chunks.iter().map(|chunk| ChunkRef { digest: Digest::of(chunk), length: chunk.len() as u32 }).collect();
        let length = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let index = Arc::new(BlobIndex::new(length, refs).unwrap());
        (Digest::of(&chunks.concat()), Self { index, chunks })
    }

    pub(super) fn content(&self) -> Vec<u8> {
        self.chunks.concat()
    }
}

/// Everything that can be installed.
#[derive(Debug)]
pub(super) struct Releases {
    pub(super) blobs: BTreeMap<Digest, Blob>,
    pub(super) slots: Vec<Slot>,
}

impl Releases {
    pub(super) fn new() -> Self {
        let mut dice = Dice::new(4711);
        let mut chunks: Vec<Vec<Arc<[u8]>>> =
            [2, 4].iter().map(|count| (0..*count).map(|_| chunk(&mut dice)).collect()).collect();
        let (mut blobs, mut slots) = (BTreeMap::new(), Vec::new());
        for version in 1..=6_u64 {
            let mut artifacts = Vec::new();
            for (artifact, chunks) in chunks.iter_mut().enumerate() {
                let changed = dice.place(chunks.len());
                chunks[changed] = chunk(&mut dice);
                let (digest, blob) = Blob::of(chunks.clone());
                artifacts.push(serde_json::json!({
                    "path": format!("modules/{artifact}/{version}"), "sha256": digest, "length": blob.index.length()
                }));
                blobs.insert(digest, blob);
            }
            let document = format!("{{\"version\":{version},\"text\":\"{}\"}}", "x".repeat(dice.place(3000)));
            let (digest, blob) = Blob::of(vec![document.as_bytes().into()]);
            artifacts.push(serde_json::json!({
                "path": format!("deployments/{version}"), "sha256": digest, "length": blob.index.length()
            }));
            blobs.insert(digest, blob);
            let slot = serde_json::json!({
                "name": format!("line-{version}"), "version": version, "digest": digest,
                "document": document, "artifacts": artifacts
            });
            slots.push(serde_json::from_value(slot).unwrap());
        }
        Self { blobs, slots }
    }
}

/// As short as a chunk may be, or a little longer.
fn chunk(dice: &mut Dice) -> Arc<[u8]> {
    let length = MIN_CHUNK_LEN as usize + dice.place(1000);
    (0..length).map(|_| dice.any() as u8).collect()
}
