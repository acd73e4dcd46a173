//! A fleet's folder with the real tool on it, a real Mosquitto, and a device's view of what is published.

#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "each test program uses a part of it")]

pub(crate) mod broker;
pub(crate) mod device;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};

/// A fleet's folder.
pub(crate) struct Fleet {
    folder: PathBuf,
    // Removed with the fleet.
    _own: Option<tempfile::TempDir>,
}

#[allow(clippy::new_without_default, reason = "it makes a folder")]
impl Fleet {
    pub(crate) fn new() -> Self {
        let own = tempfile::tempdir().unwrap();
        Self { folder: own.path().to_owned(), _own: Some(own) }
    }

    /// One that is there already, in `folder`.
    pub(crate) fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), _own: None }
    }

    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.folder.join(inside)
    }

    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    pub(crate) fn done(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn refused(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(1), "{words:?} went through");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.lines().count(), 1, "one line, without a backtrace: {said}");
        said
    }

    /// What a command prints with `--json`.
    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let words: Vec<&str> = ["--json"].into_iter().chain(words.iter().copied()).collect();
        serde_json::from_str(&self.done(&words)).unwrap()
    }

    /// The tool, as a process that a test can end.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sanderling"));
        command.arg("--fleet").arg(self.path("fleet")).args(words);
        command
    }

    /// Stages a module of this content.
    pub(crate) fn add_module(&self, content: &[u8], path: &str) {
        let wasm = self.write("m.wasm", &[b"\0asm\x01\0\0\0", content].concat());
        self.done(&["repo", "add-module", &wasm, path, "--grant", "emit:*"]);
    }

    /// Stages a deployment of a module.
    pub(crate) fn deploy(&self, name: &str, module: &str) {
        let document = json!({ "schema": "sanderling.deployment/1", "name": name, "modules": [
            { "name": "m", "module": module, "input": [], "grants": ["emit:out"], "channels": { "out": {} } }
        ] });
        let file = self.write("d.json", document.to_string().as_bytes());
        self.done(&["repo", "deploy", &file]);
    }

    /// The ids of the keys that are trusted for a role.
    pub(crate) fn key_ids(&self, role: &str) -> Vec<String> {
        let listed = self.json(&["keys", "list"]);
        let role = listed["roles"].as_array().unwrap().iter().find(|found| found["role"] == role).unwrap();
        role["keys"].as_array().unwrap().iter().map(|key| key["key_id"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn init(&self) {
        self.done(&["keys", "create"]);
        self.done(&["repo", "init"]);
    }

    pub(crate) fn write(&self, name: &str, content: &[u8]) -> String {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }
}

pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

pub(crate) fn deployment(grants: &Value) -> Vec<u8> {
    json!({ "schema": "sanderling.deployment/1", "name": "line-a", "modules": [
        { "name": "m", "module": "modules/m/1.wasm", "input": [], "grants": grants,
          "channels": { "out": {} } }
    ] })
    .to_string()
    .into_bytes()
}

/// Bytes that do not compress, another for each seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let block = |at: u64| *sanderling_protocol::digest::Digest::of(&(seed << 32 | at).to_be_bytes()).as_bytes();
    (0..).flat_map(block).take(length).collect()
}
