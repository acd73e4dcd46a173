//! Is what was signed whole? Before anything is published, the client workflow goes over it as a device would, from the first
//! root on. Expiry is left out: that is told, not refused, for whoever publishes may be about to renew.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use sanderling_protocol::tuf::{FetchSpec, Refresh, Signed as _, Step, Timestamp, Trusted, author};

use super::{State, metadata_file, trust::Trust};
use crate::{
    home::{self, Home},
    keys::SigningRole,
};

/// Checks the metadata that the state names, as a device that has the first root.
pub(super) fn audit(home: &Home, state: &State) -> Result<()> {
    let mut files = BTreeMap::new();
    for version in 1..=state.version("root") {
        files.insert(("root".to_owned(), version), home::read(&home.path(metadata_file(version, "root")))?);
    }
    for role in ["targets", "releases", "deployments", "snapshot"] {
        files.insert((role.to_owned(), state.version(role)), state.read_signed(home, role)?);
    }
    let timestamp = state.read_signed(home, "timestamp")?;
    whole(state, &files, &timestamp)
}

fn whole(state: &State, files: &BTreeMap<(String, u64), Vec<u8>>, timestamp: &[u8]) -> Result<()> {
    let check = || -> Result<()> {
        walk(files, timestamp)?;
        // A signing that was cut off may have written its timestamp before the state.
        let (found, named) = (author::read::<Timestamp>(timestamp)?.version(), state.version("timestamp"));
        ensure!(found == named, "timestamp.json is version {found}, repo/state.json names {named}");
        Ok(())
    };
    check().context(
        "what was signed is not whole, and a device would refuse it: sign again with `sanderling repo sign`; nothing was published",
    )
}

fn walk(files: &BTreeMap<(String, u64), Vec<u8>>, timestamp: &[u8]) -> Result<()> {
    let first = files.get(&("root".to_owned(), 1)).context("the first root is missing")?;
    let mut refresh = Refresh::start(Trusted::from_root(first)?, i64::MIN);
    while let Step::Fetch(FetchSpec { role, version, .. }) = refresh.next() {
        let found = match version {
            None => Some(timestamp),
            Some(version) => files.get(&(role, version)).map(Vec::as_slice),
        };
        match found {
            Some(bytes) => refresh.supply(bytes)?,
            None => refresh.absent()?,
        }
    }
    Ok(())
}

/// The version of a timestamp that the broker holds, where this fleet's key signed it and devices that have it would refuse ours
/// of version `ours`: then another copy of the folder has published.
pub(crate) fn newer_timestamp(home: &Home, found: &[u8], ours: u64) -> Result<Option<u64>> {
    let trust = Trust::load(home, &State::load(home)?)?;
    let (role, keys) = trust.role(SigningRole::Timestamp)?;
    if author::check_signatures(found, "timestamp", &role, keys).is_err() {
        return Ok(None);
    }
    let version = author::read::<Timestamp>(found)?.version();
    Ok((version >= ours).then_some(version))
}

/// The snapshot that a timestamp of the broker names, where this fleet's key signed it.
pub(crate) fn snapshot_of(home: &Home, timestamp: &[u8]) -> Result<Option<u64>> {
    let trust = Trust::load(home, &State::load(home)?)?;
    let (role, keys) = trust.role(SigningRole::Timestamp)?;
    if author::check_signatures(timestamp, "timestamp", &role, keys).is_err() {
        return Ok(None);
    }
    Ok(Some(author::read::<Timestamp>(timestamp)?.meta.snapshot.version.get()))
}
