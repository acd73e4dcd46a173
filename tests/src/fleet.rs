//! A fleet's folder, and the operator's tool on it.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use sanderling_protocol::{digest::Digest, topics::Topics};
use serde_json::Value;
use tempfile::TempDir;

use crate::{Broker, Credentials, program};

/// A fleet with keys and an empty repository, in a folder of its own.
pub struct Fleet {
    folder: TempDir,
}

impl Fleet {
    /// Makes keys and repository.
    #[allow(clippy::new_without_default, reason = "it starts processes")]
    pub fn new() -> Self {
        Self::with_keys("ed25519")
    }

    /// Makes keys of a kind that `sanderling keys create --kind` knows, and a repository.
    pub fn with_keys(kind: &str) -> Self {
        let fleet = Self { folder: TempDir::with_prefix("sanderling-").unwrap() };
        fleet.run(["keys", "create", "--kind", kind]);
        fleet.run(["repo", "init"]);
        fleet
    }

    /// A file or folder of the fleet.
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(inside)
    }

    /// The topics of this fleet.
    pub fn topics(&self) -> Topics {
        Topics::default()
    }

    /// The operator's tool, for this fleet.
    pub fn command(&self) -> Command {
        let mut command = Command::new(program("sanderling"));
        command.arg("--fleet").arg(self.folder.path());
        command
    }

    /// Runs the operator's tool, which must succeed; gives what it prints.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> String {
        self.try_run(arguments).unwrap_or_else(|said| panic!("sanderling failed: {said}"))
    }

    /// Runs the operator's tool; an error is what it printed on standard error.
    pub fn try_run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<String, String> {
        let output = self.command().args(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Stages a module that may do all that a guest can do today.
    pub fn add_module(&self, wasm: &[u8], path: &str) {
        let file = self.write("staged.wasm", wasm);
        let file = file.as_os_str();
        let grants = ["infer", "emit:*", "state:1048576", "evidence", "capture"];
        let grants = grants.iter().flat_map(|grant| ["--grant", grant]).map(OsStr::new);
        let add = ["repo", "add-module", "--deadline-ms", "60000"].map(OsStr::new);
        self.run(add.into_iter().chain([file, OsStr::new(path)]).chain(grants));
    }

    /// Stages a model.
    pub fn add_model(&self, onnx: &[u8], path: &str) {
        let file = self.write("staged.onnx", onnx);
        self.run(["repo".as_ref(), "add-model".as_ref(), file.as_os_str(), path.as_ref()]);
    }

    /// Stages a deployment for all devices; gives the digest that devices report it by.
    pub fn deploy(&self, document: &Value) -> Digest {
        self.deploy_to(document, &[])
    }

    /// Stages a deployment for the devices that these options of `sanderling repo deploy` name.
    pub fn deploy_to(&self, document: &Value, options: &[&str]) -> Digest {
        let bytes = serde_json::to_vec(document).unwrap();
        let file = self.write("staged.json", &bytes);
        let deploy = ["repo".as_ref(), "deploy".as_ref(), file.as_os_str()];
        self.run(deploy.into_iter().chain(options.iter().map(OsStr::new)));
        Digest::of(&bytes)
    }

    /// Signs what is staged.
    pub fn sign(&self) {
        self.run(["repo", "sign"]);
    }

    /// Publishes what is signed.
    pub fn publish(&self, broker: &Broker) {
        let port = broker.port().to_string();
        self.run(["repo", "publish", "--host", Broker::HOST, "--port", &port]);
    }

    /// Deploys, signs and publishes; gives the digest of the deployment.
    pub fn roll_out(&self, document: &Value, broker: &Broker) -> Digest {
        let digest = self.deploy(document);
        self.sign();
        self.publish(broker);
        digest
    }

    /// The operator's certificate and key.
    pub fn operator(&self) -> Credentials {
        Credentials {
            ca: self.path("authority/ca.pem"),
            cert: self.path("operator/operator.pem"),
            key: self.path("operator/operator.key"),
        }
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let file = self.path(name);
        std::fs::write(&file, content).unwrap();
        file
    }
}
