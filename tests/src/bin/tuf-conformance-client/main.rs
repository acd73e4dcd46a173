//! `tuf-conformance-client`: what the public TUF conformance suite (theupdateframework/tuf-conformance) puts to the test.
//!
//! Purpose: the suite's command line (its `CLIENT-CLI.md`: `init`, `refresh`, `download`) around `sanderling_protocol::tuf`, the
//! same code that decides in the agent what is trusted. Only transport and storage differ: metadata comes by HTTP from the
//! suite's server instead of by MQTT, and lies in files instead of in a database.
//!
//! Invariants: nothing is stored that was not verified; what a command learnt before it failed stays, as floors for the next.
//! Failure modes: exit status 1 and a sentence on standard error.
//! Limits: plain HTTP on a trusted machine, one request at a time; for tests alone.

#![allow(clippy::print_stderr, reason = "a program that prints")]

mod arguments;
mod folder;
mod http;

use std::{path::Path, process::ExitCode};

use anyhow::{Context, Result};
use sanderling_protocol::tuf::{FetchSpec, Refresh, Step, TargetFile, Trusted};
use sanderling_tests::unix_nanos;

use crate::{
    arguments::{Arguments, Command},
    folder::{Folder, quoted},
};

fn main() -> ExitCode {
    match Arguments::read().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tuf-conformance-client: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let folder = Folder::new(arguments.metadata_dir);
    match arguments.command {
        Command::Init { root } => {
            let bytes = std::fs::read(&root).with_context(|| format!("{}", root.display()))?;
            folder.save(&Trusted::from_root(&bytes)?)
        }
        Command::Refresh { metadata_url } => Session::begin(&folder, metadata_url)?.update(),
        Command::Download { metadata_url, targets, target_url, target_dir } => {
            let mut session = Session::begin(&folder, metadata_url)?;
            session.update()?;
            targets.iter().try_for_each(|path| session.download(path, &target_url, &target_dir))
        }
    }
}

/// One run of the client workflow, with one fixed update start time.
struct Session<'a> {
    folder: &'a Folder,
    metadata_url: String,
    refresh: Refresh,
}

impl<'a> Session<'a> {
    fn begin(folder: &'a Folder, metadata_url: String) -> Result<Self> {
        let refresh = Refresh::start_top_level(folder.load()?, unix_nanos().div_euclid(1_000_000_000));
        Ok(Self { folder, metadata_url, refresh })
    }

    /// Fetches what the refresh asks for until it is done. What is trusted is stored, however it ends.
    fn update(&mut self) -> Result<()> {
        let result = self.fetch_all();
        self.folder.save(self.refresh.trusted())?;
        result
    }

    fn fetch_all(&mut self) -> Result<()> {
        while let Step::Fetch(spec) = self.refresh.next() {
            match http::get(&metadata_url(&self.metadata_url, &spec), spec.max_length)? {
                Some(bytes) => self.refresh.supply(&bytes)?,
                None => self.refresh.absent()?,
            }
        }
        Ok(())
    }

    fn download(&mut self, path: &str, target_url: &str, target_dir: &Path) -> Result<()> {
        self.refresh.seek(path)?;
        self.update()?;
        let trusted = self.refresh.trusted();
        let (file, _) = trusted.target(path)?.with_context(|| format!("no trusted role has the target {path}"))?;
        let place = target_dir.join(quoted(path));
        if std::fs::read(&place).is_ok_and(|held| file.verify(path, &held).is_ok()) {
            return Ok(());
        }
        let url = artifact_url(target_url, path, file, trusted.root().consistent_snapshot);
        let bytes = http::get(&url, file.length)?.with_context(|| format!("the repository does not have {url}"))?;
        file.verify(path, &bytes)?;
        std::fs::write(&place, bytes).with_context(|| format!("{}", place.display()))
    }
}

/// Where a message lies: a role's name may be any text, and is quoted.
fn metadata_url(base: &str, spec: &FetchSpec) -> String {
    let version = spec.version.map(|version| format!("{version}.")).unwrap_or_default();
    format!("{}/{version}{}.json", base.trim_end_matches('/'), quoted(&spec.role))
}

/// Where an artifact lies. Section 5.7.3: with consistent snapshots "the filename is of the form HASH.FILENAME.EXT … where
/// HASH is one of the hashes of the targets file listed in the targets metadata".
fn artifact_url(base: &str, path: &str, file: &TargetFile, consistent: bool) -> String {
    let hashes = &file.hashes.0;
    let digest = hashes.get("sha256").or_else(|| hashes.values().next()).filter(|_| consistent);
    let mut parts: Vec<String> = path.split('/').map(quoted).collect();
    if let (Some(digest), Some(name)) = (digest, parts.last_mut()) {
        *name = format!("{digest}.{name}");
    }
    format!("{}/{}", base.trim_end_matches('/'), parts.join("/"))
}
