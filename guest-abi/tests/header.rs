//! Holds `include/sanderling.h` to the compiler of this machine: it is C without a warning there too, for guests that are tested natively. What
//! its layouts and numbers are, the conformance guest in C says on the real runtime.

use std::{path::Path, process::Command};

#[test]
fn the_c_header_compiles_for_this_machine_without_a_warning() {
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/sanderling.h");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let compiled = Command::new(compiler)
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c"])
        .arg(&header)
        .status()
        .expect("a C compiler, as `cc` or in CC");
    assert!(compiled.success(), "{} does not compile", header.display());
}
