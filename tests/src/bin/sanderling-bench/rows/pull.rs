//! A module of 32 MiB pulled over TLS from a real Mosquitto by the real agent, beside `mosquitto_sub` draining the same topics.
//!
//! The agent decodes, hashes and writes what comes, and syncs the whole to disk before it counts; `mosquitto_sub` throws it away. What a sync
//! of so many bytes takes is measured beside it and taken off: it is the disk's.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use sanderling_protocol::{blob::cut, digest::Digest, topics::Published};
use sanderling_tests::{
    Broker, Device, PATIENCE, Peer, Site,
    guests::{padded, ticks},
    line,
};

use crate::{
    measure::{Moment, median},
    report::{Budget, Row},
    rows::memory::field,
};

const LENGTH: u32 = 32 << 20;
const ROUNDS: u8 = 3;
const MIB: f64 = 1_048_576.0;
/// How often the agent's folder is looked at.
const LOOK: Duration = Duration::from_micros(500);

/// Measures the rows.
pub(crate) fn measure() -> Result<Vec<Row>> {
    let site = Site::new();
    let device = site.device("bench-1");
    quiet(&device);
    device.lay_clock("clock", 20.0);
    let agent = device.start();
    site.observer.wait_report(&device.id, "a first report", |_| true);
    let status = format!("/proc/{}/status", agent.pid());
    let idle = field(&status, "VmRSS:")?;
    // From here on the peak counts (proc(5), `clear_refs`), and not what the start took.
    fs::write(format!("/proc/{}/clear_refs", agent.pid()), "5").context("the peak of memory cannot be reset")?;
    let timestamps = site.fleet.topics().published(&Published::Timestamp);
    let operator =
        Peer::connect(&site.broker, &site.fleet.operator(), "bench", &[timestamps]).map_err(anyhow::Error::msg)?;
    let blobs = site.fleet.path("state/bench-1/blobs");
    let mut retained = Retained::default();
    let (mut ours, mut drained, mut synced) = (vec![], vec![], vec![]);
    for round in 1..=ROUNDS {
        let wasm = padded(ticks(b'0' + round), LENGTH, round);
        let path = "modules/large/1.wasm";
        site.fleet.add_module(&wasm, path);
        let document = line(path);
        let digest = site.fleet.deploy(&document);
        site.fleet.sign();
        let took = pull(&site, &operator, &blobs.join(Digest::of(&wasm).to_string()))?;
        let sync = sync(&blobs.join("bench"), &wasm)?;
        ours.push(f64::from(LENGTH) / MIB / (took - sync).max(f64::EPSILON));
        synced.push(sync * 1000.0);
        site.observer.wait_active(&device.id, digest);
        retained.add(&wasm)?;
        retained.add(&serde_json::to_vec(&document)?)?;
        drained.push(retained.bytes as f64 / MIB / drain(&site, retained.digests.len())?);
    }
    let peak = field(&status, "VmHWM:")?;
    let what = format!(
        "a module of 32 MiB in chunks over TLS, hashed and written, its fsync apart ({:.0} ms)",
        median(synced)
    );
    let row = Row::new("pull", what, "MiB/s", median(ours));
    let row = row.beside("mosquitto_sub draining them", median(drained)).within(Budget::RatioAtLeast(0.5));
    let memory = "the agent's peak of resident memory above its idle one, after three such modules";
    let memory = Row::new("pull-memory", memory, "MiB", (peak - idle).max(0.0) / 1024.0).within(Budget::AtMost(2.0));
    Ok(vec![row, memory])
}

/// Publishes; seconds from the timestamp's arrival to the whole blob's place in the store.
fn pull(site: &Site, operator: &Peer, blob: &Path) -> Result<f64> {
    let before = operator.count();
    std::thread::scope(|scope| {
        scope.spawn(|| site.fleet.publish(&site.broker));
        let came = operator.wait(PATIENCE, |messages| (messages.len() > before).then(Moment::now));
        let came = came.context("no timestamp was published")?;
        while !blob.exists() {
            ensure!(came.past() < PATIENCE.as_secs_f64(), "the blob was not pulled within {PATIENCE:?}");
            std::thread::sleep(LOOK);
        }
        Ok(came.past())
    })
}

/// Seconds that a sync of so many bytes takes in the same folder.
fn sync(path: &Path, bytes: &[u8]) -> Result<f64> {
    let mut file = File::create(path).with_context(|| format!("could not make {}", path.display()))?;
    file.write_all(bytes)?;
    let began = Moment::now();
    file.sync_all()?;
    let took = began.past();
    fs::remove_file(path)?;
    Ok(took)
}

/// Seconds in which `mosquitto_sub` takes so many retained chunks.
fn drain(site: &Site, chunks: usize) -> Result<f64> {
    let filter = format!("{}/chunk/#", site.fleet.topics().prefix());
    let mut command = mosquitto_sub(site);
    command.args(["-t", &filter, "-q", "1", "-W", "60", "-C", &chunks.to_string()]).stdout(Stdio::null());
    let began = Moment::now();
    let status = command.status().context("mosquitto_sub does not start; it is in Debian's mosquitto-clients")?;
    ensure!(status.success(), "mosquitto_sub: {status}");
    Ok(began.past())
}

/// The chunks that the broker keeps.
#[derive(Default)]
struct Retained {
    digests: BTreeSet<Digest>,
    bytes: usize,
}

impl Retained {
    fn add(&mut self, content: &[u8]) -> Result<()> {
        for chunk in cut(content)?.1 {
            if self.digests.insert(Digest::of(chunk)) {
                self.bytes += chunk.len();
            }
        }
        Ok(())
    }
}

/// `mosquitto_sub` with the operator's certificate.
pub(super) fn mosquitto_sub(site: &Site) -> Command {
    let who = site.fleet.operator();
    let mut command = Command::new("mosquitto_sub");
    command.args(["-V", "5", "-h", Broker::HOST, "-p", &site.broker.port().to_string()]);
    command.arg("--cafile").arg(who.ca).arg("--cert").arg(who.cert).arg("--key").arg(who.key);
    command
}

/// Tells the device's agent to log as it does by default: the tests of it log each step.
pub(super) fn quiet(device: &Device) {
    device.lay("zz-bench", "[log]\nlevel = \"info\"\n");
}
