//! What a device makes of what is signed or published: the client workflow, and whether all that it needs is there.

use std::collections::BTreeMap;

use sanderling_protocol::{
    blob::{BlobIndex, ChunkDecoder},
    tuf::{Refresh, Step, TrustError, Trusted},
};

use super::Fleet;

/// Messages by topic without the prefix.
pub(crate) type Messages = BTreeMap<String, Vec<u8>>;

/// What `repo/metadata/` would be at a broker.
pub(crate) fn signed(fleet: &Fleet) -> Messages {
    let entries = std::fs::read_dir(fleet.path("fleet/repo/metadata")).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (format!("repo/{}", name.strip_suffix(".json").unwrap()), std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// A device that was given the first root.
pub(crate) fn new(fleet: &Fleet) -> Trusted {
    Trusted::from_root(&std::fs::read(fleet.path("fleet/repo/metadata/1.root.json")).unwrap()).unwrap()
}

/// A refresh from these messages.
pub(crate) fn refresh(trusted: Trusted, messages: &Messages, now: i64) -> Result<Trusted, TrustError> {
    let mut refresh = Refresh::start(trusted, now);
    while let Step::Fetch(wanted) = refresh.next() {
        let version = wanted.version.map(|version| format!("{version}.")).unwrap_or_default();
        match messages.get(&format!("repo/{version}{}", wanted.role)) {
            Some(bytes) => refresh.supply(bytes)?,
            None => refresh.absent()?,
        }
    }
    Ok(refresh.finish())
}

/// Pulls every target; gives their paths. Fails the test where something is not there or wrong.
pub(crate) fn pull(trusted: &Trusted, messages: &Messages) -> Vec<String> {
    let mut paths = Vec::new();
    for target in trusted.targets_under("").unwrap() {
        let digest = target.file.sha256().unwrap();
        let index = messages.get(&format!("blob/{digest}")).unwrap_or_else(|| panic!("{}: no index", target.path));
        let index = BlobIndex::decode(index, target.file.length).unwrap();
        let mut content = Vec::new();
        for chunk in index.chunks() {
            let message = messages.get(&format!("chunk/{}", chunk.digest));
            let message = message.unwrap_or_else(|| panic!("{}: a chunk is missing", target.path));
            content.extend_from_slice(ChunkDecoder::new().decode(message, chunk).unwrap());
        }
        target.file.verify(target.path, &content).unwrap();
        paths.push(target.path.to_owned());
    }
    paths
}
