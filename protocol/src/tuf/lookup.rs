//! What a client asks of the metadata that it trusts, and how that metadata survives a restart.

use std::collections::{BTreeMap, BTreeSet};

use super::error::TrustError;
use super::keys_of;
use super::pattern::Work;
use super::schema::{Root, Signed, Snapshot, TargetFile, Targets, Timestamp};
use super::search::{Aim, Edge, Found, Kept, Roles, search};
use super::trusted::{Trusted, verified};
use super::verify::Envelope;

/// A target that a trusted role speaks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resolved<'a> {
    /// Its path.
    pub path: &'a str,
    /// What is signed of it.
    pub file: &'a TargetFile,
    /// The role that signed it.
    pub role: &'a str,
}

/// What [`Trusted::restore`] found in a store.
#[derive(Debug, Clone)]
pub struct Restored {
    /// What is trusted again.
    pub trusted: Trusted,
    /// What was not, by name: damaged, or signed with keys that are no longer trusted. Worth a report.
    pub refused: Vec<(String, TrustError)>,
}

impl Trusted {
    /// What is signed of a target, and by which role; `None` if no role that is trusted for the path has it.
    ///
    /// # Errors
    /// `NotLoaded` before the first complete refresh, or if a role that has to be asked was not loaded; `TooMuchWork` if
    /// somebody signed patterns and paths to keep clients busy.
    pub fn target(&self, path: &str) -> Result<Option<(&TargetFile, &str)>, TrustError> {
        self.target_within(path, &mut Work::new())
    }

    fn target_within(&self, path: &str, work: &mut Work) -> Result<Option<(&TargetFile, &str)>, TrustError> {
        match search(&self.roles, Aim::Path(path), work)? {
            Found::Target(file, role) => Ok(Some((file, role))),
            Found::Nothing => Ok(None),
            Found::Missing(edge) => Err(TrustError::NotLoaded { role: edge.role }),
        }
    }

    /// All targets whose path begins with `prefix`, by path, each from the role that a search for it ends at. What a role
    /// says of paths that it is not trusted for does not appear.
    ///
    /// # Errors
    /// As [`Trusted::target`].
    pub fn targets_under<'a>(&'a self, prefix: &str) -> Result<Vec<Resolved<'a>>, TrustError> {
        if self.roles.is_empty() {
            return Err(TrustError::NotLoaded { role: "targets".into() });
        }
        let all = self.roles.values().flat_map(|kept| kept.signed.targets.keys());
        let paths: BTreeSet<&'a str> = all.map(String::as_str).filter(|path| path.starts_with(prefix)).collect();
        let mut resolved = Vec::new();
        let mut work = Work::new();
        for path in paths {
            if let Some((file, role)) = self.target_within(path, &mut work)? {
                resolved.push(Resolved { path, file, role });
            }
        }
        Ok(resolved)
    }

    /// The version of `root`, `timestamp`, `snapshot`, or of a targets role in the set that lookups use.
    pub fn version(&self, role: &str) -> Option<u64> {
        self.head(role).map(|(version, _)| version)
    }

    /// When the metadata of a role expires, in unix seconds.
    pub fn expires(&self, role: &str) -> Option<i64> {
        self.head(role).map(|(_, expires)| expires)
    }

    /// The role whose metadata expires first, and when, in unix seconds. From then on a device is stale.
    pub fn first_expiry(&self) -> (&str, i64) {
        let roles = self.roles.keys().map(|edge| edge.role.as_str());
        let dated = ["timestamp", "snapshot"].into_iter().chain(roles);
        let dated = dated.filter_map(|role| Some((role, self.expires(role)?)));
        dated.chain([("root", self.root.signed.expires())]).min_by_key(|(_, at)| *at).unwrap_or(("root", i64::MIN))
    }

    /// Whether lookups answer from what the trusted snapshot lists. `false` before the first complete refresh, and after
    /// one that ended half-way.
    pub fn is_current(&self) -> bool {
        let listed = |role: &str| Some(self.snapshot.as_ref()?.signed.role(role)?.version.get());
        !self.roles.is_empty()
            && self.roles.iter().all(|(edge, kept)| listed(&edge.role) == Some(kept.signed.version()))
    }

    /// Whether every role that is delegated to is loaded, so that what lookups do not find was not signed. `false` where a store
    /// gave back less than was stored.
    pub fn is_complete(&self) -> bool {
        let Some(snapshot) = &self.snapshot else { return false };
        matches!(search(&self.roles, Aim::All(&snapshot.signed), &mut Work::new()), Ok(Found::Nothing))
    }

    /// The trusted root.
    pub fn root(&self) -> &Root {
        &self.root.signed
    }

    fn head(&self, role: &str) -> Option<(u64, i64)> {
        fn of<T: Signed>(kept: &Kept<T>) -> (u64, i64) {
            (kept.signed.version(), kept.signed.expires())
        }
        match role {
            "root" => Some(of(&self.root)),
            "timestamp" => self.timestamp.as_ref().map(of),
            "snapshot" => self.snapshot.as_ref().map(of),
            _ => self.roles.iter().find(|(edge, _)| edge.role == role).map(|(_, kept)| of(kept)),
        }
    }

    /// What a store keeps: the role's name and the message, byte for byte. All of it belongs into one transaction, and
    /// replaces what was stored before.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let root = ("root", self.root.bytes.as_slice());
        let timestamp = self.timestamp.iter().map(|kept| ("timestamp", kept.bytes.as_slice()));
        let snapshot = self.snapshot.iter().map(|kept| ("snapshot", kept.bytes.as_slice()));
        let roles = self.roles.iter().map(|(edge, kept)| (edge.role.as_str(), kept.bytes.as_slice()));
        [root].into_iter().chain(timestamp).chain(snapshot).chain(roles)
    }

    /// Trusts again what a store kept. Signatures are verified anew; expiry is not looked at, so that versions stay floors
    /// however long the device was off. `shipped_root` is the root of the device's image: it is used where none is stored
    /// that is as new. What cannot be trusted is left out and named.
    ///
    /// # Errors
    /// Only if `shipped_root` cannot be trusted.
    pub fn restore(shipped_root: &[u8], files: &BTreeMap<String, Vec<u8>>) -> Result<Restored, TrustError> {
        let mut trusted = Self::from_root(shipped_root)?;
        let mut refused = Vec::new();
        match files.get("root").map(|bytes| Self::from_root(bytes)) {
            Some(Ok(stored)) if stored.root.signed.version >= trusted.root.signed.version => trusted = stored,
            Some(Err(cause)) => refused.push(("root".to_owned(), cause)),
            _ => {}
        }
        let mut keep = |role: &str, cause: TrustError| refused.push((role.to_owned(), cause));
        let root = &trusted.root.signed;
        if let Some(bytes) = files.get("timestamp") {
            let role = &root.roles.timestamp;
            let timestamp =
                kept::<Timestamp>("timestamp", bytes, |envelope| envelope.verify("timestamp", role, &root.keys));
            trusted.timestamp = timestamp.map_err(|cause| keep("timestamp", cause)).ok();
        }
        if let Some(bytes) = files.get("snapshot") {
            let role = &root.roles.snapshot;
            let snapshot =
                kept::<Snapshot>("snapshot", bytes, |envelope| envelope.verify("snapshot", role, &root.keys));
            trusted.snapshot = snapshot.map_err(|cause| keep("snapshot", cause)).ok();
        }
        trusted.roles = restore_roles(root, files, &mut keep);
        Ok(Restored { trusted, refused })
    }
}

fn kept<T: Signed>(
    role: &str,
    bytes: &[u8],
    verify: impl FnOnce(&Envelope) -> Result<(), TrustError>,
) -> Result<Kept<T>, TrustError> {
    let envelope = Envelope::parse(role, bytes)?;
    verify(&envelope)?;
    Ok(Kept { bytes: bytes.to_vec(), signed: envelope.decode(role)? })
}

/// Follows delegations through what is stored; each name is tried once a delegator, so this ends.
fn restore_roles(root: &Root, files: &BTreeMap<String, Vec<u8>>, refuse: &mut impl FnMut(&str, TrustError)) -> Roles {
    let mut roles = Roles::new();
    let mut tried = BTreeSet::new();
    let mut to_try = vec![Edge::top()];
    while let Some(edge) = to_try.pop() {
        let Some(bytes) = files.get(&edge.role) else { continue };
        if !tried.insert(edge.clone()) {
            continue;
        }
        match verified(root, &roles, &edge, bytes) {
            Ok(signed) => {
                to_try.extend(delegated_among(&signed, &edge.role, files));
                roles.insert(edge, Kept { bytes: bytes.clone(), signed });
            }
            Err(cause) => refuse(&edge.role, cause),
        }
    }
    roles
}

fn delegated_among(targets: &Targets, delegator: &str, files: &BTreeMap<String, Vec<u8>>) -> Vec<Edge> {
    let delegated = files.keys().filter(|name| keys_of(targets, name).is_some());
    delegated.map(|name| Edge { delegator: delegator.into(), role: name.clone() }).collect()
}
