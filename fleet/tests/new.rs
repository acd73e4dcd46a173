//! `sanderling new`: a project in each language, built with the compilers that `cargo xtask test` installs, and run on its sample frame.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

const SANDERLING: &str = env!("CARGO_BIN_EXE_sanderling");

/// The folder of the compilers: `SANDERLING_TOOLS`, by default `target/tools`.
fn tools() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools");
    let folder = std::env::var_os("SANDERLING_TOOLS").map_or_else(default, PathBuf::from);
    if !folder.is_dir() {
        panic!("{} is missing: `cargo xtask test` makes it, or name it in SANDERLING_TOOLS", folder.display());
    }
    folder
}

fn new(words: &[&str], parent: &Path) -> Output {
    Command::new(SANDERLING).arg("new").args(words).arg("--in").arg(parent).output().unwrap()
}

/// Makes a project and runs its test; both as a user would, but for the compilers' places.
fn makes(language: &str) {
    let home = tempfile::tempdir().unwrap();
    let made = new(&[language, "my-meter"], home.path());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let project = home.path().join("my-meter");
    let output = test(&project);
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("my-meter: passed"), "{said}");
    // The project's test is one that fails where the module does something else.
    std::fs::write(project.join("frames/sample.csv"), "1\n2\n3\n5\n").unwrap();
    let output = test(&project);
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn test(project: &Path) -> Output {
    let tools = tools();
    let program = |name: &str| tools.join("python/bin").join(name);
    let cache = |name: &str| tools.join(name);
    let mut asc = program("node").into_os_string();
    asc.push(" ");
    asc.push(tools.join("npm/node_modules/assemblyscript/bin/asc.js"));
    Command::new(project.join("test.sh"))
        .env("SANDERLING", SANDERLING)
        .env("ASC", asc)
        .env("ZIG", program("python-zig"))
        .env("ZIG_GLOBAL_CACHE_DIR", cache("zig-cache"))
        .env("ZIG_LOCAL_CACHE_DIR", cache("zig-cache"))
        .env("GO", program("go"))
        .env("GOCACHE", cache("go-cache"))
        .env("GOPATH", cache("go-path"))
        .env("GOPROXY", "off")
        .env("GOTOOLCHAIN", "local")
        // What a project in Rust depends on is built once, and taken from what this workspace's build downloaded.
        .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("new"))
        .env("CARGO_NET_OFFLINE", "true")
        .output()
        .unwrap()
}

#[test]
fn a_project_in_rust_builds_and_emits() {
    makes("rust");
}

#[test]
fn a_project_in_c_builds_and_emits() {
    makes("c");
}

#[test]
fn a_project_in_cpp_builds_and_emits() {
    makes("cpp");
}

#[test]
fn a_project_in_assemblyscript_builds_and_emits() {
    makes("assemblyscript");
}

#[test]
fn a_project_in_zig_builds_and_emits() {
    makes("zig");
}

#[test]
fn a_project_in_go_builds_and_emits() {
    makes("go");
}

#[test]
fn refuses_a_folder_that_is_there_and_a_language_without_bindings() {
    let home = tempfile::tempdir().unwrap();
    assert!(new(&["zig", "meter"], home.path()).status.success());
    let again = new(&["zig", "meter"], home.path());
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("is there already"));
    let unknown = new(&["cobol", "ledger"], home.path());
    assert_eq!(unknown.status.code(), Some(2));
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(said.contains("rust, c, cpp, assemblyscript, zig, go"), "{said}");
}
