//! Making a repository: root and targets metadata, and nothing released yet.

use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
    str::FromStr,
};

use anyhow::{Result, bail};
use clap::ValueEnum;
use sanderling_protocol::{
    digest::Digest,
    tuf::author::{self, Delegate, RoleKeys, RootKeys, Sealed, Signer},
};

use super::{
    State, metadata_file,
    sign::{Expiry, Signing},
    trust::Trust,
};
use crate::{
    home::Home,
    keys::{self, KeyRing, SigningRole},
};

/// How many keys of a role must sign, as `role=number` on the command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Threshold {
    role: SigningRole,
    keys: NonZeroU32,
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || "a threshold is written role=number, for example releases=2".to_owned();
        let (role, keys) = text.split_once('=').ok_or_else(wanted)?;
        Ok(Self { role: SigningRole::from_str(role, false)?, keys: keys.parse().map_err(|_| wanted())? })
    }
}

/// Makes the repository with the keys that are in the fleet's folder. Gives the file of the root of trust.
pub(crate) fn init(home: &Home, expiry: Expiry, thresholds: &[Threshold], now: i64) -> Result<PathBuf> {
    if home.path(super::STATE).exists() {
        bail!("there is a repository at {} already", home.path("repo").display());
    }
    let role_keys = |role| role_keys(home, role, thresholds);
    let trusted = RootKeys {
        root: role_keys(SigningRole::Root)?,
        timestamp: role_keys(SigningRole::Timestamp)?,
        snapshot: role_keys(SigningRole::Snapshot)?,
        targets: role_keys(SigningRole::Targets)?,
    };
    let delegate = |role: SigningRole, paths: &[&str]| {
        Ok::<_, anyhow::Error>(Delegate {
            name: role.name().to_owned(),
            keys: role_keys(role)?,
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            terminating: true,
        })
    };
    let delegations = author::delegations(vec![
        delegate(SigningRole::Releases, &["modules/*", "modules/*/*", "models/*", "models/*/*"])?,
        delegate(SigningRole::Deployments, &["deployments/*"])?,
    ])?;
    let sealed = |role| Sealed { version: NonZeroU64::MIN, expires: expiry.at(role, now) };
    let root = author::root(sealed(SigningRole::Root), trusted)?;
    let targets = author::targets(sealed(SigningRole::Targets), BTreeMap::new(), Some(delegations));
    let trust = Trust { root: root.clone(), targets: targets.clone() };
    let _lock = home.lock()?;
    let mut signing = Signing::new(home, expiry, now, State::default(), trust, KeyRing::open(home));
    signing.write(SigningRole::Root, &root, Digest::of(b"root"))?;
    signing.write(SigningRole::Targets, &targets, Digest::of(b"targets"))?;
    signing.sign_all(true)?;
    signing.state.save(home)?;
    Ok(home.path(metadata_file(1, "root")))
}

fn role_keys(home: &Home, role: SigningRole, thresholds: &[Threshold]) -> Result<RoleKeys> {
    let keys = keys::meant_for(home, role)?;
    let threshold =
        thresholds.iter().rev().find(|given| given.role == role).map_or(NonZeroU32::MIN, |given| given.keys);
    if (keys.len() as u64) < u64::from(threshold.get()) {
        bail!(
            "{threshold} of the {} keys are to sign, and {} are in the fleet's folder: make more with `sanderling keys create --role {} --count {threshold}`",
            role.name(),
            keys.len(),
            role.name()
        );
    }
    Ok(RoleKeys { keys: keys.iter().map(Signer::key).collect(), threshold })
}
