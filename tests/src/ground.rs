//! Where the proofs about cuts and broken disks begin, again and again: deployment A is committed, and B can be published.
//!
//! Purpose: one broker and one repository serve all cases of a proof. Each begins with a copy of the same state directory, and
//! with the timestamp of A at the broker; what B needs lies there already, so that publishing B is one message.
//!
//! Invariants: A was committed after Z, so that committing B removes something. A and B share chunks, so that B is a delta.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use sanderling_protocol::{blob::cut, digest::Digest, topics::Published};
use serde_json::{Value, json};

use crate::{
    Device, PATIENCE, Publication, Seen, Site, Tick, deployment,
    guests::{padded, ticks},
    line_module, until,
};

/// Frames a second.
const RATE: f64 = 20.0;
/// What A and B have in common, in bytes.
const COMMON: u32 = 150_000;
/// What only B has, in bytes.
const NEW: u32 = 2_500_000;

/// The site of a proof, with its device.
pub struct Ground {
    /// The only device.
    pub device: Device,
    /// Fleet, broker and observer.
    pub site: Site,
    /// What is committed when a case begins.
    pub a: Version,
    /// What is published in a case.
    pub b: Version,
    /// What was committed before A, and is kept until B is.
    z: Version,
    state: PathBuf,
    template: PathBuf,
}

/// A deployment of one module, as it lies in the repository.
#[derive(Clone, Debug)]
pub struct Version {
    /// What the module writes into its records.
    pub tag: u8,
    /// The deployment.
    pub digest: Digest,
    /// The module.
    pub artifact: Digest,
    blobs: BTreeMap<Digest, Vec<Chunk>>,
    timestamp: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Chunk {
    digest: Digest,
    offset: usize,
    length: usize,
}

/// What a state directory holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Blobs that are whole.
    pub blobs: BTreeSet<Digest>,
    /// Chunks, in whole blobs or in parts of them.
    pub chunks: BTreeSet<Digest>,
}

impl Ground {
    /// Makes the site, lets an agent commit A, stops it, and keeps its state aside.
    #[allow(clippy::new_without_default, reason = "it starts processes")]
    pub fn new() -> Self {
        let site = Site::new();
        let device = site.device("gw-1");
        device.lay_clock("clock", RATE);
        let mut agent = device.start();
        let z = stage(&site, b'z', &ticks(b'z'));
        site.fleet.publish(&site.broker);
        site.observer.wait_active(&device.id, z.digest);
        let a = stage(&site, b'a', &padded(ticks(b'a'), COMMON, 1));
        site.fleet.publish(&site.broker);
        site.observer.wait_active(&device.id, a.digest);
        site.observer.wait_ticks(&device.id, "ticks", b'a', 5);
        assert!(agent.terminate(PATIENCE).success());
        let state = site.fleet.path("state").join(device.id.to_string());
        let template = site.fleet.path("state-of-a");
        copy(&state, &template);
        let b = stage(&site, b'b', &padded(padded(ticks(b'b'), COMMON, 1), NEW, 2));
        site.observer.publish_all(&Publication::of(&site.fleet));
        Self { site, device, a, b, z, state, template }
    }

    /// The device's state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Begins a case: the state of A, and A's timestamp at the broker. No agent may run.
    pub fn reset(&self) {
        if self.state.exists() {
            fs::remove_dir_all(&self.state).unwrap();
        }
        copy(&self.template, &self.state);
        self.publish(&self.a);
    }

    /// Publishes a version: its timestamp, since all else is at the broker.
    pub fn publish(&self, version: &Version) {
        self.site.observer.publish(
            &self.site.fleet.topics().published(&Published::Timestamp),
            &version.timestamp,
            true,
        );
    }

    /// Waits until this version is committed and runs, as a message after the mark says, and `count` records of it that
    /// were captured after this time, Unix nanoseconds.
    pub fn wait_runs(&self, version: &Version, mark: usize, since: i64, count: usize) {
        let what = format!("version {} committed and running", char::from(version.tag));
        self.site.observer.wait_for(&what, PATIENCE, |seen| {
            let seen = seen.after(mark);
            let ticks = self.ticks(seen).into_iter();
            let fresh = ticks.filter(|tick| tick.tag == version.tag && tick.captured > since).count();
            (fresh >= count && self.is_committed(version, seen)).then_some(())
        });
    }

    /// Whether the last report says that this version is committed and runs.
    pub fn is_committed(&self, version: &Version, seen: Seen<'_>) -> bool {
        use sanderling_protocol::reported::{DeploymentState, ModuleState};
        seen.reported(&self.device.id).is_some_and(|report| {
            let deployed = report.deployment.as_ref();
            deployed.is_some_and(|found| found.digest == version.digest && found.state == DeploymentState::Active)
                && report
                    .modules
                    .iter()
                    .any(|module| module.artifact == version.artifact && module.state == ModuleState::Running)
        })
    }

    /// The records of the module.
    pub fn ticks(&self, seen: Seen<'_>) -> Vec<Tick> {
        seen.ticks(&self.device.id, "ticks")
    }

    /// What the state directory holds of A and B.
    pub fn held(&self) -> Held {
        let mut held = Held::default();
        for (blob, chunks) in self.a.blobs.iter().chain(&self.b.blobs) {
            let whole = self.state.join(format!("blobs/{blob}"));
            if whole.is_file() {
                held.blobs.insert(*blob);
            }
            for file in [whole, self.state.join(format!("blobs/{blob}.part"))] {
                let content = fs::read(file).unwrap_or_default();
                let found = chunks.iter().filter(|chunk| {
                    let bytes = content.get(chunk.offset..chunk.offset + chunk.length);
                    bytes.is_some_and(|bytes| Digest::of(bytes) == chunk.digest)
                });
                held.chunks.extend(found.map(|chunk| chunk.digest));
            }
        }
        held
    }

    /// Whether what nothing refers to once B is committed is removed.
    pub fn is_collected(&self) -> bool {
        !self.z.blobs.keys().any(|blob| self.state.join(format!("blobs/{blob}")).exists())
    }

    /// Waits for [`Self::is_collected`].
    pub fn wait_collected(&self) {
        let collected = until(PATIENCE, || self.is_collected().then_some(()));
        assert!(collected.is_some(), "the blobs of Z are kept, though nothing refers to them");
    }

    /// The file of a version's module, inside the state directory.
    pub fn artifact_of(&self, version: &Version) -> PathBuf {
        Path::new("blobs").join(version.artifact.to_string())
    }

    /// The module of a version is on disk, and is what it says.
    pub fn assert_whole(&self, version: &Version) {
        let content = fs::read(self.state.join(self.artifact_of(version))).unwrap();
        assert_eq!(Digest::of(&content), version.artifact, "the module of {}", char::from(version.tag));
    }

    /// Of the messages that the broker sent since the device connected last, those with blobs or chunks.
    pub fn pulled(&self) -> Held {
        let of = |kind: &str| -> BTreeSet<Digest> {
            let sent = self.site.broker.sent_since_connect(self.device.id.as_str(), kind);
            sent.iter().filter_map(|sent| sent.topic.rsplit('/').next()?.parse().ok()).collect()
        };
        Held { blobs: of("/blob/"), chunks: of("/chunk/") }
    }
}

/// Adds and signs a deployment of one module.
fn stage(site: &Site, tag: u8, wasm: &[u8]) -> Version {
    let path = format!("modules/ticks/{}.wasm", char::from(tag));
    site.fleet.add_module(wasm, &path);
    let probation = json!({ "frames": 2, "seconds": 0 });
    let document: Value = deployment("line", [line_module(&path).set("/probation", probation)]);
    let digest = site.fleet.deploy(&document);
    site.fleet.sign();
    let artifact = Digest::of(wasm);
    let content = serde_json::to_vec(&document).unwrap();
    let blobs = BTreeMap::from([(artifact, chunks(wasm)), (digest, chunks(&content))]);
    let timestamp = fs::read(site.fleet.path("repo/metadata/timestamp.json")).unwrap();
    Version { tag, digest, artifact, blobs, timestamp }
}

fn chunks(content: &[u8]) -> Vec<Chunk> {
    let mut offset = 0;
    let place = |bytes: &[u8]| {
        let chunk = Chunk { digest: Digest::of(bytes), offset, length: bytes.len() };
        offset += bytes.len();
        chunk
    };
    cut(content).unwrap().1.into_iter().map(place).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
