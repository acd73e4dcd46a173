//! The offline ceremony: a root that needs two of three, whose keys are on machines of their own.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use support::{Fleet, device};

/// A machine with one root key and nothing else.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn new(key: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::rename(key, folder.path().join("key.pem")).unwrap();
        Self { folder }
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sanderling"));
        command.current_dir(self.folder.path()).env_clear().args(words).output().unwrap()
    }

    /// Takes an export here and signs it; gives the file.
    fn sign(&self, export: &Path) -> Result<PathBuf, String> {
        let file = self.folder.path().join("root.json");
        std::fs::copy(export, &file).unwrap();
        let output = self.run(&["repo", "root-sign", "sign", "root.json", "--key", "key.pem"]);
        if output.status.success() { Ok(file) } else { Err(String::from_utf8(output.stderr).unwrap()) }
    }
}

/// A fleet whose root three machines hold, two of which must sign.
fn fleet_of_three() -> (Fleet, Vec<Machine>) {
    let fleet = Fleet::new();
    fleet.done(&["keys", "create"]);
    fleet.done(&["keys", "create", "--role", "root", "--count", "3"]);
    fleet.done(&["repo", "init", "--threshold", "root=2"]);
    let machines =
        ["root", "root-2", "root-3"].map(|name| Machine::new(&fleet.path(&format!("fleet/keys/{name}.pem"))));
    (fleet, machines.into())
}

fn words(file: &Path) -> &str {
    file.to_str().unwrap()
}

fn export(fleet: &Fleet, name: &str) -> PathBuf {
    let file = fleet.path(name);
    fleet.done(&["repo", "root-sign", "export", words(&file)]);
    file
}

fn import(fleet: &Fleet, files: &[&PathBuf]) -> Value {
    let files = files.iter().map(|file| words(file));
    fleet.json(&["repo", "root-sign", "import"].into_iter().chain(files).collect::<Vec<_>>())
}

#[test]
fn signatures_come_from_several_machines_in_any_order() {
    for order in [[0, 1], [2, 0], [1, 2]] {
        let (fleet, machines) = fleet_of_three();
        let trusted = device::refresh(device::new(&fleet), &device::signed(&fleet), 0).unwrap();
        let told = fleet.json(&["keys", "rotate", "timestamp"]);
        assert_eq!(told["root"]["installed"], false, "{told}");
        assert!(told["next"][0].as_str().unwrap().contains("root-sign export"), "{told}");
        let still = device::refresh(trusted.clone(), &device::signed(&fleet), 0).unwrap();
        assert_eq!(still.version("root"), Some(1), "nothing is in force before enough have signed");
        fleet.done(&["repo", "sign"]);

        let exported = export(&fleet, "export.json");
        let first = machines[order[0]].sign(&exported).unwrap();
        let second = machines[order[1]].sign(&exported).unwrap();
        let told = import(&fleet, &[&first]);
        assert_eq!((told["installed"].as_bool(), told["signed_by"].as_array().unwrap().len()), (Some(false), 1));
        assert!(told["missing"].as_str().unwrap().contains("1 more of the root keys"), "{told}");
        let told = import(&fleet, &[&first, &second]);
        assert_eq!((told["installed"].as_bool(), &told["missing"]), (Some(true), &Value::Null), "{told}");
        let trusted = device::refresh(trusted, &device::signed(&fleet), 0).unwrap();
        assert_eq!(trusted.version("root"), Some(2));
        assert!(fleet.refused(&["repo", "root-sign", "status"]).contains("no root waits"));
    }
}

#[test]
fn one_file_goes_from_signer_to_signer() {
    let (fleet, machines) = fleet_of_three();
    fleet.done(&["keys", "rotate", "targets"]);
    let exported = export(&fleet, "export.json");
    let first = machines[2].sign(&exported).unwrap();
    let both = machines[0].sign(&first).unwrap();
    assert_eq!(import(&fleet, &[&both])["installed"], true);
    let trusted = device::refresh(device::new(&fleet), &device::signed(&fleet), 0).unwrap();
    assert_eq!((trusted.version("root"), trusted.version("targets")), (Some(2), Some(2)));
}

#[test]
fn a_root_key_is_rotated_with_signatures_of_old_and_new() {
    let (fleet, machines) = fleet_of_three();
    let old = fleet.key_ids("root");
    let made = fleet.json(&["keys", "create", "--role", "root"]);
    let new = Machine::new(Path::new(made["file"].as_str().unwrap()));
    let public = new.run(&["keys", "public", "key.pem"]);
    let public = fleet.write("public.json", &public.stdout);
    fleet.done(&["keys", "rotate", "root", "--replace", &old[0], "--public", &public]);
    let exported = export(&fleet, "export.json");
    // Two of the old are enough for the old root; the new one needs two of its own, and those are the second and the third.
    let by_new = new.sign(&exported).unwrap();
    assert_eq!(import(&fleet, &[&by_new])["installed"], false);
    let by_first = machines[0].sign(&exported).unwrap();
    assert_eq!(import(&fleet, &[&by_first])["installed"], false, "one of the old, and one of the new");
    let by_second = machines[1].sign(&exported).unwrap();
    assert_eq!(import(&fleet, &[&by_second])["installed"], true);
    assert!(!fleet.key_ids("root").contains(&old[0]));
    let trusted = device::refresh(device::new(&fleet), &device::signed(&fleet), 0).unwrap();
    assert_eq!(trusted.version("root"), Some(2));
}

#[test]
fn a_signer_sees_what_he_signs() {
    let (fleet, machines) = fleet_of_three();
    fleet.done(&["repo", "add-key", "snapshot", "--hold"]);
    fleet.done(&["repo", "set-threshold", "snapshot", "2", "--hold"]);
    let exported = export(&fleet, "export.json");
    std::fs::copy(&exported, machines[0].folder.path().join("root.json")).unwrap();
    let shown = String::from_utf8(machines[0].run(&["repo", "root-sign", "show", "root.json"]).stdout).unwrap();
    for words in [
        "root version 2, to replace version 1",
        "SHA-256 of what is signed",
        "expires ",
        "root: 2 of 3 keys must sign",
        "change: snapshot gains key ",
        "change: snapshot needs 2 signatures instead of 1",
        "missing: 2 more of the root keys of version 1",
    ] {
        assert!(shown.contains(words), "{words}\n{shown}");
    }
}

#[test]
fn wrong_keys_changed_files_and_stale_exports_are_refused_with_the_cure() {
    let (fleet, machines) = fleet_of_three();
    let refused_import = |file: &Path| fleet.refused(&["repo", "root-sign", "import", words(file)]);
    assert!(fleet.refused(&["repo", "root-sign", "export", "x"]).contains("no root waits"));
    fleet.done(&["keys", "rotate", "timestamp"]);
    let exported = export(&fleet, "export.json");

    let stranger = Machine::new(&fleet.path("fleet/keys/releases.pem"));
    let said = stranger.sign(&exported).unwrap_err();
    assert!(said.contains("is not one of the root keys"), "{said}");

    let mut changed: Value = serde_json::from_slice(&std::fs::read(&exported).unwrap()).unwrap();
    changed["signed"]["roles"]["timestamp"]["threshold"] = 7.into();
    let changed = fleet.write("changed.json", changed.to_string().as_bytes());
    let said = machines[0].sign(Path::new(&changed)).unwrap_err();
    assert!(said.contains("the file was changed"), "{said}");
    assert!(refused_import(Path::new(&changed)).contains("the file was changed"));
    let text = fleet.write("text.json", b"hello");
    assert!(refused_import(Path::new(&text)).contains("not a file of `sanderling repo root-sign export`"));

    // Another change goes into the same root: what was exported before is no longer what waits.
    let before = machines[0].sign(&exported).unwrap();
    fleet.done(&["keys", "rotate", "snapshot"]);
    let said = refused_import(&before);
    assert!(said.contains("not the root that waits") && said.contains("export again"), "{said}");

    // Both changes are signed and installed: the first export starts from a root that is in force no longer.
    let exported = export(&fleet, "both.json");
    let (first, second) = (machines[1].sign(&exported).unwrap(), machines[2].sign(&exported).unwrap());
    assert_eq!(import(&fleet, &[&first, &second])["installed"], true);
    let said = refused_import(&before);
    assert!(said.contains("stale") && said.contains("root 2"), "{said}");
    let said = refused_import(&first);
    assert!(said.contains("stale"), "{said}");
}

#[test]
fn a_root_that_waits_can_be_given_up() {
    let (fleet, _machines) = fleet_of_three();
    fleet.done(&["keys", "rotate", "timestamp"]);
    let told = fleet.json(&["repo", "root-sign", "complete"]);
    assert_eq!((told["installed"].as_bool(), told["signed_by"].as_array().unwrap().len()), (Some(false), 0));
    assert_eq!(fleet.json(&["repo", "root-sign", "cancel"])["cancelled"], true);
    assert_eq!(fleet.json(&["repo", "root-sign", "cancel"])["cancelled"], false);
    assert!(fleet.refused(&["repo", "root-sign", "status"]).contains("no root waits"));
    let trusted = device::refresh(device::new(&fleet), &device::signed(&fleet), 0).unwrap();
    assert_eq!(trusted.version("root"), Some(1));
}
