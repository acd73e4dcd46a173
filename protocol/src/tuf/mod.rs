//! The Update Framework, specification 1.0.x: what a device believes, and why.
//!
//! [`Trusted`] is what a client trusts, [`Refresh`] the workflow that brings it up to date; both work on bytes alone: no
//! transport, no clock, no files. Signing is behind the feature `author`.
//!
//! Invariants: a message is looked at in this order, and what fails is refused with a [`TrustError`] that names the attack:
//! size, length and digest where they are listed, signatures, version floor, expiry. Nothing panics on any input.
//! Limits: below. Key types: ed25519, ecdsa-sha2-nistp256 and rsassa-pss-sha256; keys of other types are ignored.

#[cfg(feature = "author")]
pub mod author;
pub(crate) mod canonical;
mod client;
mod delegations;
mod error;
mod key;
mod lookup;
pub(crate) mod pattern;
mod rsa;
mod schema;
mod search;
mod time;
mod trusted;
mod verify;

#[cfg(all(test, feature = "author"))]
mod attacks;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod vectors;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod wycheproof;

use std::collections::BTreeMap;

pub use client::{FetchSpec, Refresh, Step};
pub use delegations::{DelegatedRole, Delegations, SuccinctRoles};
pub use error::TrustError;
pub use lookup::{Resolved, Restored};
pub use schema::{
    Hashes, Key, MetaFile, Role, Root, RootRoles, Signed, Snapshot, TargetFile, Targets, Timestamp, TimestampMeta,
};
pub use time::UnixTime;
pub use trusted::{Trusted, Update};

/// The longest metadata message in bytes.
pub const MAX_METADATA_LEN: u64 = 128 * 1024;
/// The most roots that one refresh follows; the next refresh goes on from there.
pub const MAX_ROOT_ROTATIONS: u32 = 256;
/// The most delegated roles that one search visits and one refresh loads.
pub const MAX_VISITS: usize = 32;

/// Keys and threshold of the role `name`, if `targets` delegates to it.
fn keys_of<'a>(targets: &'a Targets, name: &str) -> Option<(Role, &'a BTreeMap<String, Key>)> {
    let delegations = targets.delegations.as_ref()?;
    let bins = delegations.succinct_roles.as_ref().filter(|bins| bins.has_bin(name)).map(SuccinctRoles::role);
    let named = || delegations.roles.iter().flatten().find(|role| role.name == name).map(DelegatedRole::role);
    Some((bins.or_else(named)?, &delegations.keys))
}
