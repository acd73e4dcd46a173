//! Changing who signs for a role: in root metadata for the top-level roles, in targets metadata for delegated ones.
//!
//! Invariants: what comes out can be met, that is, no role has fewer keys than its threshold; a key counts once, under
//! whatever id it is listed; keys that no role lists any longer are dropped. A refused change alters nothing.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::{AuthorError, Key, key_id};
use crate::tuf::key::PublicKey;
use crate::tuf::schema::{Role, Root, Targets};

/// A change of who signs for a role.
#[derive(Debug, Clone, PartialEq)]
pub enum KeyChange {
    /// One more key may sign.
    Add(Key),
    /// The key of this id may sign no longer.
    Remove(String),
    /// One key takes the place of another.
    Replace {
        /// The id of the key that goes.
        old: String,
        /// The key that comes.
        new: Key,
    },
    /// So many keys must sign.
    Threshold(NonZeroU32),
}

/// Why keys or threshold of a role cannot be changed so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// Nothing delegates to a role of this name.
    #[error("{0}: there is no such role in this metadata")]
    UnknownRole(String),
    /// The role has no such key.
    #[error("{role}: no key {id} signs for it; its keys are {keys}")]
    UnknownKey {
        /// The role.
        role: String,
        /// The id that was named.
        id: String,
        /// The ids that it has.
        keys: String,
    },
    /// The role has this key already.
    #[error("{role}: key {id} signs for it already")]
    KnownKey {
        /// The role.
        role: String,
        /// The id under which the key is listed.
        id: String,
    },
    /// The threshold could never be met.
    #[error(
        "{role}: {keys} keys never meet a threshold of {threshold}; add a key first, or lower the threshold before one is removed"
    )]
    OutOfReach {
        /// The role.
        role: String,
        /// How many keys it would have.
        keys: usize,
        /// The threshold that it would have.
        threshold: u32,
    },
    /// The key is of a kind that devices cannot check.
    #[error("{role}: {keytype} {scheme} is not a key that devices check; use ed25519 or ecdsa-sha2-nistp256")]
    UnsupportedKey {
        /// The role.
        role: String,
        /// The key's type.
        keytype: String,
        /// The key's scheme.
        scheme: String,
    },
}

/// Changes who signs for `root`, `targets`, `snapshot` or `timestamp`. Version and expiry are the caller's.
///
/// # Errors
/// [`EditError`] within [`AuthorError::Edit`].
pub fn change_root(root: &mut Root, role: &str, change: KeyChange) -> Result<(), AuthorError> {
    let mut edited = root.clone();
    let roles = &mut edited.roles;
    let who = match role {
        "root" => &mut roles.root,
        "timestamp" => &mut roles.timestamp,
        "snapshot" => &mut roles.snapshot,
        "targets" => &mut roles.targets,
        _ => return Err(EditError::UnknownRole(role.into()).into()),
    };
    apply(role, who, &mut edited.keys, change)?;
    let listed = [&roles.root, &roles.timestamp, &roles.snapshot, &roles.targets];
    let listed: Vec<String> = listed.into_iter().flat_map(|role| role.keyids.clone()).collect();
    edited.keys.retain(|id, _| listed.contains(id));
    *root = edited;
    Ok(())
}

/// Changes who signs for a role to which `targets` delegates by name. Version and expiry are the caller's.
///
/// # Errors
/// As [`change_root`].
pub fn change_delegation(targets: &mut Targets, role: &str, change: KeyChange) -> Result<(), AuthorError> {
    let mut edited = targets.clone();
    let unknown = || EditError::UnknownRole(role.into());
    let delegations = edited.delegations.as_mut().ok_or_else(unknown)?;
    let roles = delegations.roles.as_mut().ok_or_else(unknown)?;
    let delegated = roles.iter_mut().find(|known| known.name == role).ok_or_else(unknown)?;
    let mut who = delegated.role();
    apply(role, &mut who, &mut delegations.keys, change)?;
    (delegated.keyids, delegated.threshold) = (who.keyids, who.threshold);
    let listed: Vec<String> = roles.iter().flat_map(|role| role.keyids.clone()).collect();
    delegations.keys.retain(|id, _| listed.contains(id));
    *targets = edited;
    Ok(())
}

fn apply(name: &str, role: &mut Role, keys: &mut BTreeMap<String, Key>, change: KeyChange) -> Result<(), AuthorError> {
    match change {
        KeyChange::Add(key) => {
            let id = admit(name, role, keys, key)?;
            role.keyids.push(id);
        }
        KeyChange::Remove(id) => {
            let at = position(name, role, &id)?;
            role.keyids.remove(at);
        }
        KeyChange::Replace { old, new } => {
            let at = position(name, role, &old)?;
            let id = admit(name, role, keys, new)?;
            if let Some(place) = role.keyids.get_mut(at) {
                *place = id;
            }
        }
        KeyChange::Threshold(threshold) => role.threshold = threshold,
    }
    let (found, threshold) = (role.keyids.len(), role.threshold.get());
    if (found as u64) < u64::from(threshold) {
        return Err(EditError::OutOfReach { role: name.into(), keys: found, threshold }.into());
    }
    Ok(())
}

fn position(name: &str, role: &Role, id: &str) -> Result<usize, EditError> {
    role.keyids.iter().position(|known| known == id).ok_or_else(|| EditError::UnknownKey {
        role: name.into(),
        id: id.into(),
        keys: role.keyids.join(", "),
    })
}

/// Lists a key that is new to the role; gives its id.
fn admit(name: &str, role: &Role, keys: &mut BTreeMap<String, Key>, key: Key) -> Result<String, AuthorError> {
    let Some(public) = PublicKey::of(&key) else {
        let (keytype, scheme) = (key.keytype, key.scheme);
        return Err(EditError::UnsupportedKey { role: name.into(), keytype, scheme }.into());
    };
    let same = |id: &&String| keys.get(*id).and_then(PublicKey::of).as_ref() == Some(&public);
    if let Some(id) = role.keyids.iter().find(same) {
        return Err(EditError::KnownKey { role: name.into(), id: id.clone() }.into());
    }
    let id = key_id(&key)?;
    keys.insert(id.clone(), key);
    Ok(id)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::num::NonZeroU64;

    use ring::rand::SystemRandom;

    use super::*;
    use crate::tuf::author::{self, Delegate, KeyKind, KeyPair, RoleKeys, RootKeys, Sealed, Signer as _};

    fn key() -> Key {
        KeyPair::generate(KeyKind::Ed25519, &SystemRandom::new()).unwrap().key()
    }

    fn role(key: &Key) -> RoleKeys {
        RoleKeys { keys: vec![key.clone()], threshold: NonZeroU32::MIN }
    }

    fn sealed() -> Sealed {
        Sealed { version: NonZeroU64::MIN, expires: 0 }
    }

    fn root(key: &Key) -> Root {
        let keys = || role(key);
        let keys = RootKeys { root: keys(), timestamp: keys(), snapshot: keys(), targets: keys() };
        author::root(sealed(), keys).unwrap()
    }

    fn refused(result: Result<(), AuthorError>) -> EditError {
        match result {
            Err(AuthorError::Edit(error)) => error,
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn a_key_is_added_replaced_and_removed_and_unlisted_keys_go() {
        let (first, second, third) = (key(), key(), key());
        let id = |key: &Key| key_id(key).unwrap();
        let mut root = root(&first);
        change_root(&mut root, "timestamp", KeyChange::Add(second.clone())).unwrap();
        assert_eq!(root.roles.timestamp.keyids, [id(&first), id(&second)]);
        change_root(&mut root, "timestamp", KeyChange::Threshold(NonZeroU32::new(2).unwrap())).unwrap();
        let replace = KeyChange::Replace { old: id(&second), new: third.clone() };
        change_root(&mut root, "timestamp", replace).unwrap();
        assert_eq!(root.roles.timestamp.keyids, [id(&first), id(&third)]);
        assert!(!root.keys.contains_key(&id(&second)), "nobody lists it any longer");
        change_root(&mut root, "timestamp", KeyChange::Threshold(NonZeroU32::MIN)).unwrap();
        change_root(&mut root, "timestamp", KeyChange::Remove(id(&first))).unwrap();
        assert!(root.keys.contains_key(&id(&first)), "the other roles still list it");
    }

    #[test]
    fn what_nobody_could_sign_is_refused_and_changes_nothing() {
        let first = key();
        let mut changed = root(&first);
        let before = changed.clone();
        let mut refuse = |change| refused(change_root(&mut changed, "root", change));
        let id = key_id(&first).unwrap();
        assert!(matches!(refuse(KeyChange::Remove(id.clone())), EditError::OutOfReach { keys: 0, threshold: 1, .. }));
        let two = KeyChange::Threshold(NonZeroU32::new(2).unwrap());
        assert!(matches!(refuse(two), EditError::OutOfReach { keys: 1, threshold: 2, .. }));
        assert!(matches!(refuse(KeyChange::Remove("none".into())), EditError::UnknownKey { .. }));
        // The same key in another spelling has another id, and is the same key.
        let mut upper = first.clone();
        upper.keyval = serde_json::json!({ "public": first.keyval["public"].as_str().unwrap().to_uppercase() });
        assert_eq!(refuse(KeyChange::Add(upper)), EditError::KnownKey { role: "root".into(), id });
        let foreign = Key { keytype: "none".into(), ..key() };
        assert!(matches!(refuse(KeyChange::Add(foreign)), EditError::UnsupportedKey { .. }));
        assert_eq!(changed, before);
        assert!(matches!(
            refused(change_root(&mut changed, "releases", KeyChange::Add(key()))),
            EditError::UnknownRole(_)
        ));
    }

    #[test]
    fn a_delegated_role_changes_in_the_metadata_that_delegates() {
        let (first, second) = (key(), key());
        let delegate = |name: &str| Delegate {
            name: name.into(),
            keys: role(&first),
            paths: vec![format!("{name}/*")],
            terminating: true,
        };
        let delegations = author::delegations(vec![delegate("releases"), delegate("deployments")]).unwrap();
        let mut targets = author::targets(sealed(), BTreeMap::new(), Some(delegations));
        let replace = KeyChange::Replace { old: key_id(&first).unwrap(), new: second.clone() };
        change_delegation(&mut targets, "releases", replace).unwrap();
        let delegations = targets.delegations.clone().unwrap();
        let roles = delegations.roles.unwrap();
        assert_eq!(roles[0].keyids, [key_id(&second).unwrap()]);
        assert_eq!(roles[1].keyids, [key_id(&first).unwrap()]);
        assert_eq!(delegations.keys.len(), 2);
        assert!(matches!(
            refused(change_delegation(&mut targets, "root", KeyChange::Add(key()))),
            EditError::UnknownRole(_)
        ));
    }
}
