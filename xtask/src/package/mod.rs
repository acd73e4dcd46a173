//! `cargo xtask package`: Debian packages, by cargo-deb.
//!
//! What is in them stands in `[package.metadata.deb]` of `agent/Cargo.toml` and `fleet/Cargo.toml`. Here the programs are built, or
//! taken from a debug build, and laid where cargo-deb looks for them, with what is made at packaging time beside them.

mod check;
mod crates;
mod depends;
mod sbom;
mod stage;
mod version;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    cross,
    process::{cargo, output, run as execute, step, target_dir},
    setup,
};
use stage::Stage;
use version::Version;

const CARGO_DEB: (&str, &str) = ("cargo-deb", "3.8.0");

/// The Debian revision, unless told otherwise.
const FIRST_REVISION: &str = "1";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Package for this target; repeat for several. This machine's, unless told otherwise.
    #[arg(long, value_name = "TARGET")]
    target: Vec<String>,
    /// Package the programs of this machine that the tests built, in place of release builds: to try packaging itself.
    #[arg(long, conflicts_with = "target")]
    debug: bool,
    /// Package the programs in this folder, which were built by other means for the one target.
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// Try the packages in a Debian tree: install, upgrade, remove and purge, with systemd running and without. As root.
    #[arg(long, conflicts_with = "target")]
    check: bool,
    /// The Debian revision: what is counted up where the packaging changes and the version does not.
    #[arg(long, value_name = "NUMBER", default_value = FIRST_REVISION)]
    deb_revision: String,
}

/// A package, and the crate that describes it.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    programs: &'static [&'static str],
    /// The crates of the programs, as cargo builds them.
    crates: &'static [&'static str],
}

const AGENT: Kind = Kind {
    name: "sanderling-agent",
    programs: &["sanderling-agent", "sanderling-worker"],
    crates: &["sanderling-agent", "sanderling-runtime"],
};

const TOOL: Kind = Kind { name: "sanderling", programs: &["sanderling"], crates: &["sanderling"] };

/// Builds the packages and prints where they are.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let host = host()?;
    let version = Version::new(env!("CARGO_PKG_VERSION"), &arguments.deb_revision)?;
    let targets = if arguments.target.is_empty() { std::slice::from_ref(&host) } else { &arguments.target[..] };
    if arguments.programs.is_some() && targets.len() > 1 {
        bail!("--programs is for one target; {} are given", targets.len());
    }
    for target in targets {
        let made = packages(target, target == &host, arguments, &version)?;
        for file in &made {
            let size = std::fs::metadata(file).with_context(|| format!("{} is missing", file.display()))?.len();
            println!("{} {} KiB", file.display(), size / 1024);
        }
        if arguments.check {
            let next = packages(target, true, arguments, &version.next())?;
            check::run(&made, &next)?;
        }
    }
    Ok(())
}

/// Builds the agent for another machine, and its package.
pub(crate) fn agent(target: &str) -> Result<PathBuf> {
    let version = Version::new(env!("CARGO_PKG_VERSION"), FIRST_REVISION)?;
    package(&AGENT, &Stage::new(target, false)?, &cross::release(target)?, &version)
}

/// The packages for a target: the agent's, and on this machine the operator's tool.
fn packages(target: &str, native: bool, arguments: &Arguments, version: &Version) -> Result<Vec<PathBuf>> {
    let stage = Stage::new(target, arguments.debug)?;
    let kinds: &[Kind] = if native { &[AGENT, TOOL] } else { &[AGENT] };
    let programs = |kind: &Kind| match &arguments.programs {
        Some(folder) => Ok(folder.clone()),
        None if arguments.debug => Ok(target_dir().join("debug")),
        None => build(kind, target, native),
    };
    kinds.iter().map(|kind| package(kind, &stage, &programs(kind)?, version)).collect()
}

/// Builds the release programs; the folder that they are in.
fn build(kind: &Kind, target: &str, native: bool) -> Result<PathBuf> {
    if !native {
        return cross::release(target);
    }
    step(&format!("building {} (the first time takes several minutes)", kind.programs.join(" and ")));
    // Each package by itself: what the tool wants of a crate that both have would be in the agent, too.
    execute(cargo().args(["build", "--release"]).args(kind.crates.iter().flat_map(|name| ["-p", name])))?;
    Ok(target_dir().join("release"))
}

fn package(kind: &Kind, stage: &Stage, programs: &Path, version: &Version) -> Result<PathBuf> {
    step(&format!("packaging {} {version} for {}", kind.name, stage.target()));
    stage.fill(kind, programs, version)?;
    let mut command = Command::new(setup::cargo_tool(CARGO_DEB.0, CARGO_DEB.1)?);
    command.current_dir(crate::process::root());
    command.args(["--no-build", "--no-strip", "--locked", "-p", kind.name, "--target", stage.target()]);
    command.args(["--deb-version", &version.to_string(), "-o"]).arg(stage.output(version)?);
    // Most of the time goes into compressing programs that nobody will install.
    if stage.is_debug() {
        command.arg("--fast");
    }
    let printed = output(command.env("CARGO_TARGET_DIR", stage.folder()).env("SOURCE_DATE_EPOCH", version.date()))?;
    let file = printed.lines().last().map(PathBuf::from).context("cargo-deb does not say what it made")?;
    depends::check(&file, kind.programs.iter().map(|program| stage.program(program)))?;
    // Beside the package too, for whoever does not unpack it.
    let bill = file.with_extension("cdx.json");
    std::fs::copy(stage.bill(kind.name), &bill).with_context(|| format!("could not write {}", bill.display()))?;
    Ok(file)
}

/// The target that this machine is.
fn host() -> Result<String> {
    let text = output(Command::new("rustc").arg("-vV"))?;
    match text.lines().find_map(|line| line.strip_prefix("host: ")) {
        Some(target) => Ok(target.to_owned()),
        None => bail!("rustc -vV does not say what this machine is"),
    }
}
