//! Changing who signs for a role: adding, removing and replacing keys, thresholds, and new versions with a new expiry.
//!
//! Top-level roles change in a new root, which may have to wait for signatures ([`super::ceremony`]); releases and deployments in new
//! targets metadata. What keys signed that are trusted no longer is signed anew at once, as far as its keys are here.

use std::{num::NonZeroU32, path::PathBuf};

use anyhow::{Context, Result, bail};
use sanderling_protocol::{
    digest::Digest,
    tuf::{
        Role, Root, UnixTime,
        author::{KeyChange, RootSigning, change_delegation, change_root, key_id},
    },
};

use super::{
    State,
    ceremony::{self, Ceremony, pending},
    sign::{Expiry, Signing},
    trust::Trust,
};
use crate::{
    home::Home,
    keys::{KeyRing, KeySource, SigningRole},
};

/// What is to be changed of a role.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// One more key.
    Add(KeySource),
    /// One key less, by how its id begins.
    Remove(String),
    /// A key instead of another; which, where the role has several.
    Rotate(Option<String>, KeySource),
    /// So many keys must sign.
    Threshold(NonZeroU32),
    /// Nothing but version and expiry.
    Renew,
}

/// What was changed.
#[derive(Debug, Default, serde::Serialize)]
pub(crate) struct Changed {
    /// The role.
    pub(crate) role: &'static str,
    /// The id of the key that signs for it now.
    pub(crate) added: Option<String>,
    /// The id of the key that does no longer.
    pub(crate) removed: Option<String>,
    /// The file of the private key that was made.
    pub(crate) key_file: Option<PathBuf>,
    /// The new threshold.
    pub(crate) threshold: Option<u32>,
    /// The new root, where one was needed.
    pub(crate) root: Option<Ceremony>,
    /// What was signed, with versions.
    pub(crate) signed: Vec<(String, u64)>,
    /// What could not be signed here, and why.
    pub(crate) waits: Option<String>,
    /// What to do next.
    pub(crate) next: Vec<String>,
}

/// Changes a role. `hold`: a new root waits for its signatures even where enough keys are here, so that more can be changed in it.
pub(crate) fn change(
    home: &Home,
    role: SigningRole,
    change: Change,
    hold: bool,
    expiry: Expiry,
    now: i64,
) -> Result<Changed> {
    let mut signing = Signing::open(home, expiry, now)?;
    let mut changed = Changed { role: role.name(), ..Changed::default() };
    let done = apply(&mut signing, role, change, hold, &mut changed);
    if done.is_err()
        && let Some(made) = &changed.key_file
    {
        // Nothing names the key that was made for this.
        std::fs::remove_file(made).ok();
    }
    done.map(|()| changed)
}

fn apply(
    signing: &mut Signing<'_>,
    role: SigningRole,
    change: Change,
    hold: bool,
    changed: &mut Changed,
) -> Result<()> {
    let waiting = pending(signing.home, &signing.state)?;
    let listed = match &waiting {
        Some(root) if role.is_top_level() => Trust { root: root.next().clone(), ..signing.trust.clone() }.role(role)?.0,
        _ => signing.trust.role(role)?.0,
    };
    let change = resolve(signing, role, &listed, change, changed)?;
    if role.is_top_level() && (change.is_some() || role == SigningRole::Root) {
        change_in_root(signing, role, change, waiting, hold, changed)
    } else {
        change_in_targets(signing, role, change, changed)
    }
}

/// The change in terms of keys and ids; makes the key that it needs.
fn resolve(
    signing: &mut Signing<'_>,
    role: SigningRole,
    listed: &Role,
    change: Change,
    changed: &mut Changed,
) -> Result<Option<KeyChange>> {
    let mut source = |source: &KeySource, changed: &mut Changed| {
        let sourced = source.get(signing.home, role)?;
        changed.key_file = sourced.made;
        changed.added = Some(key_id(&sourced.key)?);
        signing.ring = KeyRing::open(signing.home);
        Ok::<_, anyhow::Error>(sourced.key)
    };
    Ok(Some(match change {
        Change::Renew => return Ok(None),
        Change::Threshold(threshold) => {
            changed.threshold = Some(threshold.get());
            KeyChange::Threshold(threshold)
        }
        Change::Remove(beginning) => {
            let id = full_id(role, listed, &beginning)?;
            changed.removed = Some(id.clone());
            KeyChange::Remove(id)
        }
        Change::Add(from) => KeyChange::Add(source(&from, changed)?),
        Change::Rotate(replaced, from) => {
            let old = match (replaced, listed.keyids.as_slice()) {
                (Some(beginning), _) => full_id(role, listed, &beginning)?,
                (None, [only]) => only.clone(),
                (None, several) => bail!(
                    "{} has {} keys: say with --replace which of them goes: {}",
                    role.name(),
                    several.len(),
                    several.join(", ")
                ),
            };
            changed.removed = Some(old.clone());
            KeyChange::Replace { old, new: source(&from, changed)? }
        }
    }))
}

/// The one id that begins so.
fn full_id(role: SigningRole, listed: &Role, beginning: &str) -> Result<String> {
    let fitting: Vec<&String> = listed.keyids.iter().filter(|id| id.starts_with(beginning)).collect();
    match fitting.as_slice() {
        [only] if !beginning.is_empty() => Ok((*only).clone()),
        _ => bail!(
            "{} of the {} keys begin with {beginning:?}: name one of {}",
            fitting.len(),
            role.name(),
            listed.keyids.join(", ")
        ),
    }
}

fn change_in_root(
    signing: &mut Signing<'_>,
    role: SigningRole,
    change: Option<KeyChange>,
    waiting: Option<RootSigning>,
    hold: bool,
    changed: &mut Changed,
) -> Result<()> {
    let mut next: Root = waiting.map_or_else(|| signing.trust.root.clone(), |root| root.next().clone());
    if let Some(change) = change {
        change_root(&mut next, role.name(), change)?;
    }
    next.version = signing.next_version(SigningRole::Root)?;
    next.expires = UnixTime(signing.expiry.at(SigningRole::Root, signing.now));
    let current =
        signing.state.read_signed(signing.home, "root").with_context(|| ceremony::root_in_force(&signing.state))?;
    let root = ceremony::propose(signing, RootSigning::new(&current, &next)?, hold)?;
    (changed.signed, changed.waits) = (root.signed.clone(), root.waits.clone());
    changed.next = root.next_steps();
    changed.root = Some(root);
    Ok(())
}

/// New targets metadata for a delegated role, or a role's own metadata with a new expiry.
fn change_in_targets(
    signing: &mut Signing<'_>,
    role: SigningRole,
    change: Option<KeyChange>,
    changed: &mut Changed,
) -> Result<()> {
    match change {
        Some(change) => {
            change_delegation(&mut signing.trust.targets, role.name(), change)?;
            let mut targets = signing.trust.targets.clone();
            targets.version = signing.next_version(SigningRole::Targets)?;
            targets.expires = UnixTime(signing.expiry.at(SigningRole::Targets, signing.now));
            signing.write(SigningRole::Targets, &targets, Digest::of(b"targets"))?;
            signing.trust.targets = targets;
        }
        None if role == SigningRole::Snapshot => signing.sign_snapshot(true)?,
        None if role == SigningRole::Timestamp => {}
        None => signing.sign_again(role)?,
    }
    changed.waits = signing.settle()?;
    signing.state.save(signing.home)?;
    changed.signed = signing.made.clone();
    if changed.waits.is_some() {
        changed.next.push("sign the rest with `sanderling repo sign` where its keys are".to_owned());
    }
    changed.next.push("publish it with `sanderling repo publish`".to_owned());
    Ok(())
}

/// Who signs for a role, and which of the private keys are here.
#[derive(Debug, serde::Serialize)]
pub(crate) struct RoleKeysReport {
    /// The role.
    pub(crate) role: &'static str,
    /// How many keys must sign.
    pub(crate) threshold: u32,
    /// Its keys: id, scheme, and the file of the private key where it is here.
    pub(crate) keys: Vec<(String, String, Option<PathBuf>)>,
}

/// Who signs for each role, as signed; and the files of private keys that nothing names.
pub(crate) fn keys_report(home: &Home) -> Result<(Vec<RoleKeysReport>, Vec<PathBuf>)> {
    let trust = Trust::load(home, &State::load(home)?)?;
    let ring = KeyRing::open(home);
    let mut named = Vec::new();
    let mut reports = Vec::new();
    for role in SigningRole::ALL {
        let (listed, known) = trust.role(role)?;
        let describe = |id: &String| {
            let scheme = known.get(id).map_or("unknown", |key| key.scheme.as_str());
            (id.clone(), scheme.to_owned(), ring.file(id).cloned())
        };
        let keys: Vec<_> = listed.keyids.iter().map(describe).collect();
        named.extend(listed.keyids.iter().cloned());
        reports.push(RoleKeysReport { role: role.name(), threshold: listed.threshold.get(), keys });
    }
    let others = ring.iter().filter(|(id, _, _)| !named.contains(id)).map(|(_, file, _)| file.clone()).collect();
    Ok((reports, others))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_id_is_named_by_its_beginning_where_that_is_one() {
        let keyids = ["ab12", "ab34", "cd56"].map(str::to_owned).to_vec();
        let role = Role { keyids, threshold: NonZeroU32::MIN, other: serde_json::Map::new() };
        let find = |beginning| full_id(SigningRole::Root, &role, beginning);
        assert_eq!(find("c").unwrap(), "cd56");
        assert_eq!(find("ab34").unwrap(), "ab34");
        assert!(find("ab").unwrap_err().to_string().contains("2 of the root keys"));
        assert!(find("").is_err() && find("ef").is_err());
    }
}
