//! Turning what is staged into signed metadata, and signing again what its keys or its age demand.

use std::{collections::BTreeMap, num::NonZeroU64};

use anyhow::{Context, Result, bail};
use sanderling_protocol::{
    digest::Digest,
    tuf::{
        MetaFile, Signed as Metadata, TargetFile, Targets, UnixTime,
        author::{self, Sealed},
    },
};

use super::{SignedRole, Staged, State, blob_file, metadata_file, trust::Trust};
use crate::{
    home::{self, Home},
    keys::{KeyRing, MissingKeys, SigningRole},
};

const DAY: i64 = 86_400;

/// For how long metadata is good, in days.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct Expiry {
    /// Days until a new root expires.
    #[arg(long, default_value_t = Self::default().root_days)]
    pub(crate) root_days: u32,
    /// Days until targets, releases and deployments expire.
    #[arg(long, default_value_t = Self::default().targets_days)]
    pub(crate) targets_days: u32,
    /// Days until snapshot and timestamp expire: for how long a broker can hide a newer state from a device unnoticed.
    #[arg(long, default_value_t = Self::default().timestamp_days)]
    pub(crate) timestamp_days: u32,
}

impl Default for Expiry {
    fn default() -> Self {
        Self { root_days: 3650, targets_days: 365, timestamp_days: 30 }
    }
}

impl Expiry {
    /// For how long new metadata of a role is good, in seconds.
    pub(super) fn seconds(&self, role: SigningRole) -> i64 {
        let days = match role {
            SigningRole::Root => self.root_days,
            SigningRole::Targets | SigningRole::Releases | SigningRole::Deployments => self.targets_days,
            SigningRole::Snapshot | SigningRole::Timestamp => self.timestamp_days,
        };
        i64::from(days) * DAY
    }

    /// When metadata expires that is signed now, in unix seconds.
    pub(super) fn at(&self, role: SigningRole, now: i64) -> i64 {
        now.saturating_add(self.seconds(role))
    }
}

/// What a signature made new.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Signed {
    /// The roles with their new versions.
    pub(crate) roles: Vec<(String, u64)>,
}

/// Signs what changed: releases and deployments where their content did, then snapshot and timestamp; and what keys signed that
/// are trusted no longer.
pub(crate) fn sign(home: &Home, expiry: Expiry, now: i64) -> Result<Signed> {
    let mut signing = Signing::open(home, expiry, now)?;
    signing.sign_all(true)?;
    signing.state.save(home)?;
    Ok(Signed { roles: signing.made })
}

/// Signing under way. Nothing counts before its state is saved.
pub(super) struct Signing<'h> {
    pub(super) home: &'h Home,
    pub(super) expiry: Expiry,
    pub(super) now: i64,
    pub(super) state: State,
    pub(super) trust: Trust,
    pub(super) ring: KeyRing,
    /// What was signed, with its version.
    pub(super) made: Vec<(String, u64)>,
    _lock: Option<std::fs::File>,
}

impl<'h> Signing<'h> {
    pub(super) fn new(home: &'h Home, expiry: Expiry, now: i64, state: State, trust: Trust, ring: KeyRing) -> Self {
        Self { home, expiry, now, state, trust, ring, made: Vec::new(), _lock: None }
    }

    /// Loads the repository and keeps others from changing it.
    pub(super) fn open(home: &'h Home, expiry: Expiry, now: i64) -> Result<Self> {
        let (lock, state) = State::open(home)?;
        let trust = Trust::load(home, &state)?;
        Ok(Self { _lock: Some(lock), ..Self::new(home, expiry, now, state, trust, KeyRing::open(home)) })
    }

    /// Signs all that needs it, the timestamp always. `staged`: releases and deployments as they are staged; else as they were signed.
    pub(super) fn sign_all(&mut self, staged: bool) -> Result<()> {
        if !self.is_accepted(SigningRole::Targets)? {
            self.sign_again(SigningRole::Targets)?;
        }
        self.sign_targets(SigningRole::Releases, staged)?;
        self.sign_targets(SigningRole::Deployments, staged)?;
        self.sign_snapshot(false)?;
        self.sign_timestamp()
    }

    /// The same without what is staged; stops where keys are not here, and says so.
    pub(super) fn settle(&mut self) -> Result<Option<String>> {
        match self.sign_all(false) {
            Ok(()) => Ok(None),
            Err(error) if error.is::<MissingKeys>() => Ok(Some(format!("{error:#}"))),
            Err(error) => Err(error),
        }
    }

    fn sealed(&self, role: SigningRole) -> Result<Sealed> {
        Ok(Sealed { version: self.next_version(role)?, expires: self.expiry.at(role, self.now) })
    }

    pub(super) fn next_version(&self, role: SigningRole) -> Result<NonZeroU64> {
        NonZeroU64::new(self.state.version(role.name()).saturating_add(1)).context("versions start at 1")
    }

    fn sign_targets(&mut self, role: SigningRole, staged: bool) -> Result<()> {
        let staged_now = if role == SigningRole::Releases { &self.state.releases } else { &self.state.deployments };
        let content = Digest::of(&serde_json::to_vec(staged_now)?);
        if staged && !self.is_signed(role, &content) {
            let files = target_files(self.home, staged_now)?;
            let targets = author::targets(self.sealed(role)?, files, None);
            return self.write(role, &targets, content);
        }
        if self.is_accepted(role)? { Ok(()) } else { self.sign_again(role) }
    }

    /// Signs `targets`, `releases` or `deployments` anew as they are, with a new version and expiry.
    pub(super) fn sign_again(&mut self, role: SigningRole) -> Result<()> {
        let mut targets: Targets = author::read(&self.state.read_signed(self.home, role.name())?)?;
        let Sealed { version, expires } = self.sealed(role)?;
        (targets.version, targets.expires) = (version, UnixTime(expires));
        let content = self.state.signed.get(role.name()).context("not signed yet")?.content;
        self.write(role, &targets, content)?;
        if role == SigningRole::Targets {
            self.trust.targets = targets;
        }
        Ok(())
    }

    /// Where its content changed, its keys are trusted no longer, or `anyhow`.
    pub(super) fn sign_snapshot(&mut self, anyhow: bool) -> Result<()> {
        let mut listed = BTreeMap::new();
        for role in [SigningRole::Targets, SigningRole::Releases, SigningRole::Deployments] {
            listed.insert(role.name().to_owned(), self.meta_file(role)?);
        }
        let content = Digest::of(&serde_json::to_vec(&listed)?);
        if !anyhow && self.is_signed(SigningRole::Snapshot, &content) && self.is_accepted(SigningRole::Snapshot)? {
            return Ok(());
        }
        let snapshot = author::snapshot(self.sealed(SigningRole::Snapshot)?, listed);
        self.write(SigningRole::Snapshot, &snapshot, content)
    }

    /// Always: a timestamp says that somebody still looks after the fleet.
    pub(super) fn sign_timestamp(&mut self) -> Result<()> {
        let snapshot = self.meta_file(SigningRole::Snapshot)?;
        let timestamp = author::timestamp(self.sealed(SigningRole::Timestamp)?, snapshot);
        self.write(SigningRole::Timestamp, &timestamp, Digest::of(b"timestamp"))
    }

    fn is_signed(&self, role: SigningRole, content: &Digest) -> bool {
        self.state.signed.get(role.name()).is_some_and(|signed| signed.content == *content)
    }

    /// Whether the keys that are trusted for the role signed what it has.
    fn is_accepted(&self, role: SigningRole) -> Result<bool> {
        let (trusted, keys) = self.trust.role(role)?;
        let bytes = self.state.read_signed(self.home, role.name())?;
        Ok(author::check_signatures(&bytes, role.name(), &trusted, keys).is_ok())
    }

    fn meta_file(&self, role: SigningRole) -> Result<MetaFile> {
        let version = self.state.version(role.name());
        let message = self.state.read_signed(self.home, role.name())?;
        Ok(MetaFile::of(NonZeroU64::new(version).context("not signed yet")?, &message))
    }

    /// Signs with all keys of the role that are here, and writes the next version.
    pub(super) fn write<T: Metadata>(&mut self, role: SigningRole, metadata: &T, content: Digest) -> Result<()> {
        let (trusted, keys) = self.trust.role(role)?;
        let bytes = author::sign(metadata, &self.ring.signers(role.name(), &trusted, keys)?)?;
        self.write_signed(role, &bytes, content)
    }

    /// Writes the next version as it was signed elsewhere.
    pub(super) fn write_signed(&mut self, role: SigningRole, bytes: &[u8], content: Digest) -> Result<()> {
        let version = self.next_version(role)?.get();
        home::write(&self.home.path(metadata_file(version, role.name())), bytes)?;
        self.state.signed.insert(role.name().to_owned(), SignedRole { version, content });
        self.made.push((role.name().to_owned(), version));
        Ok(())
    }
}

fn target_files(home: &Home, staged: &BTreeMap<String, Staged>) -> Result<BTreeMap<String, TargetFile>> {
    let mut files = BTreeMap::new();
    for (path, staged) in staged {
        let bytes = home::read(&home.path(blob_file(&staged.sha256)))?;
        if Digest::of(&bytes) != staged.sha256 {
            bail!("the blob of {path} is damaged: add it again");
        }
        files.insert(path.clone(), author::target(&bytes, Some(staged.custom.clone())));
    }
    Ok(files)
}
