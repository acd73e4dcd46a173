//! A root that is signed by several, on machines of their own: exported, signed elsewhere, imported, installed.
//!
//! The root that waits lies in `repo/root-signing.json`, in the form in which it is exported. It replaces nothing before the
//! thresholds of both the root in force and the new one are met.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sanderling_protocol::{
    digest::Digest,
    tuf::author::{MAX_FILE_LEN, RootSigning, Signer as _},
};

use super::{
    State, metadata_file,
    sign::{Expiry, Signing},
};
use crate::{
    home::{self, Home},
    keys::{self, SigningRole},
};

const PENDING: &str = "repo/root-signing.json";

/// How a root fares that is to be signed.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Ceremony {
    /// The version of the new root.
    pub(crate) version: u64,
    /// The digest of what is signed.
    pub(crate) sha256: Digest,
    /// What a signer should know.
    pub(crate) summary: Vec<String>,
    /// The ids of the keys that have signed.
    pub(crate) signed_by: Vec<String>,
    /// What is missing; nothing where enough have signed.
    pub(crate) missing: Option<String>,
    /// Whether it is in force now.
    pub(crate) installed: bool,
    /// What was signed after it was installed, with versions.
    pub(crate) signed: Vec<(String, u64)>,
    /// What could not be signed after it was installed, and why.
    pub(crate) waits: Option<String>,
}

impl Ceremony {
    fn of(signing: &RootSigning) -> Self {
        Self {
            version: signing.next().version.get(),
            sha256: signing.digest(),
            summary: signing.summary(),
            signed_by: signing.signers().map(str::to_owned).collect(),
            missing: signing.shortfall().map(|missing| missing.to_string()),
            installed: false,
            signed: Vec::new(),
            waits: None,
        }
    }

    /// What to do next, a sentence each.
    pub(crate) fn next_steps(&self) -> Vec<String> {
        let steps: &[&str] = match (self.installed, &self.missing, &self.waits) {
            (true, _, None) => &["publish it with `sanderling repo publish`"],
            (true, _, Some(_)) => &[
                "sign the rest with `sanderling repo sign` where its keys are",
                "then publish with `sanderling repo publish`",
            ],
            (false, Some(_), _) => &[
                "export it with `sanderling repo root-sign export FILE`",
                "each holder of a root key signs with `sanderling repo root-sign sign FILE --key KEY`",
                "bring the signatures back with `sanderling repo root-sign import FILE`",
            ],
            (false, None, _) => &["install it with `sanderling repo root-sign complete`"],
        };
        steps.iter().map(|step| (*step).to_owned()).collect()
    }
}

/// The root that waits for signatures, if one does.
pub(super) fn pending(home: &Home, state: &State) -> Result<Option<RootSigning>> {
    let path = home.path(PENDING);
    if !path.exists() {
        return Ok(None);
    }
    let signing = parse(&path).context("`sanderling repo root-sign cancel` gives it up")?;
    // What was installed by a command that was cut off waits for nothing any more.
    Ok(Some(signing).filter(|signing| signing.next().version.get() > state.version("root")))
}

/// Signs a new root with the keys that are here, unless `hold`; installs it where they are enough, else lets it wait.
pub(super) fn propose(signing: &mut Signing<'_>, mut root: RootSigning, hold: bool) -> Result<Ceremony> {
    if !hold {
        for (_, _, key) in signing.ring.iter() {
            if root.may_sign(&key.key()).is_ok() {
                root.sign(key)?;
            }
        }
    }
    save(signing.home, &root)?;
    if hold || root.shortfall().is_some() {
        return Ok(Ceremony::of(&root));
    }
    install(signing, &root)
}

fn install(signing: &mut Signing<'_>, root: &RootSigning) -> Result<Ceremony> {
    signing.write_signed(SigningRole::Root, &root.finish()?, Digest::of(b"root"))?;
    signing.trust.root = root.next().clone();
    let waits = signing.settle()?;
    signing.state.save(signing.home)?;
    std::fs::remove_file(signing.home.path(PENDING)).context("could not clear away the root that waited")?;
    Ok(Ceremony { installed: true, signed: signing.made.clone(), waits, ..Ceremony::of(root) })
}

fn save(home: &Home, root: &RootSigning) -> Result<()> {
    home::write(&home.path(PENDING), &root.to_file()?)
}

fn parse(path: &Path) -> Result<RootSigning> {
    let length = std::fs::metadata(path).with_context(|| format!("could not read {}", path.display()))?.len();
    if length > MAX_FILE_LEN as u64 {
        bail!("{}: {length} bytes, an export has at most {MAX_FILE_LEN}", path.display());
    }
    RootSigning::parse(&home::read(path)?).with_context(|| path.display().to_string())
}

fn waiting(home: &Home, state: &State) -> Result<RootSigning> {
    let pending = pending(home, state)?;
    pending.context(
        "no root waits for signatures: begin with `sanderling keys rotate root`, `repo add-key`, `repo remove-key`, `repo set-threshold` or `repo renew root`",
    )
}

/// Writes the file that travels to the signers.
pub(crate) fn export(home: &Home, file: &Path) -> Result<Ceremony> {
    let root = waiting(home, &State::load(home)?)?;
    home::write(file, &root.to_file()?)?;
    Ok(Ceremony::of(&root))
}

/// How the root fares that waits.
pub(crate) fn status(home: &Home) -> Result<Ceremony> {
    Ok(Ceremony::of(&waiting(home, &State::load(home)?)?))
}

/// What stands in an exported file. Needs no repository.
pub(crate) fn show(file: &Path) -> Result<Ceremony> {
    Ok(Ceremony::of(&parse(file)?))
}

/// Signs an exported file, in its place or into another. Needs no repository.
pub(crate) fn sign_elsewhere(file: &Path, key_files: &[PathBuf], out: Option<&Path>) -> Result<Ceremony> {
    let mut root = parse(file)?;
    for key_file in key_files {
        root.sign(&keys::read(key_file)?).with_context(|| key_file.display().to_string())?;
    }
    home::write(out.unwrap_or(file), &root.to_file()?)?;
    Ok(Ceremony::of(&root))
}

/// Takes in signatures that were given elsewhere. Installs the root where they are enough.
pub(crate) fn import(home: &Home, files: &[PathBuf], expiry: Expiry, now: i64) -> Result<Ceremony> {
    let mut signing = Signing::open(home, expiry, now)?;
    let current = signing.state.read_signed(home, "root")?;
    let mut root = None;
    for file in files {
        let signed = parse(file)?;
        // Before anything else: a stale export would otherwise be told that no root waits.
        signed.replaces(&current).with_context(|| file.display().to_string())?;
        let into = match root.take() {
            Some(root) => root,
            None => waiting(home, &signing.state)?,
        };
        root = Some(merged(into, &signed, file)?);
    }
    let root = root.context("name at least one file")?;
    save(home, &root)?;
    if root.shortfall().is_some() { Ok(Ceremony::of(&root)) } else { install(&mut signing, &root) }
}

fn merged(mut into: RootSigning, signed: &RootSigning, file: &Path) -> Result<RootSigning> {
    into.merge(signed).with_context(|| file.display().to_string())?;
    Ok(into)
}

/// Signs the root that waits with the keys that are here. Installs it where they are enough.
pub(crate) fn complete(home: &Home, expiry: Expiry, now: i64) -> Result<Ceremony> {
    let mut signing = Signing::open(home, expiry, now)?;
    let root = waiting(home, &signing.state)?;
    root.replaces(&signing.state.read_signed(home, "root")?)?;
    propose(&mut signing, root, false)
}

/// Gives up the root that waits. `false` where none did.
pub(crate) fn cancel(home: &Home) -> Result<bool> {
    let (_lock, _) = State::open(home)?;
    let path = home.path(PENDING);
    if !path.exists() {
        return Ok(false);
    }
    std::fs::remove_file(&path).with_context(|| format!("could not remove {}", path.display()))?;
    Ok(true)
}

/// The file of the root in force, for messages.
pub(super) fn root_in_force(state: &State) -> String {
    metadata_file(state.version("root"), "root")
}
