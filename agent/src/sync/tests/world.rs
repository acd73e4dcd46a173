//! A repository, a broker, a disk and workers in memory, around one device.
//!
//! One [`Device::step`] carries out one effect or takes one event in, so that the power can be cut between any two. What must hold
//! after each of them is in [`check`]. A reboot keeps the disk, which effects alone have written, and nothing else of the device.

mod broker;
mod check;
mod disk;
mod works;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sanderling_protocol::{
    digest::Digest,
    reported::{DeploymentState, EventKind, Handover},
    topics::Published,
    tuf::Trusted,
};

use super::repository::{B, Repository, of_two};
use crate::sync::{Backoff, Capacity, Config, Effect, Event, Limits, Now, Report, Sync, SyncError};

use check::Watch;
pub(super) use disk::Disk;
pub(super) use works::{Behaviour, Generation, fault};

/// The time at which all tests begin, Unix seconds; the agent was built then.
pub(super) const START: i64 = 1_800_000_000;
pub(super) const EXPIRES: i64 = START + 1_000_000;

/// A device, with all that is around it.
pub(super) struct Device {
    pub(super) sync: Sync,
    pub(super) now: Now,
    /// How far the system's clock is off, in seconds.
    pub(super) clock_off: i64,
    pub(super) broker: BTreeMap<Published, Vec<u8>>,
    pub(super) link: bool,
    pub(super) capacity: Capacity,
    /// So many messages to come are lost on their way.
    pub(super) losses: u32,
    subscribed: BTreeSet<Published>,
    queue: VecDeque<Effect>,
    pub(super) events: VecDeque<Event>,
    pub(super) disk: Disk,
    /// What is free on the disk beside the parts of blobs, in bytes.
    pub(super) free: u64,
    /// What the disk holds in all, where that is limited, in bytes.
    total: Option<u64>,
    pub(super) generations: BTreeMap<u64, Generation>,
    pub(super) routed: Option<u64>,
    pub(super) told: Vec<EventKind>,
    pub(super) behaviours: BTreeMap<Digest, Behaviour>,
    pub(super) frames_come: bool,
    /// In which order a deployment can take the place of another here.
    pub(super) handover: Handover,
    /// Every chunk that was delivered.
    pub(super) pulled: Vec<Digest>,
    pub(super) errors: Vec<SyncError>,
    /// Ticks since the device was started.
    pub(super) ticks: u32,
    watch: Watch,
}

/// A device on which `a` of [`of_two`] is committed, and a repository whose `b` is published but not seen.
pub(super) fn committed_of_two(length: usize) -> (Device, Repository) {
    let mut repository = of_two(length);
    let mut device = Device::new(&repository);
    device.up();
    device.pass(11_000);
    assert_eq!(device.committed(), Some("a"));
    repository.deploy("b", B);
    repository.publish();
    device.pulled.clear();
    (device, repository)
}

pub(super) fn config() -> Config {
    let backoff = Backoff { first_ms: 1000, longest_ms: 300_000 };
    Config {
        device: "gw-1".into(),
        labels: BTreeMap::new(),
        sensors: BTreeSet::from(["cam0".to_owned()]),
        sinks: BTreeSet::from(["log".to_owned()]),
        reserve_bytes: 1000,
        limits: Limits { backoff, ..Limits::default() },
        seed: 7,
    }
}

impl Device {
    /// A device that was just flashed: the link is down.
    pub(super) fn new(repository: &Repository) -> Self {
        let mut device = Self::boot(repository, Disk::default(), BTreeMap::new());
        device.run();
        device
    }

    fn boot(repository: &Repository, disk: Disk, behaviours: BTreeMap<Digest, Behaviour>) -> Self {
        let restored = Trusted::restore(&repository.shipped_root(), &disk.trust).unwrap();
        assert_eq!(restored.refused, [], "what was stored was trusted");
        let now = Now { ms: 5000, unix: disk.saved_time.unwrap_or(START).max(START) };
        let (sync, effects) = Sync::start(config(), restored.trusted, disk.slots.clone(), restored.refused, now);
        let watch = Watch::new(repository, &sync);
        Self {
            sync,
            now,
            clock_off: 0,
            broker: repository.retained.clone(),
            link: false,
            capacity: Capacity::default(),
            losses: 0,
            subscribed: BTreeSet::new(),
            queue: effects.into(),
            events: VecDeque::new(),
            disk,
            free: 1 << 30,
            total: None,
            generations: BTreeMap::new(),
            routed: None,
            told: Vec::new(),
            behaviours,
            frames_come: true,
            handover: Handover::MakeBeforeBreak,
            pulled: Vec::new(),
            errors: Vec::new(),
            ticks: 0,
            watch,
        }
    }

    /// Cuts the power and starts again; what is not on disk is gone, and with it what is wrong outside of the device.
    pub(super) fn reboot(self, repository: &Repository) -> Self {
        let mut device = Self::boot(repository, self.disk, self.behaviours);
        device.run();
        device
    }

    /// Cuts the power and starts again, into the same world: nothing is carried out yet.
    pub(super) fn cut(self, repository: &Repository) -> Self {
        let mut device = Self::boot(repository, self.disk, self.behaviours);
        (device.clock_off, device.broker, device.capacity) = (self.clock_off, self.broker, self.capacity);
        (device.free, device.frames_come, device.handover) = (self.free, self.frames_come, self.handover);
        device.set_time(device.now.ms);
        device
    }

    pub(super) fn up(&mut self) {
        self.link = true;
        self.handle(Event::LinkUp(self.capacity));
    }

    pub(super) fn down(&mut self) {
        self.link = false;
        self.subscribed.clear();
        self.events.retain(|event| !matches!(event, Event::Message(_)));
        self.handle(Event::LinkDown);
        self.subscribed.clear();
    }

    pub(super) fn handle(&mut self, event: Event) {
        self.events.push_back(event);
        self.run();
    }

    /// Lets everything happen that is to happen now.
    pub(super) fn run(&mut self) {
        while self.step() {}
    }

    /// Carries out one effect, or takes one event in. Effects wait behind a change that the disk does not take.
    pub(super) fn step(&mut self) -> bool {
        let waits = |effect: &Effect| matches!(effect, Effect::PersistTrust { .. } | Effect::PersistSlots(_));
        let held_up = self.disk.broken && self.queue.front().is_some_and(waits);
        if let Some(effect) = self.queue.pop_front_if(|_| !held_up) {
            self.carry_out(effect);
        } else if let Some(event) = self.events.pop_front() {
            match self.sync.handle(event, self.now) {
                Ok(effects) => self.queue.extend(effects),
                Err(error) => self.errors.push(error),
            }
        } else {
            return false;
        }
        self.check();
        true
    }

    /// Gives effects to be carried out.
    pub(super) fn give(&mut self, effects: Vec<Effect>) {
        self.queue.extend(effects);
    }

    /// Carries out what was decided and takes one event in; gives what comes of it.
    pub(super) fn next_effects(&mut self) -> Option<Vec<Effect>> {
        while let Some(effect) = self.queue.pop_front() {
            self.carry_out(effect);
        }
        let effects = self.sync.handle(self.events.pop_front()?, self.now).unwrap_or_default();
        self.give(effects.clone());
        Some(effects)
    }

    /// Lets time pass, with every tick that is due.
    pub(super) fn pass(&mut self, ms: u64) {
        let end = self.now.ms + ms;
        for _ in 0..100_000 {
            self.run();
            match self.sync.wake_at() {
                Some(at) if at <= end => self.set_time(at.max(self.now.ms)),
                _ => {
                    self.set_time(end);
                    return;
                }
            }
            self.ticks += 1;
            self.handle(Event::Tick);
        }
        panic!("it never comes to rest");
    }

    fn set_time(&mut self, ms: u64) {
        let wall = START + self.clock_off + i64::try_from(ms / 1000).unwrap();
        // As the driver judges it: no earlier than the build, and than the time last saved.
        self.now = Now { ms, unix: wall.max(START).max(self.disk.saved_time.unwrap_or(START)) };
    }

    /// Sets the system's clock.
    pub(super) fn set_clock(&mut self, off: i64) {
        self.clock_off = off;
        self.set_time(self.now.ms);
    }

    fn carry_out(&mut self, effect: Effect) {
        self.check_before(&effect);
        match effect {
            Effect::Subscribe(topics) => topics.into_iter().for_each(|what| self.subscribe(what)),
            Effect::Unsubscribe(topics) => self.subscribed.retain(|what| !topics.contains(what)),
            Effect::Tell(what) => self.told.push(what),
            effect => {
                if let Some(effect) = self.keep(effect) {
                    self.work(effect);
                }
            }
        }
    }

    pub(super) fn report(&self) -> Report {
        self.sync.report(self.now.unix)
    }

    /// The name of the deployment that gets frames.
    pub(super) fn runs(&self) -> Option<&str> {
        Some(&self.generations.get(&self.routed?)?.plan.slot.name)
    }

    /// The modules that get frames.
    pub(super) fn modules(&self) -> Vec<String> {
        let routed = self.routed.and_then(|generation| self.generations.get(&generation));
        let modules = routed.into_iter().flat_map(|one| one.plan.deployment.modules.iter());
        modules.map(|module| module.name.clone()).collect()
    }

    /// The state of the deployment that is reported.
    pub(super) fn state(&self) -> Option<DeploymentState> {
        self.report().deployment.map(|deployment| deployment.state)
    }

    pub(super) fn committed(&self) -> Option<&str> {
        self.disk.slots.committed.as_ref().map(|slot| slot.name.as_str())
    }

    pub(super) fn refusals(&self) -> Vec<(String, String)> {
        self.report().refused.into_iter().map(|refused| (refused.what, refused.why)).collect()
    }
}
