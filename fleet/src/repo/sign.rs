//! Turning what is staged into signed metadata.

use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroU64},
};

use anyhow::{Context, Result, bail};
use sanderling_protocol::{
    digest::Digest,
    tuf::{
        MetaFile, Signed as Metadata, TargetFile,
        author::{self, Delegate, RoleKeys, RootKeys, Sealed, Signer},
    },
};

use super::{SignedRole, Staged, State, blob_file, metadata_file};
use crate::{
    home::{self, Home},
    keys::{self, SigningRole},
};

const DAY: i64 = 86_400;

/// For how long metadata is good, in days.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct Expiry {
    /// Days until releases and deployments expire.
    #[arg(long, default_value_t = Self::default().targets_days)]
    pub(crate) targets_days: u32,
    /// Days until snapshot and timestamp expire: for how long a broker can hide a newer state from a device unnoticed.
    #[arg(long, default_value_t = Self::default().timestamp_days)]
    pub(crate) timestamp_days: u32,
}

impl Default for Expiry {
    fn default() -> Self {
        Self { targets_days: 365, timestamp_days: 30 }
    }
}

impl Expiry {
    fn days(&self, role: SigningRole) -> i64 {
        match role {
            SigningRole::Root => 3650,
            SigningRole::Targets | SigningRole::Releases | SigningRole::Deployments => i64::from(self.targets_days),
            SigningRole::Snapshot | SigningRole::Timestamp => i64::from(self.timestamp_days),
        }
    }
}

/// What a signature made new.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Signed {
    /// The roles with their new versions.
    pub(crate) roles: Vec<(String, u64)>,
}

/// Makes the repository: root and targets metadata, signed once, and nothing released yet. Returns where root.json is.
pub(crate) fn init(home: &Home, expiry: Expiry, now: i64) -> Result<std::path::PathBuf> {
    if home.path(super::STATE).exists() {
        bail!("there is a repository at {} already", home.path("repo").display());
    }
    let mut signer = Signing { home, expiry, now, state: State::default(), made: Vec::new() };
    let public = |role| Ok::<_, anyhow::Error>(role_keys(&keys::load(home, role)?));
    let trusted = RootKeys {
        root: public(SigningRole::Root)?,
        timestamp: public(SigningRole::Timestamp)?,
        snapshot: public(SigningRole::Snapshot)?,
        targets: public(SigningRole::Targets)?,
    };
    let root = author::root(signer.sealed(SigningRole::Root)?, trusted)?;
    signer.write(SigningRole::Root, &root, Digest::of(b"root"))?;
    let delegate = |role: SigningRole, paths: &[&str]| {
        Ok::<_, anyhow::Error>(Delegate {
            name: role.name().to_owned(),
            keys: public(role)?,
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            terminating: true,
        })
    };
    let delegations = author::delegations(vec![
        delegate(SigningRole::Releases, &["modules/*", "modules/*/*", "models/*", "models/*/*"])?,
        delegate(SigningRole::Deployments, &["deployments/*"])?,
    ])?;
    let targets = author::targets(signer.sealed(SigningRole::Targets)?, BTreeMap::new(), Some(delegations));
    signer.write(SigningRole::Targets, &targets, Digest::of(b"targets"))?;
    signer.state.save(home)?;
    sign(home, expiry, now)?;
    Ok(home.path(metadata_file(1, "root")))
}

/// Signs what changed: releases and deployments where their content did, then snapshot and timestamp.
pub(crate) fn sign(home: &Home, expiry: Expiry, now: i64) -> Result<Signed> {
    let mut signer = Signing { home, expiry, now, state: State::load(home)?, made: Vec::new() };
    signer.sign_targets(SigningRole::Releases, signer.state.releases.clone())?;
    signer.sign_targets(SigningRole::Deployments, signer.state.deployments.clone())?;
    signer.sign_snapshot()?;
    signer.sign_timestamp()?;
    signer.state.save(home)?;
    Ok(Signed { roles: signer.made })
}

struct Signing<'h> {
    home: &'h Home,
    expiry: Expiry,
    now: i64,
    state: State,
    made: Vec<(String, u64)>,
}

impl Signing<'_> {
    fn sealed(&self, role: SigningRole) -> Result<Sealed> {
        let version = NonZeroU64::new(self.state.version(role.name()) + 1).context("versions start at 1")?;
        Ok(Sealed { version, expires: self.now + self.expiry.days(role) * DAY })
    }

    fn sign_targets(&mut self, role: SigningRole, staged: BTreeMap<String, Staged>) -> Result<()> {
        let content = Digest::of(&serde_json::to_vec(&staged)?);
        if self.is_signed(role, &content) {
            return Ok(());
        }
        let mut files: BTreeMap<String, TargetFile> = BTreeMap::new();
        for (path, staged) in staged {
            let bytes = home::read(&self.home.path(blob_file(&staged.sha256)))?;
            if Digest::of(&bytes) != staged.sha256 {
                bail!("the blob of {path} is damaged: add it again");
            }
            files.insert(path, author::target(&bytes, Some(staged.custom)));
        }
        let targets = author::targets(self.sealed(role)?, files, None);
        self.write(role, &targets, content)
    }

    fn sign_snapshot(&mut self) -> Result<()> {
        let mut listed = BTreeMap::new();
        for role in [SigningRole::Targets, SigningRole::Releases, SigningRole::Deployments] {
            listed.insert(role.name().to_owned(), self.meta_file(role)?);
        }
        let content = Digest::of(&serde_json::to_vec(&listed)?);
        if self.is_signed(SigningRole::Snapshot, &content) {
            return Ok(());
        }
        let snapshot = author::snapshot(self.sealed(SigningRole::Snapshot)?, listed);
        self.write(SigningRole::Snapshot, &snapshot, content)
    }

    /// Always: a timestamp says that somebody still looks after the fleet.
    fn sign_timestamp(&mut self) -> Result<()> {
        let snapshot = self.meta_file(SigningRole::Snapshot)?;
        let timestamp = author::timestamp(self.sealed(SigningRole::Timestamp)?, snapshot);
        self.write(SigningRole::Timestamp, &timestamp, Digest::of(b"timestamp"))
    }

    fn is_signed(&self, role: SigningRole, content: &Digest) -> bool {
        self.state.signed.get(role.name()).is_some_and(|signed| signed.content == *content)
    }

    fn meta_file(&self, role: SigningRole) -> Result<MetaFile> {
        let version = self.state.version(role.name());
        let message = home::read(&self.home.path(metadata_file(version, role.name())))?;
        Ok(MetaFile::of(NonZeroU64::new(version).context("not signed yet")?, &message))
    }

    fn write<T: Metadata>(&mut self, role: SigningRole, metadata: &T, content: Digest) -> Result<()> {
        let key = keys::load(self.home, role)?;
        let bytes = author::sign(metadata, &[&key])?;
        let version = self.state.version(role.name()) + 1;
        home::write(&self.home.path(metadata_file(version, role.name())), &bytes)?;
        self.state.signed.insert(role.name().to_owned(), SignedRole { version, content });
        self.made.push((role.name().to_owned(), version));
        Ok(())
    }
}

fn role_keys(key: &author::KeyPair) -> RoleKeys {
    RoleKeys { keys: vec![key.key()], threshold: NonZeroU32::MIN }
}
