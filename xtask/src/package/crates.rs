//! The crates that a package's programs are made of, as cargo builds them: for the target, with the features that they are shipped with.
//!
//! `cargo tree` says which, and who depends on whom; `cargo metadata` alone would name what other members of the workspace want of them,
//! and so does cargo-cyclonedx, which reads it (decision 38).

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::Kind;
use crate::process::{cargo, output, root};

/// Name and version.
pub(super) type Id = (String, String);

/// One crate.
#[derive(Debug)]
pub(super) struct Crate {
    pub(super) id: Id,
    /// Linked into a program; otherwise it only helps to build one.
    pub(super) linked: bool,
    pub(super) depends_on: BTreeSet<Id>,
    pub(super) license: Option<String>,
    pub(super) description: Option<String>,
    pub(super) repository: Option<String>,
    /// Of a registry, and not of this repository.
    pub(super) published: bool,
    pub(super) sha256: Option<String>,
    pub(super) folder: PathBuf,
}

/// All crates of a package's programs, those of this repository included.
pub(super) fn of(kind: &Kind, target: &str) -> Result<Vec<Crate>> {
    let built = depends(&tree(kind, target, "normal,build")?);
    let linked = depends(&tree(kind, target, "normal,no-proc-macro")?);
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).context("could not read Cargo.lock")?;
    let mut known = metadata()?;
    let mut crates = Vec::new();
    for (id, depends_on) in built {
        let meta = known.remove(&id).with_context(|| format!("cargo metadata does not know {} {}", id.0, id.1))?;
        let text = |key: &str| meta[key].as_str().map(str::to_owned);
        let manifest = text("manifest_path").context("a crate without a manifest")?;
        crates.push(Crate {
            linked: linked.contains_key(&id),
            license: text("license"),
            description: text("description").map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ")),
            repository: text("repository"),
            published: !meta["source"].is_null(),
            sha256: checksum(&lock, &id),
            folder: Path::new(&manifest).parent().context("a manifest without a folder")?.to_owned(),
            depends_on,
            id,
        });
    }
    Ok(crates)
}

fn tree(kind: &Kind, target: &str, edges: &str) -> Result<String> {
    let mut command = cargo();
    command.args([
        "tree", "--quiet", "--locked", "--target", target, "--edges", edges, "--prefix", "depth", "--format", " {p}",
    ]);
    output(command.args(kind.crates.iter().flat_map(|name| ["-p", name])))
}

/// Who depends on whom, of lines as `2 serde v1.0.0 (*)`; the number is how deep below the first.
fn depends(tree: &str) -> BTreeMap<Id, BTreeSet<Id>> {
    let mut found: BTreeMap<Id, BTreeSet<Id>> = BTreeMap::new();
    let mut above: Vec<Id> = Vec::new();
    for line in tree.lines() {
        let mut words = line.split_whitespace();
        let (Some(depth), Some(name), Some(version)) = (words.next(), words.next(), words.next()) else { continue };
        let Ok(depth) = depth.parse::<usize>() else { continue };
        let id = (name.to_owned(), version.trim_start_matches('v').to_owned());
        above.truncate(depth);
        if let Some(parent) = above.last() {
            found.entry(parent.clone()).or_default().insert(id.clone());
        }
        found.entry(id.clone()).or_default();
        above.push(id);
    }
    found
}

fn metadata() -> Result<BTreeMap<Id, Value>> {
    let text = output(cargo().args(["metadata", "--quiet", "--locked", "--format-version", "1"]))?;
    let mut all: Value = serde_json::from_str(&text).context("cargo metadata is no JSON")?;
    let packages = all["packages"].as_array_mut().context("cargo metadata has no packages")?;
    let id = |package: &Value| Some((package["name"].as_str()?.to_owned(), package["version"].as_str()?.to_owned()));
    Ok(packages.drain(..).filter_map(|package| Some((id(&package)?, package))).collect())
}

/// The digest of a crate's archive, as Cargo.lock has it.
fn checksum(lock: &str, (name, version): &Id) -> Option<String> {
    let head = format!("name = \"{name}\"\nversion = \"{version}\"\n");
    let entry = lock.split("\n[[package]]\n").find(|entry| entry.starts_with(&head))?;
    let line = entry.lines().find_map(|line| line.strip_prefix("checksum = \""))?;
    Some(line.trim_end_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> Id {
        (name.to_owned(), "1.0.0".to_owned())
    }

    #[test]
    fn reads_who_depends_on_whom() {
        let tree = "0 a v1.0.0 (/src/a)\n1 b v1.0.0\n2 c v1.0.0 (proc-macro)\n1 d v1.0.0\n2 c v1.0.0 (proc-macro) (*)\n\n0 e v1.0.0 (/src/e)\n1 b v1.0.0 (*)\n";
        let found = depends(tree);
        assert_eq!(found.keys().cloned().collect::<Vec<_>>(), ["a", "b", "c", "d", "e"].map(id));
        assert_eq!(found[&id("a")], BTreeSet::from(["b", "d"].map(id)));
        assert_eq!((&found[&id("d")], &found[&id("e")]), (&BTreeSet::from([id("c")]), &BTreeSet::from([id("b")])));
        assert!(found[&id("c")].is_empty());
    }

    #[test]
    fn reads_the_digest_of_the_right_version() {
        let lock = "version = 4\n\n[[package]]\nname = \"b\"\nversion = \"0.9.0\"\nchecksum = \"00\"\n\n[[package]]\nname = \"b\"\nversion = \"1.0.0\"\nsource = \"r\"\nchecksum = \"ff\"\n";
        assert_eq!(checksum(lock, &id("b")).as_deref(), Some("ff"));
        assert_eq!(checksum(lock, &id("c")), None);
    }
}
