//! What a machine needs: installed here, or named in one sentence with how to get it.

use std::{ffi::OsStr, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use crate::{
    process::{cargo, find, output, run, step, target_dir},
    tools::{Environment, Languages},
};

/// The target of guests in Rust.
pub(crate) const GUEST_TARGET: &str = "wasm32-unknown-unknown";

/// What the tests call, and the Debian packages that bring it.
const TEST_TOOLS: &[(&str, &[&str])] = &[
    ("mosquitto", &["mosquitto"]),
    ("mosquitto_sub", &["mosquitto-clients"]),
    ("clang-14", &["clang-14", "lld-14", "wasi-libc", "libclang-rt-14-dev-wasm32"]),
    ("wasm-ld-14", &["lld-14"]),
    ("python3", &["python3", "python3-venv"]),
];

/// A C compiler and the Rust target of guests.
pub(crate) fn for_building() -> Result<()> {
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    if find(&compiler).is_none() && !std::path::Path::new(&compiler).is_file() {
        bail!("there is no C compiler `{compiler}`: install one, on Debian with `apt-get install gcc libc6-dev`");
    }
    add_target(GUEST_TARGET)
}

/// The broker, compilers and tools that tests run.
pub(crate) fn for_testing() -> Result<()> {
    let missing: Vec<&str> = TEST_TOOLS
        .iter()
        .filter(|(tool, _)| find(tool).is_none())
        .flat_map(|(_, packages)| *packages)
        .copied()
        .collect();
    install(&missing)?;
    python_packages().install()?;
    Languages::new().install()
}

/// The Python that has what `tests/python/requirements.txt` names.
pub(crate) fn python() -> PathBuf {
    python_packages().program("python3")
}

fn python_packages() -> Environment {
    Environment {
        folder: target_dir().join("python"),
        requirements: "tests/python/requirements.txt",
        needed_by: "the tests",
    }
}

/// A program of a crate in exactly this version, installed into the target folder unless it is there.
pub(crate) fn cargo_tool(name: &str, version: &str) -> Result<PathBuf> {
    let folder = target_dir().join("cargo-tools");
    let program = folder.join("bin").join(name);
    let there = Command::new(&program).arg("--version").output();
    if there.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).trim().ends_with(version)) {
        return Ok(program);
    }
    step(&format!("installing {name} {version}"));
    let mut install = cargo();
    install.args(["install", "--quiet", "--locked", name, "--version", version, "--root"]).arg(&folder);
    run(&mut install)
        .with_context(|| format!("{name} is missing: install it with `cargo install {name} --version {version}`"))?;
    Ok(program)
}

/// Adds a Rust target unless it is there.
pub(crate) fn add_target(target: &str) -> Result<()> {
    let library = output(Command::new("rustc").args(["--print", "target-libdir", "--target", target]))?;
    if std::path::Path::new(library.trim()).is_dir() {
        return Ok(());
    }
    step(&format!("adding the Rust target {target}"));
    let advice = || format!("the Rust target {target} is missing: install it with `rustup target add {target}`");
    if find("rustup").is_none() {
        bail!(advice());
    }
    run(Command::new("rustup").args(["target", "add", target])).with_context(advice)
}

/// A program as root: by itself, or with sudo where that asks nothing.
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Result<Command> {
    let program = program.as_ref();
    if output(Command::new("id").arg("-u"))?.trim() == "0" {
        return Ok(Command::new(program));
    }
    let mut command = Command::new("sudo");
    command.arg("-n").arg(program);
    Ok(command)
}

/// Installs Debian packages, as root or with sudo.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let advice = || format!("install them with `apt-get install {}`", packages.join(" "));
    if find("apt-get").is_none() {
        bail!("the tests need programs that are missing, and there is no apt-get; {}", advice());
    }
    step(&format!("installing {}", packages.join(" ")));
    let apt = |words: &[&str]| {
        let mut command = as_root("apt-get")?;
        run(command.args(words).env("DEBIAN_FRONTEND", "noninteractive").stdout(std::io::stderr()))
    };
    // A mirror that is being written serves lists and packages that do not fit each other; a second look finds it whole.
    let attempt = || apt(&["-q", "update"]).and_then(|()| apt(&[&["-q", "-y", "install"], packages].concat()));
    attempt().or_else(|_| attempt()).with_context(advice)
}
