//! The folder `expected/`.

use std::{collections::BTreeMap, fs, path::PathBuf};

use sanderling_protocol::digest::Digest;

/// The architecture that the expectations are written on.
const WRITTEN_ON: &str = "x86_64";

/// What was found, by what it was found of.
pub(crate) type Found = BTreeMap<String, String>;

/// A file of the folder.
pub(crate) fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/architectures/expected").join(name)
}

/// A file of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Whether what is found is to be written rather than compared.
pub(crate) fn is_written() -> bool {
    std::env::var_os("SANDERLING_WRITE_EXPECTED").is_some_and(|wanted| wanted == "1")
}

/// What is expected; where expectations are written on this architecture, what was found instead.
pub(crate) fn read(name: &str, found: &Found) -> Found {
    let file = file(&format!("{name}.json"));
    if is_written() && std::env::consts::ARCH == WRITTEN_ON {
        let mut text = serde_json::to_string_pretty(found).unwrap();
        text.push('\n');
        fs::write(&file, text).unwrap();
    }
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_str(&text).unwrap()
}

/// Holds what was found to what is expected, and names every difference.
pub(crate) fn agrees(name: &str, found: &Found) {
    let wanted = read(name, found);
    let keys = wanted.keys().chain(found.keys()).collect::<std::collections::BTreeSet<_>>();
    let differ = |key: &&String| wanted.get(*key) != found.get(*key);
    let other: Vec<String> = keys
        .into_iter()
        .filter(differ)
        .map(|key| format!("{key}: {:?}, not {:?}", found.get(key), wanted.get(key)))
        .collect();
    assert!(other.is_empty(), "{} of {} are not as in {name}.json:\n{}", other.len(), wanted.len(), other.join("\n"));
}

/// The digest of bytes, as far as it is worth writing down.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string().chars().take(16).collect()
}
