//! The keys that sign metadata: files in PKCS#8 PEM, readable by their owner alone, `{role}.pem` and `{role}-2.pem` and so on.
//!
//! File names are for people. Which key signs for which role is what signed metadata says: root for the top-level roles, targets for
//! releases and deployments; a key is found among the files by its id.

mod ring_of_keys;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use ring::rand::SystemRandom;
use sanderling_protocol::tuf::{
    Key,
    author::{KeyKind, KeyPair, Signer as _, read_public_key},
};

use crate::home::{self, Home};
pub(crate) use ring_of_keys::{KeyRing, MissingKeys};

/// The roles that sign. `releases` says what may run, `deployments` who runs what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum SigningRole {
    /// Says which keys sign for the others. Keep it offline.
    Root,
    /// Delegates to releases and deployments. Keep it offline.
    Targets,
    /// Says which modules and models may run, with which ceiling. Keep it offline or in an HSM.
    Releases,
    /// Says which devices run which released modules.
    Deployments,
    /// Says which versions of metadata belong together.
    Snapshot,
    /// Says which snapshot is current.
    Timestamp,
}

impl SigningRole {
    /// All of them.
    pub(crate) const ALL: [Self; 6] =
        [Self::Root, Self::Targets, Self::Releases, Self::Deployments, Self::Snapshot, Self::Timestamp];

    /// The role's name in metadata.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Releases => "releases",
            Self::Deployments => "deployments",
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
        }
    }

    /// Whether root names its keys; those of the others are named by targets.
    pub(crate) const fn is_top_level(self) -> bool {
        !matches!(self, Self::Releases | Self::Deployments)
    }
}

/// The kinds of keys, as words on the command line.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Kind {
    /// Ed25519: small and fast.
    #[default]
    Ed25519,
    /// ECDSA on P-256: what most HSMs and cloud key services have.
    EcdsaP256,
}

impl From<Kind> for KeyKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Ed25519 => Self::Ed25519,
            Kind::EcdsaP256 => Self::EcdsaP256,
        }
    }
}

/// Where a key comes from that is to sign for a role.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct KeySource {
    /// The kind of a key that is made here.
    #[arg(long, default_value = "ed25519", conflicts_with_all = ["key", "public"])]
    pub(crate) kind: Kind,
    /// A private key that is there already, PEM; without this and --public, one is made in the fleet's folder.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// The public key of somebody who keeps the private one: JSON of `sanderling keys public`, or PEM.
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    pub(crate) public: Option<PathBuf>,
}

/// A key that is to sign for a role.
pub(crate) struct Sourced {
    /// Its public part.
    pub(crate) key: Key,
    /// The file of the private key, where one was made here.
    pub(crate) made: Option<PathBuf>,
}

impl KeySource {
    /// Reads the key, or makes one.
    pub(crate) fn get(&self, home: &Home, role: SigningRole) -> Result<Sourced> {
        if let Some(file) = &self.public {
            let key = read_public_key(&home::read_text(file)?)
                .with_context(|| format!("{} is not usable", file.display()))?;
            return Ok(Sourced { key, made: None });
        }
        if let Some(file) = &self.key {
            return Ok(Sourced { key: read(file)?.key(), made: None });
        }
        let (path, pair) = make(home, role, self.kind)?;
        Ok(Sourced { key: pair.key(), made: Some(path) })
    }
}

/// A key that was made.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Made {
    /// The role that it is meant for.
    pub(crate) role: &'static str,
    /// The id under which metadata lists it.
    pub(crate) key_id: String,
    /// The file of the private key.
    pub(crate) file: PathBuf,
}

/// Makes keys until each of the roles (of none: every role) has `count` files in the fleet's folder. Existing keys are left alone.
pub(crate) fn create(home: &Home, kind: Kind, roles: &[SigningRole], count: u32) -> Result<Vec<Made>> {
    let roles = if roles.is_empty() { &SigningRole::ALL[..] } else { roles };
    let mut made = Vec::new();
    for role in roles {
        for number in 1..=count {
            let file = file(home, *role, number);
            if !file.exists() {
                let key = make_at(&file, kind)?;
                made.push(Made { role: role.name(), key_id: key.key_id()?, file });
            }
        }
    }
    Ok(made)
}

/// The keys in the fleet's folder that are meant for a role, by the names of their files: what a repository begins with.
pub(crate) fn meant_for(home: &Home, role: SigningRole) -> Result<Vec<KeyPair>> {
    let files: Vec<PathBuf> = (1..).map(|number| file(home, role, number)).take_while(|file| file.exists()).collect();
    if files.is_empty() {
        bail!(
            "the {} key {} is missing: make the fleet's keys with `sanderling keys create`",
            role.name(),
            file(home, role, 1).display()
        );
    }
    files.iter().map(|file| read(file)).collect()
}

/// Makes a key under the first name that is free.
fn make(home: &Home, role: SigningRole, kind: Kind) -> Result<(PathBuf, KeyPair)> {
    let path = (1..).map(|number| file(home, role, number)).find(|path| !path.exists()).context("no name is free")?;
    let pair = make_at(&path, kind)?;
    Ok((path, pair))
}

fn make_at(path: &Path, kind: Kind) -> Result<KeyPair> {
    let key = KeyPair::generate(kind.into(), &SystemRandom::new())?;
    home::write_secret(path, key.to_pem().as_bytes())?;
    Ok(key)
}

fn file(home: &Home, role: SigningRole, number: u32) -> PathBuf {
    let name = role.name();
    home.path(if number == 1 { format!("keys/{name}.pem") } else { format!("keys/{name}-{number}.pem") })
}

/// Reads a private key; an error names the file.
pub(crate) fn read(path: &Path) -> Result<KeyPair> {
    KeyPair::from_pem(&home::read_text(path)?, &SystemRandom::new())
        .with_context(|| format!("{} is not usable", path.display()))
}
