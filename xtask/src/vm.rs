//! `cargo xtask vm`: the packaged agent on a virtual gateway, as `tests/vm/main.rs` tells it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    build, package,
    process::{find, root, run as execute, step, target_dir},
    setup,
};

/// What the gateway is.
const TARGET: &str = "aarch64-unknown-linux-gnu";

/// What the image and the machine need, and the Debian packages that bring it.
const TOOLS: &[(&str, &str)] = &[
    ("qemu-system-aarch64", "qemu-system-arm"),
    ("qemu-img", "qemu-utils"),
    ("qemu-aarch64-static", "qemu-user-static"),
    ("update-binfmts", "binfmt-support"),
    ("mmdebstrap", "mmdebstrap"),
    ("mke2fs", "e2fsprogs"),
];

#[derive(clap::Args)]
#[command(after_help = "\
The image is built once (as root, or with sudo) and lies in <target folder>/vm; SANDERLING_DEBIAN_MIRROR names another mirror.
The processor is emulated: on an idle machine twenty power cuts take about ten minutes, beside a build half an hour. What is shown, and the figures: docs/virtual-gateway.md")]
pub(crate) struct Arguments {
    /// How often the power is cut in the middle of an update.
    #[arg(long, default_value = "20")]
    cuts: u32,
    /// What decides when it is cut: the same seed, the same moments.
    #[arg(long, default_value = "1")]
    seed: u64,
    /// Print the figures as one JSON object.
    #[arg(long)]
    json: bool,
    /// This package of the agent for arm64, instead of one that is built now.
    #[arg(long, value_name = "FILE")]
    deb: Option<PathBuf>,
}

/// Builds package and image, boots, and tells what happened.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::for_building()?;
    setup::for_testing()?;
    let missing: Vec<&str> =
        TOOLS.iter().filter(|(tool, _)| find(tool).is_none()).map(|(_, package)| *package).collect();
    setup::install(&missing)?;
    let guests = build::guests()?;
    build::tests()?;
    let deb = match &arguments.deb {
        Some(deb) => deb.clone(),
        None => package::agent(TARGET)?,
    };
    let image = image()?;
    let programs = target_dir().join("debug");
    let mut vm = Command::new(programs.join("sanderling-vm"));
    vm.arg("--deb").arg(deb).arg("--image").arg(image);
    vm.args(["--cuts", &arguments.cuts.to_string(), "--seed", &arguments.seed.to_string()]);
    if arguments.json {
        vm.arg("--json");
    }
    execute(vm.env("SANDERLING_PROGRAMS", programs).env("SANDERLING_GUESTS", guests))
}

/// The folder of disk, kernel and initial ramdisk, built unless what builds them is as it was.
fn image() -> Result<PathBuf> {
    let (recipe, folder) = (root().join("tests/vm/image"), target_dir().join("vm/image"));
    let wanted = content(&recipe)?;
    let stamp = folder.join("built-by");
    if fs::read(&stamp).is_ok_and(|built| built == wanted) {
        return Ok(folder);
    }
    step(
        "building the image of the virtual gateway (several minutes, since its packages are installed under emulation)",
    );
    execute(setup::as_root(recipe.join("build"))?.arg(&folder))?;
    fs::write(&stamp, wanted).with_context(|| format!("could not write {}", stamp.display()))?;
    Ok(folder)
}

/// All that stands in the files of a folder, in the order of their paths.
fn content(folder: &Path) -> Result<Vec<u8>> {
    let mut entries = fs::read_dir(folder)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| folder.display().to_string())?;
    entries.sort_by_key(fs::DirEntry::path);
    let mut all = Vec::new();
    for entry in entries {
        let path = entry.path();
        all.extend(if path.is_dir() {
            content(&path)?
        } else {
            fs::read(&path).with_context(|| path.display().to_string())?
        });
    }
    Ok(all)
}
