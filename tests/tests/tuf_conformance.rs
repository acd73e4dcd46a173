//! The public TUF conformance suite. It is in no package registry, so that this test runs only where it is asked for, and then
//! fails without a checkout: see `tests/python/conformance.py`.

#![allow(clippy::panic, clippy::print_stdout)]

use std::process::{Command, Stdio};

use sanderling_tests::{program, python, source};

#[test]
#[ignore = "needs a checkout of theupdateframework/tuf-conformance, named in TUF_CONFORMANCE"]
fn the_whole_suite_passes_but_for_what_is_listed() {
    let mut command = Command::new(python());
    command.arg(source().join("tests/python/conformance.py")).arg("--client").arg(program("tuf-conformance-client"));
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.unwrap_or_else(|error| panic!("python did not start: {error}"));
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}; what it said stands above", output.status);
}
