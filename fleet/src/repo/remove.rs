//! Taking modules, models and deployments back: once that is signed and published, devices stop what refers to them.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use sanderling_protocol::deployment::Deployment;

use super::{Staged, State, blob_file};
use crate::home::{self, Home};

/// What was taken back.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Removed {
    /// The target paths.
    pub(crate) removed: Vec<String>,
    /// Deployments that still name one of them: devices that run these stop the module.
    pub(crate) named_by: Vec<String>,
}

/// Takes back a target by its path, or by kind and name: `module surface-defect` is every version of it, `module
/// surface-defect/1.0.0` one of them, `deployment line-a` the deployment of that name.
pub(crate) fn remove(home: &Home, what: &str, name: Option<&str>) -> Result<Removed> {
    let (_lock, mut state) = State::open(home)?;
    let (releases, deployments) = (state.releases.keys(), state.deployments.keys());
    let fits = |path: &&String| name.map_or(path.as_str() == what, |name| is_named(path, what, name));
    let removed: Vec<String> = releases.chain(deployments).filter(fits).cloned().collect();
    if removed.is_empty() {
        let known: Vec<&str> = state.releases.keys().chain(state.deployments.keys()).map(String::as_str).collect();
        bail!(
            "{} is not in the repository, which has {}",
            name.map_or_else(|| what.to_owned(), |name| format!("{what} {name}")),
            list(&known)
        );
    }
    for path in &removed {
        state.releases.remove(path);
        state.deployments.remove(path);
    }
    let named_by = naming(home, &state.deployments, &removed);
    state.save(home)?;
    Ok(Removed { removed, named_by })
}

fn list(known: &[&str]) -> String {
    if known.is_empty() { "nothing".to_owned() } else { known.join(", ") }
}

fn is_named(path: &str, kind: &str, name: &str) -> bool {
    let (folder, end) = match kind {
        "module" => ("modules/", ".wasm"),
        "model" => ("models/", ".onnx"),
        "deployment" => ("deployments/", ".json"),
        _ => return false,
    };
    let Some(rest) = path.strip_prefix(folder) else { return false };
    rest.strip_suffix(end) == Some(name) || rest.split_once('/').is_some_and(|(first, _)| first == name)
}

/// The deployments that name one of the paths. One that cannot be read names none: staging checked it.
fn naming(home: &Home, deployments: &BTreeMap<String, Staged>, paths: &[String]) -> Vec<String> {
    let names = |staged: &Staged| {
        let bytes = home::read(&home.path(blob_file(&staged.sha256))).ok()?;
        let deployment = Deployment::parse(&bytes).ok()?;
        let mut named = deployment.modules.iter().flat_map(|module| module.models.values().chain([&module.module]));
        named.any(|path| paths.contains(path)).then_some(())
    };
    deployments.iter().filter(|(_, staged)| names(staged).is_some()).map(|(path, _)| path.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_every_version_and_a_version_is_one() {
        let path = "modules/surface-defect/1.0.0.wasm";
        assert!(is_named(path, "module", "surface-defect"));
        assert!(is_named(path, "module", "surface-defect/1.0.0"));
        assert!(is_named("modules/single.wasm", "module", "single"));
        assert!(is_named("deployments/line-a.json", "deployment", "line-a"));
        for (kind, name) in [("model", "surface-defect"), ("module", "surface"), ("module", "1.0.0"), ("module", "")] {
            assert!(!is_named(path, kind, name), "{kind} {name}");
        }
    }
}
