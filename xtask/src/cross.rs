//! `cargo xtask cross <target>`: agent and worker for other processors, with Debian's cross compilers, as `cross/README.md` describes.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    process::{self, cargo, find, output, step, target_dir},
    setup,
};
use targets::{Linker, Target};

#[cfg(test)]
mod recipes;
pub(crate) mod targets;

/// The programs that a gateway needs.
const PROGRAMS: [&str; 2] = ["sanderling-agent", "sanderling-worker"];

#[derive(clap::Args)]
#[command(after_help = "\
The programs lie in <target folder>/<target>/release; their sizes are printed, and where qemu-user-static is installed
(`apt-get install qemu-user-static`) they are started under it and must tell their version.
What each target is for, and what to build with a container engine: cross/README.md")]
pub(crate) struct Arguments {
    /// What is built for.
    #[arg(value_parser = targets::parser(|_| true))]
    target: String,
    /// Only see whether they compile; takes a fraction of the time.
    #[arg(long)]
    check: bool,
    /// Build Rust's standard library too, where rustup has none for the target, or none can be downloaded. Its source must be there:
    /// `rustup component add rust-src`.
    #[arg(long)]
    build_std: bool,
}

/// Builds the release programs for the target and prints their sizes, or sees whether they compile.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let target = targets::find(&arguments.target).context("the target is one of the list")?;
    prepare(target, arguments.build_std)?;
    let mut command = cargo();
    if arguments.check {
        step(&format!("checking agent and worker for {}", target.triple));
        command.args(["check", "--quiet"]);
    } else {
        step(&format!("building agent and worker for {}", target.triple));
        command.args(["build", "--release"]);
    }
    command.args(["-p", "sanderling-agent", "-p", "sanderling-runtime"]);
    target.set(&mut command)?;
    if arguments.build_std {
        // An option of nightly that a stable compiler takes when it is told to.
        command.arg("-Zbuild-std=std,panic_abort").env("RUSTC_BOOTSTRAP", "1");
    }
    process::run(&mut command)?;
    if arguments.check { Ok(()) } else { show(target) }
}

/// Installs what building for the target needs.
pub(crate) fn prepare(target: &Target, build_std: bool) -> Result<()> {
    if find(target.compiler).is_none() {
        setup::install(target.packages)?;
    }
    if target.linker == Linker::Armv6 {
        if find("python3").is_none() {
            setup::install(&["python3", "python3-venv"])?;
        }
        targets::zig().install()?;
    }
    if build_std { Ok(()) } else { setup::add_target(target.triple) }
}

/// Prints the sizes of the programs, and what they say of themselves.
fn show(target: &Target) -> Result<()> {
    for program in PROGRAMS {
        let file = target_dir().join(target.triple).join("release").join(program);
        let size = std::fs::metadata(&file).with_context(|| format!("{} is missing", file.display()))?.len();
        let version = match find(target.emulator) {
            Some(emulator) => version(target, &emulator, &file)?,
            None => "not started: qemu-user-static is not installed".to_owned(),
        };
        println!("{} {} KiB, {version}", file.display(), size / 1024);
    }
    Ok(())
}

/// Starts a program under emulation.
fn version(target: &Target, emulator: &Path, program: &Path) -> Result<String> {
    let mut command = Command::new(emulator);
    command.args(["-cpu", target.processor]);
    if let Some(libraries) = &target.libraries {
        command.args(["-L", libraries.root]);
    }
    let said = output(command.arg(program).arg("--version"))?;
    Ok(format!("`{}` under {}", said.trim(), target.emulator))
}

/// Builds the release programs for the target; the folder that they are in.
pub(crate) fn release(target: &str) -> Result<PathBuf> {
    run(&Arguments { target: target.to_owned(), check: false, build_std: false })?;
    Ok(target_dir().join(target).join("release"))
}
