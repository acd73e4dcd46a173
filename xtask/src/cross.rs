//! `cargo xtask cross <target>`: agent and worker for ARM, with Debian's cross compilers, as `cross/README.md` describes.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use crate::{
    process::{self, cargo, find, step, target_dir},
    setup,
};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// aarch64-unknown-linux-gnu or armv7-unknown-linux-gnueabihf.
    target: String,
    /// Only see whether they compile; takes a fraction of the time.
    #[arg(long)]
    check: bool,
}

struct Tools {
    target: &'static str,
    compiler: &'static str,
    packages: &'static [&'static str],
}

const TARGETS: [Tools; 2] = [
    Tools {
        target: "aarch64-unknown-linux-gnu",
        compiler: "aarch64-linux-gnu-gcc",
        packages: &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
    },
    Tools {
        target: "armv7-unknown-linux-gnueabihf",
        compiler: "arm-linux-gnueabihf-gcc",
        packages: &["gcc-arm-linux-gnueabihf", "libc6-dev-armhf-cross"],
    },
];

/// Builds the release programs for the target and prints their sizes, or sees whether they compile.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let Some(tools) = TARGETS.iter().find(|tools| tools.target == arguments.target) else {
        bail!(
            "unknown target {}; known are {}",
            arguments.target,
            TARGETS.each_ref().map(|tools| tools.target).join(", ")
        );
    };
    prepare(tools)?;
    if arguments.check {
        step(&format!("checking agent and worker for {}", tools.target));
        return process::run(&mut compile(tools, &["check", "--quiet"]));
    }
    step(&format!("building agent and worker for {}", tools.target));
    process::run(&mut compile(tools, &["build", "--release"]))?;
    for program in ["sanderling-agent", "sanderling-worker"] {
        let file = target_dir().join(tools.target).join("release").join(program);
        let size = std::fs::metadata(&file).with_context(|| format!("{} is missing", file.display()))?.len();
        println!("{} {} KiB", file.display(), size / 1024);
    }
    Ok(())
}

fn prepare(tools: &Tools) -> Result<()> {
    if find(tools.compiler).is_none() {
        setup::install(tools.packages)?;
    }
    setup::add_target(tools.target)
}

/// Cargo with Debian's compiler for the target.
fn compile(tools: &Tools, what: &[&str]) -> Command {
    let name = tools.target.replace('-', "_");
    let mut command = cargo();
    command.args(what).args(["--target", tools.target, "-p", "sanderling-agent", "-p", "sanderling-runtime"]);
    command.env(format!("CARGO_TARGET_{}_LINKER", name.to_uppercase()), tools.compiler);
    command.env(format!("CC_{name}"), tools.compiler);
    command
}

/// Builds the release programs for the target; the folder that they are in.
pub(crate) fn release(target: &str) -> Result<PathBuf> {
    run(&Arguments { target: target.to_owned(), check: false })?;
    Ok(target_dir().join(target).join("release"))
}
