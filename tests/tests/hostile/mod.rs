//! A device behind a hostile broker: a proxy with the broker's own certificate that does to each packet what an attack says.

pub(crate) mod content;
pub(crate) mod floods;
pub(crate) mod packets;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sanderling_protocol::{
    digest::Digest,
    reported::{DeploymentState, MetadataReport},
    topics::Topics,
};
use sanderling_tests::{
    Device, Dice, PATIENCE, Process, Proxy, Site,
    guests::{padded, ticks},
    line_module,
    proxy::{Packet, Passing, Toward, Verdict},
    taken_by, until,
};
use serde_json::json;

/// Memory that the agent may take beyond what it takes idle, whatever is sent to it, in bytes.
pub(crate) const MEMORY: u64 = 8 << 20;
/// Disk that the state may take beyond what it takes idle, in bytes.
pub(crate) const DISK: u64 = 8 << 20;
/// How long the honest version may take to arrive. An index that lists chunks which nobody has is doubted after it has asked
/// for one of them three times, 20 s each.
const RECOVERED: Duration = Duration::from_secs(150);
/// How long an attack goes on that has not done all that it wanted.
const LONG_ENOUGH: Duration = Duration::from_millis(1_500);
/// The length of a module, in bytes: several chunks.
const MODULE: u32 = 150_000;
/// Frames a second.
const RATE: f64 = 50.0;

/// What honest messages were seen, by topic below the prefix, oldest first.
pub(crate) type Past = BTreeMap<String, Vec<Vec<u8>>>;

/// The device, the honest site, and the proxy between them.
pub(crate) struct Ground {
    pub(crate) proxy: Proxy,
    pub(crate) agent: Process,
    pub(crate) device: Device,
    pub(crate) site: Site,
    pub(crate) topics: Topics,
    past: Arc<Mutex<Past>>,
    struck: Arc<AtomicU64>,
    versions: u64,
    /// What was honestly deployed so far.
    honest: BTreeSet<Digest>,
    newest: Digest,
    tag: u8,
    /// The highest versions that were reported so far.
    floor: [u64; 4],
    seen: usize,
    idle: u64,
    /// The most memory that any attack brought about so far.
    most: u64,
    disk: u64,
}

impl Ground {
    pub(crate) fn new() -> Self {
        let site = Site::new();
        let device = site.device("gw-1");
        let proxy = Proxy::for_device(&site.broker, &site.fleet, &device);
        // A short keep-alive, so that what is withheld is noticed; reconnects that are quick.
        let quick = "[broker]\nkeep_alive_s = 1\nbackoff_min_s = 0.05\nbackoff_max_s = 0.2\n[log]\nlevel = \"info\"\n";
        device.lay("20-quick", quick);
        device.lay_clock("clock", RATE);
        let agent = device.start();
        let topics = site.fleet.topics();
        let mut ground = Self {
            proxy,
            agent,
            device,
            site,
            topics,
            past: Arc::default(),
            struck: Arc::default(),
            versions: 0,
            honest: BTreeSet::new(),
            newest: Digest::of(b""),
            tag: b'?',
            floor: [0; 4],
            seen: 0,
            idle: 0,
            most: 0,
            disk: 0,
        };
        // There is a past to come back to: three versions of everything but the root.
        ground.attack(|_| Verdict::Pass);
        for _ in 0..3 {
            ground.publish_next();
            ground.recover().unwrap();
            ground.attack(|_| Verdict::Pass);
        }
        ground.idle = ground.agent.memory();
        ground.disk = taken_by(&ground.state());
        ground.agent.reset_peak();
        ground
    }

    fn state(&self) -> std::path::PathBuf {
        self.site.fleet.path("state").join(self.device.id.as_str())
    }

    /// A whole topic.
    pub(crate) fn topic(&self, below: &str) -> String {
        format!("{}/{below}", self.topics.prefix())
    }

    /// What was honest once.
    pub(crate) fn past(&self) -> Past {
        self.past.lock().unwrap().clone()
    }

    /// From now on `attack` decides what passes.
    pub(crate) fn attack(&self, mut attack: impl FnMut(Passing<'_>) -> Verdict + Send + 'static) {
        let (past, struck) = (self.past.clone(), self.struck.clone());
        let prefix = format!("{}/", self.topics.prefix());
        self.proxy.judge(move |passing| {
            if passing.toward == Toward::Device
                && let Some(publication) = passing.packet.publication()
                && let Some(below) = publication.topic.strip_prefix(&prefix)
            {
                let mut past = past.lock().unwrap();
                let held = past.entry(below.to_owned()).or_default();
                if held.last() != Some(&publication.payload) && held.len() < 16 {
                    held.push(publication.payload);
                }
            }
            let verdict = attack(passing);
            if verdict != Verdict::Pass {
                struck.fetch_add(1, Ordering::SeqCst);
            }
            verdict
        });
    }

    /// Waits until so many more packets were attacked, or an attack has had its time.
    pub(crate) fn wait_struck(&self, more: u64) {
        let goal = self.struck.load(Ordering::SeqCst) + more;
        until(LONG_ENOUGH, || (self.struck.load(Ordering::SeqCst) >= goal || !self.is_there()).then_some(()));
    }

    /// Makes the device connect again, under the attack.
    pub(crate) fn reconnect(&self) {
        let before = self.proxy.connections();
        self.proxy.cut();
        until(PATIENCE, || (self.proxy.connections() > before).then_some(()));
    }

    /// Sends the device packets that no honest broker sent, as long as it takes them.
    pub(crate) fn inject(&self, packets: impl IntoIterator<Item = Packet>) {
        for packet in packets {
            if !self.proxy.inject(packet) {
                return;
            }
            self.struck.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Publishes the next honest version, to the honest broker.
    pub(crate) fn publish_next(&mut self) {
        self.versions += 1;
        self.tag = b'a' + u8::try_from(self.versions % 26).unwrap();
        let path = format!("modules/ticks/{}.wasm", self.versions);
        let seed = u8::try_from(self.versions % 251).unwrap();
        self.site.fleet.add_module(&padded(ticks(self.tag), MODULE, seed), &path);
        let module = line_module(&path).set("/probation", json!({ "frames": 2, "seconds": 1 }));
        let document = sanderling_tests::deployment("line", [module]);
        self.newest = self.site.fleet.roll_out(&document, &self.site.broker);
        self.honest.insert(self.newest);
    }

    /// Ends the attack. The newest honest version is committed and runs, in the same process.
    pub(crate) fn recover(&mut self) -> Result<(), String> {
        self.proxy.pass();
        self.reconnect();
        let newest = self.newest;
        let mark = self.site.observer.mark();
        let wanted = |seen: sanderling_tests::Seen<'_>| {
            let report = seen.reported(&self.device.id)?;
            let deployment = report.deployment?;
            let active = deployment.digest == newest && deployment.state == DeploymentState::Active;
            let fresh = seen.after(mark).ticks(&self.device.id, "ticks").iter().any(|tick| tick.tag == self.tag);
            (active && fresh).then_some(())
        };
        let active = self.site.observer.try_wait(RECOVERED, wanted);
        let last = self.site.observer.try_wait(Duration::ZERO, |seen| seen.reported(&self.device.id));
        active.ok_or_else(|| format!("the honest version is not active afterwards; the last report: {last:#?}"))
    }

    fn is_there(&self) -> bool {
        std::path::Path::new(&format!("/proc/{}", self.agent.pid())).exists()
    }

    /// What must hold whatever was sent.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        if !self.agent.is_running() {
            return Err("the agent has ended".to_owned());
        }
        let (seen, honest, floor) = (self.seen, &self.honest, self.floor);
        let id = &self.device.id;
        let judged =
            self.site.observer.try_wait(Duration::ZERO, |all| Some(judge(all.after(seen).reports(id), honest, floor)));
        self.floor = judged.unwrap_or(Ok(floor))?;
        self.seen = self.site.observer.mark();
        let peak = self.agent.peak_memory();
        self.agent.reset_peak();
        self.most = self.most.max(peak);
        let gained = peak.saturating_sub(self.idle);
        if gained > MEMORY {
            return Err(format!("{gained} bytes of memory beyond what it takes idle, which is {}", self.idle));
        }
        let disk = self.disk_gained();
        if disk > DISK {
            return Err(format!("{disk} bytes of disk beyond the {} that it took before", self.disk));
        }
        Ok(())
    }

    /// The most memory beyond what it takes idle so far, in bytes.
    pub(crate) fn gained(&self) -> u64 {
        self.most.saturating_sub(self.idle)
    }

    /// Memory when idle, in bytes.
    pub(crate) fn idle(&self) -> u64 {
        self.idle
    }

    /// What the state takes beyond what it took before, in bytes.
    pub(crate) fn disk_gained(&self) -> u64 {
        taken_by(&self.state()).saturating_sub(self.disk)
    }

    /// How many honest versions were published.
    pub(crate) fn versions(&self) -> u64 {
        self.versions
    }
}

/// Versions never fall, and nothing is run or trusted that was not honestly published. Gives the new floor.
fn judge(
    reports: Vec<sanderling_protocol::reported::Reported>,
    honest: &BTreeSet<Digest>,
    mut floor: [u64; 4],
) -> Result<[u64; 4], String> {
    for report in reports {
        let MetadataReport { root, timestamp, snapshot, targets, .. } = report.metadata;
        let now = [root, timestamp, snapshot, targets];
        if now.iter().zip(floor).any(|(now, floor)| *now < floor) {
            return Err(format!("metadata versions fell from {floor:?} to {now:?}"));
        }
        floor = now;
        if let Some(deployment) = &report.deployment
            && !honest.contains(&deployment.digest)
        {
            return Err(format!("{} is not of the fleet", deployment.digest));
        }
        if let Some(module) = report.modules.iter().find(|module| module.restarts > 0) {
            return Err(format!("the module was started again: {:?}", module.fault));
        }
    }
    Ok(floor)
}

/// One of a few numbers that are at the edge of something, or any.
pub(crate) fn edge(dice: &mut Dice) -> u64 {
    let edges = [0, 1, 127, 128, 255, 256, 65_535, 65_536, u64::from(u32::MAX), u64::MAX];
    if dice.chance(70) { dice.pick(&edges).copied().unwrap_or(0) } else { dice.roll() }
}
