//! The configuration and what it names.

use std::path::Path;

use super::{Finding, Outcome};
use crate::{
    driver,
    settings::{DEFAULT_FILE, Settings, SettingsError},
};

const AREA: &str = "configuration";

/// Whether it can be read, and whether root and worker are there.
pub(super) fn examine(file: &Path, read: &Result<Settings, SettingsError>) -> Vec<Finding> {
    let settings = match read {
        Ok(settings) => settings,
        Err(error) => {
            // An image without a device's own files yet is no fault of the image.
            let is_bare = matches!(error, SettingsError::Read { file: missing, .. } if missing == file && !file.exists())
                && file == Path::new(DEFAULT_FILE);
            let outcome = if is_bare { Outcome::Lacking } else { Outcome::Bad };
            return vec![finding("settings", outcome, format!("{error}; what it would name was not examined"))];
        }
    };
    let said = format!("{}: device {}, {} sensors", file.display(), settings.device, settings.sensors.len());
    let root = match driver::check_root(settings) {
        Ok(version) => (Outcome::Good, format!("{}: root {version}", settings.trust_root.display())),
        Err(error) => (Outcome::Bad, error.to_string()),
    };
    let worker = &settings.paths.worker;
    let program = if worker.is_file() {
        (Outcome::Good, worker.display().to_string())
    } else {
        let says = format!("{} is not there; install sanderling-worker, or correct [paths] worker", worker.display());
        (Outcome::Bad, says)
    };
    vec![
        finding("settings", Outcome::Good, said),
        finding("root", root.0, root.1),
        finding("worker_program", program.0, program.1),
    ]
}

fn finding(check: &'static str, outcome: Outcome, says: String) -> Finding {
    Finding { area: AREA, check, outcome, says }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_cannot_be_read_is_bad_and_one_that_is_not_there_yet_is_lacking() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent.toml");
        std::fs::write(&file, "[borker]\n").unwrap();
        let found = examine(&file, &Settings::load(&file));
        assert_eq!((found.len(), found[0].outcome), (1, Outcome::Bad));
        assert!(found[0].says.contains("borker") && found[0].says.contains("not examined"), "{}", found[0].says);
        let missing = folder.path().join("none.toml");
        assert_eq!(examine(&missing, &Settings::load(&missing))[0].outcome, Outcome::Bad, "it was asked for");
        if !Path::new(DEFAULT_FILE).exists() {
            let bare = Path::new(DEFAULT_FILE);
            assert_eq!(examine(bare, &Settings::load(bare))[0].outcome, Outcome::Lacking);
        }
    }
}
