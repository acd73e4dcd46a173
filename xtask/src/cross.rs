//! `cargo xtask cross <target>`: agent and worker for ARM, with Debian's cross compilers, as `cross/README.md` describes.

use anyhow::{Context, Result, bail};

use crate::{
    process::{self, cargo, find, step, target_dir},
    setup,
};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// aarch64-unknown-linux-gnu or armv7-unknown-linux-gnueabihf.
    target: String,
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

/// Builds the release programs for the target and prints their sizes.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let Some(tools) = TARGETS.iter().find(|tools| tools.target == arguments.target) else {
        bail!(
            "unknown target {}; known are {}",
            arguments.target,
            TARGETS.each_ref().map(|tools| tools.target).join(", ")
        );
    };
    build(tools)
}

fn build(tools: &Tools) -> Result<()> {
    if find(tools.compiler).is_none() {
        setup::install(tools.packages)?;
    }
    setup::add_target(tools.target)?;
    step(&format!("building agent and worker for {}", tools.target));
    let name = tools.target.replace('-', "_");
    process::run(
        cargo()
            .args([
                "build",
                "--release",
                "--target",
                tools.target,
                "-p",
                "sanderling-agent",
                "-p",
                "sanderling-runtime",
            ])
            .env(format!("CARGO_TARGET_{}_LINKER", name.to_uppercase()), tools.compiler)
            .env(format!("CC_{name}"), tools.compiler),
    )?;
    for program in ["sanderling-agent", "sanderling-worker"] {
        let file = target_dir().join(tools.target).join("release").join(program);
        let size = std::fs::metadata(&file).with_context(|| format!("{} is missing", file.display()))?.len();
        println!("{} {} KiB", file.display(), size / 1024);
    }
    Ok(())
}
