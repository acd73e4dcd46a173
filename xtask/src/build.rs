//! Building the programs and the guests.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{
    guests,
    process::{cargo, run, step, target_dir},
    setup,
};

/// With which profile.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Our code debuggable, what it stands on fast: demo and tests.
    Dev,
    /// What is shipped, and the benchmarks of it.
    Release,
}

/// How cargo runs tests, however few of them: packages that are named one by one would have other features, and be built again.
pub(crate) const TEST: [&str; 3] = ["test", "--workspace", "--all-features"];

/// The guests in Rust, by folder.
const RUST_GUESTS: [&str; 3] = ["fraud-rule", "surface-defect", "transcode"];

/// What was built.
pub(crate) struct Built {
    /// The folder of the programs.
    pub(crate) programs: PathBuf,
    /// The folder of the guests.
    pub(crate) guests: PathBuf,
}

/// Builds programs and guests.
pub(crate) fn all(profile: Profile) -> Result<Built> {
    setup::for_building()?;
    let guests = guests()?;
    step("building agent, worker and operator's tool (the first time takes several minutes)");
    let mut command = cargo();
    command.args(["build", "-p", "sanderling-agent", "-p", "sanderling-runtime", "-p", "sanderling"]);
    if profile == Profile::Release {
        // In one go with the programs, so that what they have in common is built once.
        command.args(["-p", "sanderling-tests", "--features", "sanderling-tests/bench", "--release"]);
    }
    run(&mut command)?;
    let folder = match profile {
        Profile::Dev => "debug",
        Profile::Release => "release",
    };
    Ok(Built { programs: target_dir().join(folder), guests })
}

/// Builds all tests, and the programs that they start.
pub(crate) fn tests() -> Result<()> {
    step("building all tests (the first time takes several minutes)");
    run(cargo().args(TEST).arg("--no-run"))
}

/// Builds the guests: those in Rust always, the others where their compilers are.
pub(crate) fn guests() -> Result<PathBuf> {
    step("building the guests");
    let folder = target_dir().join("guests");
    std::fs::create_dir_all(&folder).with_context(|| format!("could not create {}", folder.display()))?;
    let packages = RUST_GUESTS.iter().flat_map(|name| ["-p".to_owned(), format!("sanderling-module-{name}")]);
    run(cargo().args(["build", "--release", "--target", setup::GUEST_TARGET]).args(packages))?;
    for name in RUST_GUESTS {
        let file = format!("release/sanderling_module_{}.wasm", name.replace('-', "_"));
        let built = target_dir().join(setup::GUEST_TARGET).join(file);
        copy_if_new(&built, &folder.join(format!("{name}.wasm")))?;
    }
    guests::build(&folder)?;
    Ok(folder)
}

/// Copies unless the content is there already, so that nothing is rebuilt for a new time stamp.
fn copy_if_new(from: &Path, to: &Path) -> Result<()> {
    let content = std::fs::read(from).with_context(|| format!("could not read {}", from.display()))?;
    if std::fs::read(to).is_ok_and(|old| old == content) {
        return Ok(());
    }
    std::fs::write(to, content).with_context(|| format!("could not write {}", to.display()))
}
