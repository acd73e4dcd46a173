//! Where the programs and guests lie that the tests run.

use std::path::{Path, PathBuf};

/// The root of the source tree.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

/// A program of this workspace: from the folder `SANDERLING_PROGRAMS`, by default `target/debug`.
pub fn program(name: &str) -> PathBuf {
    find("SANDERLING_PROGRAMS", "target/debug", name)
}

/// A guest: from the folder `SANDERLING_GUESTS`, by default `target/guests`.
pub fn guest(name: &str) -> PathBuf {
    find("SANDERLING_GUESTS", "target/guests", &format!("{name}.wasm"))
}

/// A Python with the packages that `tests/python/requirements.txt` names: `SANDERLING_PYTHON`, by default the one in
/// `target/python`.
pub fn python() -> PathBuf {
    let default = || repository().join("target/python/bin/python3");
    let path = std::env::var_os("SANDERLING_PYTHON").map_or_else(default, PathBuf::from);
    if !path.is_file() {
        panic!("{} is missing: `cargo xtask test` makes it, or name one in SANDERLING_PYTHON", path.display());
    }
    path
}

fn find(variable: &str, default: &str, name: &str) -> PathBuf {
    let folder = std::env::var_os(variable).map_or_else(|| repository().join(default), PathBuf::from);
    let path = folder.join(name);
    if !path.is_file() {
        panic!(
            "{} is missing: `cargo xtask test` builds it, or set {variable} to the folder where it lies",
            path.display()
        );
    }
    path
}
