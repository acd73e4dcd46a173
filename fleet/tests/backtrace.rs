//! `sanderling replay --backtrace` of guests in Rust and C, from a run of the tool itself to the line in their source.

#![cfg(feature = "backtrace")]
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use support::Fleet;

/// What stands in the line of each guest that is looked for.
const MARK: &str = "the marked line";

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests").join(name)
}

fn marked_line(name: &str) -> u64 {
    let text = std::fs::read_to_string(source(name)).unwrap();
    let at = text.lines().position(|line| line.contains(MARK)).unwrap();
    u64::try_from(at).unwrap() + 1
}

/// Builds the guest that is written in `name`; gives the module's file.
fn build(fleet: &Fleet, name: &str, output: &str, options: &[&str]) -> String {
    let mut command = if name.ends_with(".rs") {
        let mut rustc = Command::new("rustc");
        rustc.args([
            "--edition=2024",
            "--target=wasm32-unknown-unknown",
            "--crate-type=cdylib",
            "-Cpanic=abort",
            "-Copt-level=1",
        ]);
        rustc
    } else {
        let mut clang = Command::new("clang-14");
        clang.args(["--target=wasm32", "-nostdlib", "-O1", "-Wall", "-Werror", "-Wl,--no-entry", "-I"]);
        clang.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-abi/include"));
        clang
    };
    let module = fleet.path(output);
    let output = command.args(options).arg("-o").arg(&module).arg(source(name)).output();
    let output = output.unwrap_or_else(|error| panic!("{error}; `cargo xtask setup` installs the compilers"));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    module.to_str().unwrap().to_owned()
}

/// Runs the module on a frame that it has no answer for; gives the capsule.
fn capsule(fleet: &Fleet, module: &str) -> String {
    let frame = fleet.write("frame.bin", &[0]);
    let records = fleet.path("records");
    let output = fleet.run(&["run", module, "--record", records.to_str().unwrap(), "--frames", &frame]);
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let mut files = std::fs::read_dir(records).unwrap();
    files.next().unwrap().unwrap().path().to_str().unwrap().to_owned()
}

/// The entries of the backtrace that are in this guest's source, from the one on that divides.
fn in_source(replayed: &Value, name: &str) -> Vec<Value> {
    let entries = replayed["backtrace"].as_array().unwrap().iter();
    let own = entries.filter(|entry| entry["file"].as_str().is_some_and(|file| file.ends_with(name)));
    own.skip_while(|entry| !entry["name"].as_str().is_some_and(|name| name.ends_with("share"))).cloned().collect()
}

fn assert_is_told(replayed: &Value, name: &str) {
    assert_eq!(replayed["came_again"], true, "{replayed}");
    assert_eq!(replayed["backtrace_exact"], true, "{replayed}");
    let entries = in_source(replayed, name);
    let functions: Vec<&str> = entries.iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    let own: Vec<&str> = functions.iter().map(|name| name.rsplit("::").next().unwrap()).collect();
    assert_eq!(own, ["share", "weighs", "sanderling_frame"], "{replayed}");
    let [share, weighs, ..] = &entries[..] else { panic!("{replayed}") };
    assert_eq!(share["line"], marked_line(name), "{replayed}");
    assert_eq!((&share["inlined"], &share["index"]), (&true.into(), &weighs["index"]), "{replayed}");
    assert!(share["column"].as_u64() > Some(0) && weighs["inlined"] == false, "{replayed}");
}

#[test]
fn a_guest_in_rust_is_told_with_the_line_in_its_source() {
    let fleet = Fleet::new();
    let module = build(&fleet, "shares.rs", "shares.wasm", &["-g"]);
    let capsule = capsule(&fleet, &module);
    let replayed = fleet.json(&["replay", &capsule, "--module", &module, "--backtrace"]);
    assert_is_told(&replayed, "shares.rs");
    // Rust's own check traps, in functions of its library that come before.
    assert_ne!(in_source(&replayed, "shares.rs").first(), replayed["backtrace"].get(0), "{replayed}");
}

#[test]
fn a_guest_in_c_is_told_with_the_line_in_its_source_also_where_it_was_stripped() {
    let fleet = Fleet::new();
    let whole = build(&fleet, "shares.c", "whole.wasm", &["-g"]);
    let stripped = build(&fleet, "shares.c", "stripped.wasm", &["-g", "-Wl,--strip-all"]);
    let capsule = capsule(&fleet, &stripped);
    let replay = |words: &[&str]| {
        let words = [&["replay", &capsule, "--module", &stripped, "--backtrace"][..], words].concat();
        (fleet.json(&words), fleet.done(&words))
    };
    let (bare, words) = replay(&[]);
    assert_eq!(bare["backtrace"][0]["file"], Value::Null, "{bare}");
    assert!(words.contains("--debug-info"), "{words}");
    let (told, words) = replay(&["--debug-info", &whole]);
    assert_is_told(&told, "shares.c");
    assert_eq!(told["backtrace"][0]["name"], "share", "the division is the innermost: {told}");
    let line = format!("shares.c:{}:", marked_line("shares.c"));
    assert!(words.contains("   0  share (inlined)\n") && words.contains(&line), "{words}");

    // Of another build: the same source, other code.
    let other = build(&fleet, "shares.c", "other.wasm", &["-g", "-O0"]);
    let replay = |companion: &str| {
        fleet.refused(&["replay", &capsule, "--module", &stripped, "--backtrace", "--debug-info", companion])
    };
    let said = replay(&other);
    assert!(said.contains("other.wasm is of no use") && said.contains("other code"), "{said}");
    assert!(replay(&stripped).contains("it was stripped as well"));
    assert!(replay(&fleet.write("text.wasm", b"no module at all")).contains("not a WebAssembly module"));
}
