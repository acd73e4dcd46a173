//! What a client trusts, and the only ways in which that changes.
//!
//! Invariants:
//! - Each piece of metadata in here was signed by a threshold of the keys that its delegator named.
//! - Versions never go back, but for timestamp and snapshot when a root takes one of their keys away.
//! - Lookups answer from one complete set of targets roles. A refresh that fails half-way leaves the set as it was,
//!   while root, timestamp and snapshot, which are the floors, keep what they gained.
//! - A refusal changes nothing.

use std::collections::BTreeSet;

use super::error::TrustError;
use super::key::PublicKey;
use super::pattern::Work;
use super::schema::{Key, MetaFile, Role, Root, Signed, Snapshot, Targets, Timestamp};
use super::search::{Edge, Found, Kept, Roles, Scope, search};
use super::verify::{Envelope, check_expiry, check_size};
use super::{MAX_METADATA_LEN, keys_of};

/// What came of metadata that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// It is trusted now.
    Accepted,
    /// It has the version that is trusted already, which stays.
    Unchanged,
}

/// The metadata that a client trusts.
#[derive(Debug, Clone)]
pub struct Trusted {
    pub(crate) root: Kept<Root>,
    pub(crate) timestamp: Option<Kept<Timestamp>>,
    pub(crate) snapshot: Option<Kept<Snapshot>>,
    /// The complete set that lookups use.
    pub(crate) roles: Roles,
    /// The set that a refresh is gathering.
    pub(crate) incoming: Roles,
}

impl Trusted {
    /// Section 5.2: "Load the trusted root metadata file. … Note that the expiration of the trusted root metadata file does
    /// not matter". These bytes are the source of all trust: they come with the device's image.
    pub fn from_root(bytes: &[u8]) -> Result<Self, TrustError> {
        let envelope = Envelope::parse("root", bytes)?;
        let root: Root = envelope.peek("root")?;
        envelope.verify("root", &root.roles.root, &root.keys)?;
        let root = Kept { bytes: bytes.to_vec(), signed: root };
        Ok(Self { root, timestamp: None, snapshot: None, roles: Roles::new(), incoming: Roles::new() })
    }

    /// Trusts the next root (section 5.3). Its expiry is not looked at: it may be one of many on the way to the last.
    pub fn update_root(&mut self, bytes: &[u8]) -> Result<(), TrustError> {
        let envelope = Envelope::parse("root", bytes)?;
        let old = &self.root.signed;
        // 5.3.4: "MUST have been signed by: (1) a THRESHOLD of keys specified in the trusted root metadata file
        // (version N), and (2) a THRESHOLD of keys specified in the new root metadata file".
        envelope.verify("root", &old.roles.root, &old.keys)?;
        let root: Root = envelope.peek("root")?;
        envelope.verify("root", &root.roles.root, &root.keys)?;
        // 5.3.5: "The version number of the new root metadata (version N+1) MUST be exactly the version in the trusted
        // root metadata (version N) incremented by one".
        let expected = old.version().saturating_add(1);
        if root.version() != expected {
            return Err(TrustError::NotNextRoot { expected, found: root.version() });
        }
        // 5.3.11: "If the timestamp and / or snapshot keys have been rotated, then delete the trusted timestamp and snapshot
        // metadata files." Done at each step, for keys that are taken away and given back further on are rotated too.
        let rotated = lost_a_key((old, &old.roles.timestamp), (&root, &root.roles.timestamp))
            || lost_a_key((old, &old.roles.snapshot), (&root, &root.roles.snapshot));
        self.root = Kept { bytes: bytes.to_vec(), signed: root };
        if rotated {
            self.timestamp = None;
            self.snapshot = None;
        }
        self.incoming.clear();
        self.drop_revoked_targets();
        Ok(())
    }

    /// Trusts a timestamp (section 5.4), unless the one that is trusted is as new.
    pub fn update_timestamp(&mut self, bytes: &[u8], now: i64) -> Result<Update, TrustError> {
        // 5.3.10: "The expiration timestamp in the trusted root metadata file MUST be higher than the fixed update start time."
        check_expiry("root", &self.root.signed, now)?;
        let envelope = Envelope::parse("timestamp", bytes)?;
        let root = &self.root.signed;
        envelope.verify("timestamp", &root.roles.timestamp, &root.keys)?;
        let new: Timestamp = envelope.decode("timestamp")?;
        if let Some(Kept { signed: old, .. }) = &self.timestamp {
            // 5.4.3.1: "The version number of the trusted timestamp metadata file, if any, MUST be less than the version
            // number of the new timestamp metadata file. … In case they are equal, discard the new timestamp metadata".
            let (floor, found) = (old.version(), new.version());
            if found < floor {
                return Err(TrustError::Rollback { role: "timestamp".into(), floor, found });
            }
            if found == floor {
                check_expiry("timestamp", old, now)?;
                return Ok(Update::Unchanged);
            }
            // 5.4.3.2: "The version number of the snapshot metadata file in the trusted timestamp metadata file, if any,
            // MUST be less than or equal to its version number in the new timestamp metadata file."
            check_floor("timestamp", "snapshot", &old.meta.snapshot, &new.meta.snapshot)?;
        }
        // 5.4.4: "If the new timestamp metadata file has expired, discard it, abort the update cycle, and report the potential
        // freeze attack."
        check_expiry("timestamp", &new, now)?;
        self.timestamp = Some(Kept { bytes: bytes.to_vec(), signed: new });
        Ok(Update::Accepted)
    }

    /// Trusts the snapshot that the trusted timestamp lists (section 5.5).
    pub fn update_snapshot(&mut self, bytes: &[u8], now: i64) -> Result<(), TrustError> {
        let new = self.check_snapshot(bytes, now)?;
        self.snapshot = Some(Kept { bytes: bytes.to_vec(), signed: new });
        self.incoming.clear();
        Ok(())
    }

    fn check_snapshot(&self, bytes: &[u8], now: i64) -> Result<Snapshot, TrustError> {
        let timestamp = self.fresh_timestamp(now)?;
        let listed = &timestamp.meta.snapshot;
        check_size("snapshot", bytes, limit(listed))?;
        // 5.5.2: "The hashes of the new snapshot metadata file MUST match the hashes, if any, listed in the trusted timestamp
        // metadata. This is done, in part, to prevent a mix-and-match attack".
        listed.verify("snapshot", bytes)?;
        let envelope = Envelope::parse("snapshot", bytes)?;
        let root = &self.root.signed;
        envelope.verify("snapshot", &root.roles.snapshot, &root.keys)?;
        let new: Snapshot = envelope.decode("snapshot")?;
        // 5.5.4: "The version number of the new snapshot metadata file MUST match the version number listed in the trusted
        // timestamp metadata."
        check_listed_version("snapshot", listed, &new)?;
        // 5.5.5: "The version number of the targets metadata file, and all delegated targets metadata files, if any, in the
        // trusted snapshot metadata file, if any, MUST be less than or equal to its version number in the new snapshot
        // metadata file. Furthermore, any targets metadata filename that was listed in the trusted snapshot metadata file, if
        // any, MUST continue to be listed".
        for (file, old) in self.snapshot.iter().flat_map(|old| &old.signed.meta) {
            let role = file.strip_suffix(".json").unwrap_or(file);
            let listed = new.meta.get(file).ok_or_else(|| TrustError::Unlisted { role: role.into() })?;
            check_floor("snapshot", role, old, listed)?;
        }
        // 5.5.6: "If the new snapshot metadata file is expired, discard it".
        check_expiry("snapshot", &new, now)?;
        Ok(new)
    }

    /// Takes in the top-level targets metadata (section 5.6), for the set that is being gathered.
    pub fn update_targets(&mut self, bytes: &[u8], now: i64) -> Result<(), TrustError> {
        self.update_edge(&Edge::top(), bytes, now)
    }

    /// Takes in the metadata of a role to which `delegator`, a role taken in before, delegates (section 5.6).
    pub fn update_delegated(&mut self, role: &str, delegator: &str, bytes: &[u8], now: i64) -> Result<(), TrustError> {
        self.update_edge(&Edge { delegator: delegator.into(), role: role.into() }, bytes, now)
    }

    pub(crate) fn update_edge(&mut self, edge: &Edge, bytes: &[u8], now: i64) -> Result<(), TrustError> {
        let role = edge.role.as_str();
        let listed = self.listed(role, now)?;
        check_size(role, bytes, limit(listed))?;
        // 5.6.2: "The hashes of the new targets metadata file MUST match the hashes, if any, listed in the trusted snapshot
        // metadata."
        listed.verify(role, bytes)?;
        let new = verified(&self.root.signed, &self.incoming, edge, bytes)?;
        // 5.6.4: "The version number of the new targets metadata file MUST match the version number listed in the trusted
        // snapshot metadata."
        check_listed_version(role, listed, &new)?;
        // 5.6.5: "If the new targets metadata file is expired, discard it".
        check_expiry(role, &new, now)?;
        self.incoming.insert(edge.clone(), Kept { bytes: bytes.to_vec(), signed: new });
        Ok(())
    }

    /// What the snapshot lists of a role, if the snapshot is the one that the timestamp lists and has not expired.
    pub(crate) fn listed(&self, role: &str, now: i64) -> Result<&MetaFile, TrustError> {
        let timestamp = self.fresh_timestamp(now)?;
        let missing = || TrustError::OutOfOrder { role: role.into(), needs: "snapshot".into() };
        let snapshot = &self.snapshot.as_ref().ok_or_else(missing)?.signed;
        check_listed_version("snapshot", &timestamp.meta.snapshot, snapshot)?;
        check_expiry("snapshot", snapshot, now)?;
        snapshot.role(role).ok_or_else(|| TrustError::NotListed { role: role.into() })
    }

    pub(crate) fn fresh_timestamp(&self, now: i64) -> Result<&Timestamp, TrustError> {
        let missing = || TrustError::OutOfOrder { role: "snapshot".into(), needs: "timestamp".into() };
        let timestamp = &self.timestamp.as_ref().ok_or_else(missing)?.signed;
        check_expiry("timestamp", timestamp, now)?;
        Ok(timestamp)
    }

    /// Whether the trusted snapshot is still what the timestamp lists, so that none is fetched.
    pub(crate) fn snapshot_is_current(&self, now: i64) -> bool {
        self.snapshot.as_ref().is_some_and(|kept| self.check_snapshot(&kept.bytes, now).is_ok())
    }

    /// Takes a role over from what is trusted already, if the snapshot still lists just that.
    pub(crate) fn carry_over(&mut self, edge: &Edge, now: i64) -> bool {
        let known = self.incoming.iter().chain(&self.roles).find(|(known, _)| known.role == edge.role);
        let Some(bytes) = known.map(|(_, kept)| kept.bytes.clone()) else { return false };
        self.update_edge(edge, &bytes, now).is_ok()
    }

    /// Makes the gathered set the one that lookups use, if it is complete for `scope`; else says what is missing.
    pub(crate) fn settle(&mut self, scope: &Scope) -> Result<Option<Edge>, TrustError> {
        let missing = || TrustError::OutOfOrder { role: "targets".into(), needs: "snapshot".into() };
        let snapshot = &self.snapshot.as_ref().ok_or_else(missing)?.signed;
        if let Found::Missing(edge) = search(&self.incoming, scope.aim(snapshot), &mut Work::new())? {
            return Ok(Some(edge));
        }
        self.roles = std::mem::take(&mut self.incoming);
        Ok(None)
    }

    /// Targets signed by keys that a root took away are not trusted any longer.
    fn drop_revoked_targets(&mut self) {
        let Some(top) = self.roles.get(&Edge::top()) else { return };
        if verified(&self.root.signed, &Roles::new(), &Edge::top(), &top.bytes).is_err() {
            self.roles.clear();
        }
    }
}

/// Section 5.6.3: the metadata, if a threshold of the keys that its delegator names signed it.
pub(crate) fn verified(root: &Root, roles: &Roles, edge: &Edge, bytes: &[u8]) -> Result<Targets, TrustError> {
    let name = edge.role.as_str();
    let envelope = Envelope::parse(name, bytes)?;
    if *edge == Edge::top() {
        envelope.verify(name, &root.roles.targets, &root.keys)?;
        return envelope.decode(name);
    }
    let delegator = roles.iter().find(|(known, _)| known.role == edge.delegator);
    let missing = || TrustError::OutOfOrder { role: name.into(), needs: edge.delegator.clone() };
    let (_, delegator) = delegator.ok_or_else(missing)?;
    let (role, keys) = keys_of(&delegator.signed, name)
        .ok_or_else(|| TrustError::NotDelegated { role: name.into(), delegator: edge.delegator.clone() })?;
    envelope.verify(name, &role, keys)?;
    envelope.decode(name)
}

/// How many bytes of a role are read at most.
pub(crate) fn limit(listed: &MetaFile) -> u64 {
    listed.length.map_or(MAX_METADATA_LEN, |length| length.min(MAX_METADATA_LEN))
}

fn check_floor(lister: &str, role: &str, old: &MetaFile, new: &MetaFile) -> Result<(), TrustError> {
    let (floor, found) = (old.version.get(), new.version.get());
    if found < floor {
        return Err(TrustError::ListedRollback { lister: lister.into(), role: role.into(), floor, found });
    }
    Ok(())
}

fn check_listed_version<T: Signed>(role: &str, listed: &MetaFile, metadata: &T) -> Result<(), TrustError> {
    let (expected, found) = (listed.version.get(), metadata.version());
    if expected != found {
        return Err(TrustError::MixAndMatch { role: role.into(), expected, found });
    }
    Ok(())
}

/// Whether a key that could sign for a role no longer can. Keys that are only added leave the floors in force.
fn lost_a_key(old: (&Root, &Role), new: (&Root, &Role)) -> bool {
    let keys = |(root, role): (&Root, &Role)| -> BTreeSet<PublicKey> {
        let listed = role.keyids.iter().filter_map(|id| root.keys.get(id));
        listed.filter_map(|key: &Key| PublicKey::of(key)).collect()
    };
    !keys(old).is_subset(&keys(new))
}
