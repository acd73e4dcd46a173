//! Whether the packages do to a Debian system what its users expect: installed, upgraded, removed and purged in a tree of its own,
//! once as an image is filled, without systemd running, and once booted, with the agent running as a service.

mod booted;
mod filled;
mod tree;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    process::{find, root, run as run_program, step, target_dir},
    setup,
    tools::Environment,
};
use tree::{Entry, Tree};

/// The packages of one version.
struct Packages<'a> {
    agent: &'a Path,
    tool: &'a Path,
}

impl<'a> Packages<'a> {
    fn of(files: &'a [PathBuf]) -> Result<Self> {
        let [agent, tool] = files else { bail!("there are {} packages, not two", files.len()) };
        Ok(Self { agent, tool })
    }
}

/// What installing and purging may leave changed: accounts, which Debian keeps, and what dpkg, systemd and man note for themselves.
const NOTED: [&str; 13] = [
    "/etc/.pwd.lock",
    "/etc/group",
    "/etc/gshadow",
    "/etc/machine-id",
    "/etc/passwd",
    "/etc/shadow",
    "/etc/subgid",
    "/etc/subuid",
    // Of the systemctl that this check calls in a tree whose /run is a folder like others.
    "/run/systemd",
    "/var/cache/man",
    "/var/lib/dpkg",
    "/var/lib/systemd",
    "/var/log",
];

/// Where the fleet of the test lies in the tree.
const FLEET: &str = "/root/fleet";

/// Tries the packages, and those of a later version of the same.
pub(super) fn run(packages: &[PathBuf], next: &[PathBuf]) -> Result<()> {
    lint(packages)?;
    bills(packages)?;
    let (packages, next) = (&Packages::of(packages)?, &Packages::of(next)?);
    step("installing, upgrading, removing and purging, as an image is filled");
    filled::run(packages, next).context("without systemd running")?;
    step("installing, upgrading, removing and purging, as a service that runs");
    booted::run(packages, next).context("with systemd running")?;
    println!("the packages install, upgrade, remove and purge as they should");
    Ok(())
}

/// What Debian's own check says. Beyond warnings it guesses: at words in programs, and at build flags of C.
fn lint(packages: &[PathBuf]) -> Result<()> {
    if find("lintian").is_none() {
        setup::install(&["lintian"])?;
    }
    let mut lintian = Command::new("lintian");
    run_program(lintian.args(["--allow-root", "--tag-display-limit", "0", "--fail-on", "error,warning"]).args(packages))
}

/// The bills of materials are as CycloneDX has them.
fn bills(packages: &[PathBuf]) -> Result<()> {
    let python = Environment {
        folder: target_dir().join("package").join("python"),
        requirements: "tests/python/sbom.txt",
        needed_by: "the check of packages",
    };
    python.install()?;
    let mut validate = Command::new(python.program("python3"));
    validate.arg(root().join("tests/python/sbom.py"));
    run_program(validate.args(packages.iter().map(|file| file.with_extension("cdx.json"))))
}

fn install(tree: &Tree, files: &[&Path]) -> Result<()> {
    let mut words = vec!["dpkg".to_owned(), "--install".to_owned()];
    for file in files {
        let name = file.file_name().context("a package without a name")?.to_string_lossy();
        let inside = format!("/root/{name}");
        fs::copy(file, tree.path(&inside)).with_context(|| format!("could not copy {}", file.display()))?;
        words.push(inside);
    }
    tree.text(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
    Ok(())
}

/// Makes a fleet with the tool in the tree, and puts a device's folder where docs/installing.md puts it.
fn provision(tree: &Tree) -> Result<()> {
    let script = format!(
        "umask 077; mkdir -p {FLEET}; cd {FLEET}; sanderling keys create && sanderling repo init && \
         sanderling provision device gw-1 --host broker.test.internal && cp -r fleet/devices/gw-1/. /etc/sanderling/ && \
         systemd-tmpfiles --create sanderling-provisioned.conf"
    );
    tree.text(&["sh", "-c", &script])?;
    Ok(())
}

/// Fails unless the command prints exactly this.
fn says(tree: &Tree, words: &[&str], wanted: &str) -> Result<()> {
    let output = tree.run(words)?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure!(
        said == wanted,
        "{} says {said:?} {}, not {wanted:?}",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Fails unless the path has this owner, group and mode.
fn owned(tree: &Tree, path: &str, wanted: &str) -> Result<()> {
    says(tree, &["stat", "--format=%U:%G %a", path], wanted).with_context(|| path.to_owned())
}

/// Fails where a tree is not as it was, but for what Debian notes for itself.
fn unchanged(before: &BTreeMap<String, Entry>, after: &BTreeMap<String, Entry>) -> Result<()> {
    let noted = |path: &str| path.starts_with("/root") || NOTED.iter().any(|noted| path.starts_with(noted));
    let mut differences = Vec::new();
    for path in before.keys().chain(after.keys()).filter(|path| !noted(path)) {
        let difference = match (before.get(path), after.get(path)) {
            (Some(old), Some(new)) if old == new => continue,
            (Some(_), Some(_)) => "changed",
            (Some(_), None) => "is gone",
            _ => "is left",
        };
        differences.push(format!("{path} {difference}"));
    }
    differences.sort();
    differences.dedup();
    if !differences.is_empty() {
        bail!("after the purge {}", differences.join(", "));
    }
    Ok(())
}
