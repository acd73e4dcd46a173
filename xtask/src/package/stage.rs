//! A folder as cargo-deb expects it of cargo: the programs, and what is made at packaging time, below `<target>/release`.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use flate2::{Compression, write::GzEncoder};

use super::{Kind, sbom, version::Version};
use crate::process::{output, run, target_dir};

const MAINTAINER: &str = "Sanderling maintainers <sanderling-iot@users.noreply.github.com>";

/// Where the packages of one target are made.
pub(super) struct Stage {
    folder: PathBuf,
    target: String,
    debug: bool,
}

impl Stage {
    pub(super) fn new(target: &str, debug: bool) -> Result<Self> {
        let folder = target_dir().join("package").join(if debug { "debug" } else { "release" });
        let stage = Self { folder, target: target.to_owned(), debug };
        create(&stage.release())?;
        Ok(stage)
    }

    pub(super) fn target(&self) -> &str {
        &self.target
    }

    pub(super) fn is_debug(&self) -> bool {
        self.debug
    }

    /// The target folder, as cargo-deb sees it.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of the packages of a version. Not where cargo-deb puts them: there it removes those of other versions.
    pub(super) fn output(&self, version: &Version) -> Result<PathBuf> {
        let folder = self.folder.join(version.to_string());
        create(&folder)?;
        Ok(folder)
    }

    /// The program as it is packaged.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.release().join(name)
    }

    /// The bill of materials as it is packaged.
    pub(super) fn bill(&self, package: &str) -> PathBuf {
        self.release().join("share").join(package).join(format!("{package}.cdx.json"))
    }

    /// Lays there what goes into a package and is not in the repository.
    pub(super) fn fill(&self, kind: &Kind, programs: &Path, version: &Version) -> Result<()> {
        for name in kind.programs {
            self.lay(&programs.join(name), &self.program(name))?;
        }
        let share = self.release().join("share").join(kind.name);
        // Without what an earlier version laid there.
        let _ = fs::remove_dir_all(&share);
        create(&share)?;
        if kind.name == super::TOOL.name {
            documents(&self.program(kind.name), &share)?;
        }
        let crates = super::crates::of(kind, &self.target)?;
        let bill = sbom::bill(kind, version, &self.target, &crates)?;
        write(&self.bill(kind.name), bill.as_bytes())?;
        write(&share.join("third-party-licenses.gz"), &compressed(&sbom::licenses(&crates)?)?)?;
        write(&share.join("changelog.Debian.gz"), &compressed(&changelog(kind, version)?)?)
    }

    /// Copies a program; one of a debug build without its symbols, which would be most of the package.
    fn lay(&self, from: &Path, to: &Path) -> Result<()> {
        fs::copy(from, to).with_context(|| format!("{} is missing: `cargo xtask build`", from.display()))?;
        if self.debug { run(Command::new("strip").arg(to)) } else { Ok(()) }
    }

    fn release(&self) -> PathBuf {
        self.folder.join(&self.target).join("release")
    }
}

/// What the operator's tool says of itself: manual pages, compressed, and completions for shells.
fn documents(program: &Path, share: &Path) -> Result<()> {
    let pages = share.join("man");
    run(Command::new(program).args(["man", "--out"]).arg(&pages))?;
    for page in fs::read_dir(&pages).with_context(|| format!("could not look at {}", pages.display()))? {
        let page = page.context("could not look at a manual page")?.path();
        let text = fs::read_to_string(&page).with_context(|| format!("could not read {}", page.display()))?;
        write(&page.with_added_extension("gz"), &compressed(&text)?)?;
    }
    for shell in ["bash", "fish", "zsh"] {
        let script = output(Command::new(program).args(["completions", shell]))?;
        write(&share.join(format!("sanderling.{shell}")), script.as_bytes())?;
    }
    Ok(())
}

/// Debian's changelog: of the packaging, which changes with the whole.
fn changelog(kind: &Kind, version: &Version) -> Result<String> {
    Ok(format!(
        "{} ({version}) unstable; urgency=medium\n\n  * Built from the sources of this version; what is new stands in changelog.gz.\n\n -- {MAINTAINER}  {}\n",
        kind.name,
        version.date_of_changelog()?
    ))
}

/// Compressed as Debian wants it: as small as it gets, and without a time.
fn compressed(text: &str) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes()).context("could not compress")?;
    encoder.finish().context("could not compress")
}

fn create(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("could not create {}", folder.display()))
}

fn write(file: &Path, content: &[u8]) -> Result<()> {
    fs::write(file, content).with_context(|| format!("could not write {}", file.display()))
}
