//! Root metadata in words: what a signer reads before signing.

use std::collections::BTreeSet;
use std::fmt;

use crate::tuf::schema::{Role, Root, Signed as _};

/// How many signatures a root lacks, and of which keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortfall {
    /// What the root in force demands.
    pub old: Missing,
    /// What the new root demands.
    pub new: Missing,
}

/// How many keys of a role have not signed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The version of the root that demands it.
    pub version: u64,
    /// How many more must sign.
    pub count: usize,
    /// The ids of the keys that may.
    pub keys: Vec<String>,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open: Vec<String> = [&self.old, &self.new]
            .into_iter()
            .filter(|missing| missing.count > 0)
            .map(|missing| {
                let (count, version, keys) = (missing.count, missing.version, missing.keys.join(", "));
                format!("{count} more of the root keys of version {version} must sign ({keys})")
            })
            .collect();
        f.write_str(&open.join("; "))
    }
}

/// What is missing where the keys in `signed` have signed.
pub(super) fn shortfall(old: &Root, new: &Root, signed: &BTreeSet<&str>) -> Option<Shortfall> {
    let of = |root: &Root| {
        let role = &root.roles.root;
        let (have, keys): (Vec<&String>, Vec<&String>) =
            role.keyids.iter().partition(|id| signed.contains(id.as_str()));
        let threshold = usize::try_from(role.threshold.get()).unwrap_or(usize::MAX);
        let keys = keys.into_iter().cloned().collect();
        Missing { version: root.version(), count: threshold.saturating_sub(have.len()), keys }
    };
    let missing = Shortfall { old: of(old), new: of(new) };
    (missing.old.count > 0 || missing.new.count > 0).then_some(missing)
}

/// Expiry, and keys and threshold of each role.
pub(super) fn describe(root: &Root) -> Vec<String> {
    let mut lines = vec![format!("expires {}", Time(root.expires()))];
    for (name, role) in roles(root) {
        lines.push(format!("{name}: {} of {} keys must sign", role.threshold, role.keyids.len()));
        for id in &role.keyids {
            let kind = root.keys.get(id).map_or("unknown", |key| key.scheme.as_str());
            lines.push(format!("  {id} {kind}"));
        }
    }
    lines
}

/// What differs between two roots.
pub(super) fn changes(old: &Root, new: &Root) -> Vec<String> {
    let mut lines = Vec::new();
    for ((name, before), (_, after)) in roles(old).into_iter().zip(roles(new)) {
        for id in after.keyids.iter().filter(|id| !before.keyids.contains(id)) {
            lines.push(format!("change: {name} gains key {id}"));
        }
        for id in before.keyids.iter().filter(|id| !after.keyids.contains(id)) {
            lines.push(format!("change: {name} loses key {id}"));
        }
        if before.threshold != after.threshold {
            lines.push(format!("change: {name} needs {} signatures instead of {}", after.threshold, before.threshold));
        }
    }
    let replaced = |id: &&String| old.keys.get(*id).is_some_and(|key| new.keys.get(*id).is_some_and(|new| new != key));
    lines.extend(old.keys.keys().filter(replaced).map(|id| format!("change: key {id} has another content")));
    if old.expires() != new.expires() {
        lines.push(format!("change: expires {} instead of {}", Time(new.expires()), Time(old.expires())));
    }
    if old.consistent_snapshot != new.consistent_snapshot {
        lines.push(format!("change: consistent snapshots {}", if new.consistent_snapshot { "on" } else { "off" }));
    }
    if old.other != new.other {
        lines.push("change: fields that the specification does not name".to_owned());
    }
    lines
}

fn roles(root: &Root) -> [(&'static str, &Role); 4] {
    let roles = &root.roles;
    [("root", &roles.root), ("targets", &roles.targets), ("snapshot", &roles.snapshot), ("timestamp", &roles.timestamp)]
}

/// A time as metadata writes it, or as seconds where it has no such form.
struct Time(i64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match serde_json::to_value(crate::tuf::UnixTime(self.0)) {
            Ok(serde_json::Value::String(text)) => f.write_str(&text),
            _ => write!(f, "{} (unix seconds)", self.0),
        }
    }
}
