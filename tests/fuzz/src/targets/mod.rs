//! The bodies of the fuzz targets: each takes any bytes and panics where a promise is broken.

mod blob;
mod documents;
mod guest;
mod messages;
mod metadata;
mod records;
mod ring;

pub use blob::{batch, chunk, index};
pub use documents::{deployment, release, reported};
pub use guest::guest;
pub use messages::{command, topic, worker};
pub use metadata::{content, metadata};
pub use records::{capsule, record};
pub use ring::ring;

/// The body of a fuzz target.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const ALL: &[(&str, Target)] = &[
    ("metadata", metadata),
    ("content", content),
    ("deployment", deployment),
    ("release", release),
    ("index", index),
    ("chunk", chunk),
    ("batch", batch),
    ("reported", reported),
    ("command", command),
    ("topic", topic),
    ("worker", worker),
    ("ring", ring),
    ("guest", guest),
    ("record", record),
    ("capsule", capsule),
];

/// What the fuzz programs do without libFuzzer: runs the target on each file that is named on the command line.
#[allow(clippy::print_stdout, reason = "a program's main")]
pub fn replay(target: Target) {
    let mut files = 0;
    for file in std::env::args_os().skip(1) {
        let bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        target(&bytes);
        files += 1;
    }
    println!("{files} files replayed; for fuzzing run this with cargo-fuzz, see tests/fuzz/README.md");
}
