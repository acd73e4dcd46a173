//! The targets: for which boards, and what of Debian builds and runs programs for them. `cross/Cross.toml` and the recipes beside it say the same for
//! the tool `cross`; a test holds them to this table.

use std::process::Command;

use anyhow::{Context, Result};
use clap::builder::{PossibleValue, PossibleValuesParser};

use crate::{
    process::{root, target_dir},
    tools::Environment,
};

/// A target of agent and worker.
pub(crate) struct Target {
    /// As Rust names it.
    pub(crate) triple: &'static str,
    /// Which boards run it.
    pub(crate) boards: &'static str,
    /// Debian's compiler.
    pub(crate) compiler: &'static str,
    pub(crate) linker: Linker,
    /// The Debian packages that bring the compiler.
    pub(crate) packages: &'static [&'static str],
    /// qemu's program for the processor, of Debian's package `qemu-user-static`.
    pub(crate) emulator: &'static str,
    /// The processor that is emulated: one that gateways have, rather than one that has everything.
    pub(crate) processor: &'static str,
    /// The target's C library, which packages of the compiler bring; `None` where programs hold theirs.
    pub(crate) libraries: Option<Libraries>,
}

/// What links programs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Linker {
    /// The compiler.
    Compiler,
    /// [`ARMV6`].
    Armv6,
}

/// A script that has Zig link, in the folder `cross`: Debian's compiler for 32-bit ARM brings start files and a libgcc for ARMv7 alone.
const ARMV6: &str = "armv6-gcc";

/// Where the libraries of a target lie on the machine that builds.
pub(crate) struct Libraries {
    /// The folder that stands for the target's root.
    pub(crate) root: &'static str,
    /// The dynamic loader, within.
    pub(crate) loader: &'static str,
}

const ARM64: Libraries = Libraries { root: "/usr/aarch64-linux-gnu", loader: "lib/ld-linux-aarch64.so.1" };
const ARMHF: Libraries = Libraries { root: "/usr/arm-linux-gnueabihf", loader: "lib/ld-linux-armhf.so.3" };
const RISCV64: Libraries = Libraries { root: "/usr/riscv64-linux-gnu", loader: "lib/ld-linux-riscv64-lp64d.so.1" };

/// All that are known.
pub(crate) const TARGETS: [Target; 5] = [
    Target {
        triple: "aarch64-unknown-linux-gnu",
        boards: "64-bit ARM with glibc",
        compiler: "aarch64-linux-gnu-gcc",
        linker: Linker::Compiler,
        packages: &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
        emulator: "qemu-aarch64-static",
        processor: "cortex-a53",
        libraries: Some(ARM64),
    },
    Target {
        triple: "aarch64-unknown-linux-musl",
        boards: "64-bit ARM with any C library or none: the programs are static",
        // Rust brings musl itself, its start files and its unwinder; of Debian's the compiler and the linker alone are used.
        compiler: "aarch64-linux-gnu-gcc",
        linker: Linker::Compiler,
        packages: &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
        emulator: "qemu-aarch64-static",
        processor: "cortex-a53",
        libraries: None,
    },
    Target {
        triple: "armv7-unknown-linux-gnueabihf",
        boards: "32-bit ARMv7 with hardware floating point and glibc",
        compiler: "arm-linux-gnueabihf-gcc",
        linker: Linker::Compiler,
        packages: &["gcc-arm-linux-gnueabihf", "libc6-dev-armhf-cross"],
        emulator: "qemu-arm-static",
        processor: "cortex-a7",
        libraries: Some(ARMHF),
    },
    Target {
        triple: "arm-unknown-linux-gnueabihf",
        boards: "32-bit ARMv6 with hardware floating point and glibc",
        compiler: "arm-linux-gnueabihf-gcc",
        linker: Linker::Armv6,
        packages: &["gcc-arm-linux-gnueabihf", "libc6-dev-armhf-cross"],
        emulator: "qemu-arm-static",
        processor: "cortex-a7",
        libraries: Some(ARMHF),
    },
    Target {
        triple: "riscv64gc-unknown-linux-gnu",
        boards: "64-bit RISC-V with glibc",
        compiler: "riscv64-linux-gnu-gcc",
        linker: Linker::Compiler,
        packages: &["gcc-riscv64-linux-gnu", "libc6-dev-riscv64-cross"],
        emulator: "qemu-riscv64-static",
        processor: "rv64",
        libraries: Some(RISCV64),
    },
];

impl Target {
    /// What cargo and the build scripts of crates read, with its value.
    pub(crate) fn environment(&self) -> [(String, &'static str); 2] {
        let name = self.triple.replace('-', "_");
        let linker = match self.linker {
            Linker::Compiler => self.compiler,
            Linker::Armv6 => ARMV6,
        };
        [(format!("CARGO_TARGET_{}_LINKER", name.to_uppercase()), linker), (format!("CC_{name}"), self.compiler)]
    }

    /// Tells a command of cargo.
    pub(crate) fn set(&self, command: &mut Command) -> Result<()> {
        command.args(["--target", self.triple]).envs(self.environment());
        if self.linker == Linker::Armv6 {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let folders = std::iter::once(root().join("cross")).chain(std::env::split_paths(&path));
            command.env("PATH", std::env::join_paths(folders).context("the PATH cannot be extended")?);
            command.env("ZIG", zig().program("python-zig"));
        }
        Ok(())
    }
}

/// Where Zig is, which links for ARMv6.
pub(crate) fn zig() -> Environment {
    Environment {
        folder: target_dir().join("cross-python"),
        requirements: "cross/requirements.txt",
        needed_by: "programs for ARMv6",
    }
}

/// The target with this name.
pub(crate) fn find(triple: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.triple == triple)
}

/// Takes the names of targets from the command line; help and errors list those that are known, or those of them that are wanted.
pub(crate) fn parser(wanted: impl Fn(&Target) -> bool) -> PossibleValuesParser {
    let known = TARGETS.iter().filter(|target| wanted(target));
    PossibleValuesParser::new(known.map(|target| PossibleValue::new(target.triple).help(target.boards)))
}
