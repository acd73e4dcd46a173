//! The public test suite of WASI, for what of it needs no file system. It is in no package registry, so that this test runs only where it is
//! asked for, and then fails without a checkout: see docs/wasi.md.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use sanderling_protocol::{
    deployment::{Execution, Limits},
    worker::{Fault, FaultCode},
};
use sanderling_runtime::{
    FakeClock, FrameBytes, FrameHeader, Guest, LoadSpec, Outcome, Ports, Recorder, Said, SeededRandom,
};
use serde_json::{Value, json};

/// Where the branch `prod/testsuite-base` keeps its compiled programs, by the language that they were written in.
const FOLDERS: [&str; 3] = ["assemblyscript", "c", "rust"];
/// It takes descriptor 3 for one that is not open. Here it is the folder of `/dev/stdin`, as libraries look for it, and the answer that it is no
/// socket is the right one.
const OTHERWISE: &str = "c/sock_shutdown-invalid_fd";

#[test]
#[ignore = "needs a checkout of WebAssembly/wasi-testsuite, branch prod/testsuite-base, named in WASI_TESTSUITE"]
fn all_that_needs_no_file_system_passes() {
    let checkout = PathBuf::from(std::env::var_os("WASI_TESTSUITE").expect("WASI_TESTSUITE names a checkout"));
    let (mut passed, mut failed, mut left_out) = (0, 0, 0);
    for language in FOLDERS {
        for program in programs(&checkout.join("tests").join(language).join("testsuite/wasm32-wasip1")) {
            let name = format!("{language}/{}", program.file_stem().unwrap().to_string_lossy());
            let spec = fs::read(program.with_extension("json"))
                .map_or(json!({}), |text| serde_json::from_slice(&text).unwrap());
            if !spec["root"].is_null() || spec.get("operations").is_some() {
                left_out += 1;
                println!("left out  {name}: it works on a directory");
                continue;
            }
            if name == OTHERWISE {
                left_out += 1;
                println!("left out  {name}: descriptor 3 is open here");
                continue;
            }
            match run(&fs::read(&program).unwrap(), &spec) {
                Ok(()) => {
                    passed += 1;
                    println!("passed    {name}");
                }
                Err(why) => {
                    failed += 1;
                    println!("FAILED    {name}: {why}");
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed, {left_out} left out");
    assert!(passed > 0 && failed == 0, "{failed} of {}", passed + failed);
}

fn programs(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut programs: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    programs.retain(|path| path.extension().is_some_and(|extension| extension == "wasm"));
    programs.sort();
    programs
}

/// Runs a program as a command on an empty frame and compares its end and its output with what is expected.
fn run(module: &[u8], expected: &Value) -> Result<(), String> {
    let said = Recorder::default();
    let ports = Ports {
        clock: Arc::new(FakeClock::with_step(1000)),
        output: Box::new(said.clone()),
        random: Box::new(SeededRandom::new(1)),
        stop: Box::new(|| false),
    };
    let config = json!({ "env": expected["env"], "args": expected["args"] });
    let spec = LoadSpec {
        module,
        config: config.to_string(),
        grants: vec!["emit:stdout".parse().unwrap()],
        limits: Limits { memory_mib: 64, deadline_ms: 60_000, ..Limits::default() },
        execution: Execution::Command,
        ..LoadSpec::default()
    };
    let mut guest = Guest::load(spec, ports).map_err(|fault| fault.to_string())?;
    let status = status(guest.frame(&FrameHeader::new("none", 0), FrameBytes::Static(&[])))?;
    let wanted = expected["exit_code"].as_i64().unwrap_or(0);
    let (mut output, mut log) = (Vec::new(), String::new());
    for said in said.take() {
        match said {
            Said::Emit { payload, .. } => output.push(String::from_utf8_lossy(&payload).into_owned()),
            Said::Log { text, .. } => log.push_str(&text),
            Said::Denied(function) => return Err(format!("{function} was denied")),
        }
    }
    if i64::from(status) != wanted {
        return Err(format!("it ended with {status} instead of {wanted}: {log}"));
    }
    match expected["stdout"].as_str() {
        Some(wanted) if output.join("\n") != wanted.trim_end_matches('\n') => {
            Err(format!("it wrote {output:?} instead of {wanted:?}"))
        }
        _ => Ok(()),
    }
}

fn status(outcome: Result<Outcome, Fault>) -> Result<i32, String> {
    match outcome {
        Ok(Outcome::Done(_)) => Ok(0),
        Err(Fault { code: FaultCode::Guest, guest_code: Some(status), .. }) => Ok(status),
        Ok(other) => Err(format!("{other:?}")),
        Err(fault) => Err(fault.to_string()),
    }
}
