//! The keys that sign metadata: one file a role, PKCS#8 PEM, readable by their owner alone.

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use ring::rand::SystemRandom;
use sanderling_protocol::tuf::author::{KeyKind, KeyPair};

use crate::home::{self, Home};

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

    fn file(self) -> String {
        format!("keys/{}.pem", self.name())
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

/// Makes a key for each role that has none. Existing keys are left alone.
pub(crate) fn create(home: &Home, kind: Kind) -> Result<Vec<(SigningRole, String)>> {
    let kind = match kind {
        Kind::Ed25519 => KeyKind::Ed25519,
        Kind::EcdsaP256 => KeyKind::EcdsaP256,
    };
    let random = SystemRandom::new();
    let mut made = Vec::new();
    for role in SigningRole::ALL {
        let path = home.path(role.file());
        if path.exists() {
            continue;
        }
        let key = KeyPair::generate(kind, &random)?;
        home::write_secret(&path, key.to_pem().as_bytes())?;
        made.push((role, key.key_id()?));
    }
    Ok(made)
}

/// Reads the key of a role.
pub(crate) fn load(home: &Home, role: SigningRole) -> Result<KeyPair> {
    let path = home.path(role.file());
    if !path.exists() {
        bail!(
            "the {} key {} is missing: make the fleet's keys with `sanderling keys create`, or bring the key here to sign",
            role.name(),
            path.display()
        );
    }
    KeyPair::from_pem(&home::read_text(&path)?, &SystemRandom::new())
        .with_context(|| format!("{} is not usable", path.display()))
}
