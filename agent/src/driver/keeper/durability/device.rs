//! A device that installs one deployment after another and emits records, and what its disk must hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    sync::LazyLock,
    time::Duration,
};

use sanderling_protocol::digest::Digest;

use super::{Running, boot, records::Records, releases::Releases};
use crate::{
    clock::Now,
    driver::keeper::{Done, Job, Loaded},
    store::sim::{Dice, SimDisk},
    sync::{Event, Rejected, Slots, Trial},
};

pub(super) static RELEASES: LazyLock<Releases> = LazyLock::new(Releases::new);

/// What one transaction of the keeper leaves.
#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    slots: Slots,
    trust: BTreeMap<String, Vec<u8>>,
}

/// How far an install is.
#[derive(Clone, Debug)]
enum Install {
    Nothing,
    Trust(usize),
    /// A release; blobs that are still to be put together, and the chunks that the last of them lacks once it is begun.
    Fetch {
        release: usize,
        blobs: Vec<Digest>,
        missing: Option<Vec<usize>>,
    },
    Try(usize),
    /// What becomes of the deployment on probation is told by the number.
    Judge(u64),
    Collect,
}

/// The device's memory of itself: the truth that its disk is compared with.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) disk: SimDisk,
    dice: Dice,
    sure: Known,
    /// What a transaction was to leave of which it is not known whether it was done.
    maybe: Option<Known>,
    times: Vec<Option<i64>>,
    whole: BTreeSet<Digest>,
    pub(super) records: Records,
    install: Install,
    ms: u64,
    pub(super) installs: u64,
    pub(super) errors: u64,
}

impl Device {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            disk: SimDisk::new(seed),
            dice: Dice::new(seed ^ 0xd1ce),
            sure: Known::default(),
            maybe: None,
            times: vec![None],
            whole: BTreeSet::new(),
            records: Records::default(),
            install: Install::Nothing,
            ms: 0,
            installs: 0,
            errors: 0,
        }
    }

    pub(super) fn dice(&mut self) -> &mut Dice {
        &mut self.dice
    }

    pub(super) fn now(&self) -> Now {
        Now { wall_ms: 1_800_000_000_000 + self.ms as i64, mono: Duration::from_millis(self.ms) }
    }

    /// Starts the agent's disk side and holds what it finds to what must be there.
    pub(super) fn start(&mut self, batch: bool) -> Result<Running, String> {
        let (mut running, loaded) = boot(&self.disk)?;
        if self.disk.is_off() {
            return Err("the power is out".into());
        }
        if let Some(notice) = running.database.notice() {
            return Err(format!("a power cut is taken for damage: {notice}"));
        }
        self.check_known(loaded)?;
        self.check_blobs(&mut running)?;
        Records::configure(&mut running.outbox);
        let now = self.now();
        self.records.check(&mut running, &self.sure.slots, now, batch)?;
        self.install = self.judge_next();
        Ok(running)
    }

    fn judge_next(&mut self) -> Install {
        if self.sure.slots.trial.is_some() { Install::Judge(self.dice.below(10)) } else { Install::Nothing }
    }

    fn check_known(&mut self, loaded: Loaded) -> Result<(), String> {
        let found = Known { slots: loaded.slots, trust: loaded.trust };
        if found != self.sure && self.maybe.as_ref() != Some(&found) {
            return Err(format!("neither the old nor the new: {:?}", (&found.slots, found.trust.keys())));
        }
        if !self.times.contains(&loaded.saved_time) {
            return Err(format!("the time {:?} was never saved", loaded.saved_time));
        }
        (self.sure, self.maybe, self.times) = (found, None, vec![loaded.saved_time]);
        Ok(())
    }

    /// Takes what is found as right, where a database may be lost. Gives whether it is another than before, and how many records
    /// are missing.
    pub(super) fn adopt(&mut self, running: &mut Running, loaded: Loaded) -> Result<(bool, usize), String> {
        let found = Known { slots: loaded.slots, trust: loaded.trust };
        let mut other = found != self.sure;
        (self.sure, self.maybe, self.times) = (found, None, vec![loaded.saved_time]);
        self.whole.clear();
        Records::configure(&mut running.outbox);
        let lost = self.records.adopt(&mut running.outbox, self.now())?;
        other |= self.records.kept.adopt(&mut running.states, &self.sure.slots)?;
        self.install = self.judge_next();
        Ok((other, lost))
    }

    /// Whether nothing is known at all.
    pub(super) fn is_blank(&self) -> bool {
        self.sure == Known::default() && self.records.kept.is_blank()
    }

    /// A blob that a slot names and that is gone is pulled again by the agent; here the slots are given up instead.
    pub(super) fn forget_lost_slots(&mut self, running: &mut Running) {
        let lost = self.sure.slots.blobs().any(|digest| !running.keeper.blobs.has(&digest));
        if lost {
            self.store_slots(running, Slots::default()).unwrap();
            self.install = Install::Collect;
        }
    }

    /// The same device with another disk of the same content, and chance of its own.
    pub(super) fn copy(&self, seed: u64) -> Self {
        Self {
            disk: self.disk.copy(seed),
            dice: Dice::new(seed ^ 0xd1ce),
            sure: self.sure.clone(),
            maybe: self.maybe.clone(),
            times: self.times.clone(),
            whole: self.whole.clone(),
            records: self.records.clone(),
            install: self.install.clone(),
            ms: self.ms,
            installs: self.installs,
            errors: 0,
        }
    }

    /// Every blob that is there is whole; every blob that was finished, or that a slot names, is there.
    pub(super) fn check_blobs(&mut self, running: &mut Running) -> Result<(), String> {
        for (digest, blob) in &RELEASES.blobs {
            let blobs = &mut running.keeper.blobs;
            if !blobs.has(digest) {
                let named = self.sure.slots.blobs().any(|named| named == *digest);
                if named || self.whole.contains(digest) {
                    return Err(format!("blob {} is lost; a slot names it: {named}", digest.short()));
                }
                continue;
            }
            let mut content = Vec::new();
            let open = blobs.open(digest).map_err(|error| error.to_string());
            open?.file.read_to_end(&mut content).map_err(|error| error.to_string())?;
            if content != blob.content() {
                return Err(format!("blob {} has another content", digest.short()));
            }
        }
        Ok(())
    }

    /// One thing that the agent does with its disk. After an error it is as if it had not been asked.
    pub(super) fn step(&mut self, running: &mut Running) -> Result<(), String> {
        self.ms += 30;
        let stepped = if self.dice.percent(30) {
            let now = self.now();
            self.records.act(running, &self.sure.slots, now, &mut self.dice)
        } else {
            self.go_on(running)
        };
        self.errors += u64::from(stepped.is_err());
        stepped
    }

    fn go_on(&mut self, running: &mut Running) -> Result<(), String> {
        match self.install.clone() {
            Install::Nothing => {
                if self.dice.percent(10) {
                    self.save_time(running);
                }
                let release = self.dice.place(RELEASES.slots.len());
                // What is committed is not tried.
                let is_committed = self.sure.slots.committed.as_ref() == RELEASES.slots.get(release);
                self.install = Install::Trust((release + usize::from(is_committed)) % RELEASES.slots.len());
            }
            Install::Trust(release) => {
                self.store_trust(running, release)?;
                let mut blobs: Vec<Digest> = RELEASES.slots[release].artifacts.iter().map(|one| one.sha256).collect();
                blobs.rotate_left(self.dice.place(3));
                self.install = Install::Fetch { release, blobs, missing: None };
            }
            Install::Fetch { release, blobs, missing } => self.fetch(running, release, blobs, missing)?,
            Install::Try(release) => {
                let mut slots = self.sure.slots.clone();
                slots.trial = Some(Trial { slot: RELEASES.slots[release].clone(), starts: 1 });
                self.store_slots(running, slots)?;
                self.install = self.judge_next();
            }
            Install::Judge(choice) => self.judge(running, choice)?,
            Install::Collect => {
                let keep: BTreeSet<Digest> = self.sure.slots.blobs().collect();
                self.whole.retain(|digest| keep.contains(digest));
                running.keeper.work(Job::Collect(keep));
                self.install = Install::Nothing;
            }
        }
        Ok(())
    }

    fn fetch(
        &mut self,
        running: &mut Running,
        release: usize,
        mut blobs: Vec<Digest>,
        missing: Option<Vec<usize>>,
    ) -> Result<(), String> {
        let Some(digest) = blobs.last().copied() else {
            self.install = Install::Try(release);
            return Ok(());
        };
        let blob = &RELEASES.blobs[&digest];
        let mut missing = match missing {
            Some(missing) => missing,
            None => {
                let Some(Done::Answer(Event::Begun { missing, .. })) =
                    running.keeper.work(Job::Begin(digest, blob.index.clone()))
                else {
                    unreachable!()
                };
                missing.map_err(|fault| fault.to_string())?
            }
        };
        if !missing.is_empty() {
            let index = missing.swap_remove(self.dice.place(missing.len()));
            let (chunk, content) = (blob.index.chunks()[index].digest, blob.chunks[index].clone());
            let Some(Done::Answer(Event::Wrote { result, .. })) =
                running.keeper.work(Job::Write { blob: digest, index, chunk, content })
            else {
                unreachable!()
            };
            self.install = Install::Fetch { release, blobs, missing: result.is_ok().then_some(missing) };
            return result.map_err(|fault| fault.to_string());
        }
        let Some(Done::Answer(Event::Finished { result, .. })) = running.keeper.work(Job::Finish(digest)) else {
            unreachable!()
        };
        if result.is_ok() {
            self.whole.insert(digest);
            blobs.pop();
        }
        self.install = Install::Fetch { release, blobs, missing: None };
        result.map_err(|fault| fault.to_string())
    }

    /// Commits what is on probation, starts it once more, or rolls it back.
    fn judge(&mut self, running: &mut Running, choice: u64) -> Result<(), String> {
        let mut slots = self.sure.slots.clone();
        match choice {
            0..6 => {
                slots.commit();
            }
            6 | 7 => {
                if let Some(trial) = &mut slots.trial {
                    trial.starts += 1;
                }
            }
            _ => {
                if let Some(trial) = slots.trial.take() {
                    slots.reject(Rejected { identity: trial.slot.digest, rolled_back: true, why: "trap".into() });
                }
            }
        }
        let judged = slots.trial.is_none();
        self.store_slots(running, slots)?;
        self.install = if judged { Install::Collect } else { self.judge_next() };
        self.installs += u64::from(judged);
        Ok(())
    }

    fn save_time(&mut self, running: &mut Running) {
        let time = 1_800_000_000 + self.ms as i64;
        self.times.push(Some(time));
        running.keeper.work(Job::Time(time));
    }

    fn store_trust(&mut self, running: &mut Running, release: usize) -> Result<(), String> {
        let mut known = self.sure.clone();
        let version = self.installs;
        let file =
            |role: &str| (role.to_owned(), format!("{role} {version} {}", "m".repeat(release * 700)).into_bytes());
        known.trust = ["root", "timestamp", "snapshot", "targets", "deployments"].map(file).into();
        let time = 1_800_000_000 + self.ms as i64;
        self.times.push(Some(time));
        let files = known.trust.clone().into_iter().collect();
        self.store(running, Job::Trust(files, time), known)?;
        self.times = vec![Some(time)];
        Ok(())
    }

    fn store_slots(&mut self, running: &mut Running, slots: Slots) -> Result<(), String> {
        let known = Known { slots: slots.clone(), ..self.sure.clone() };
        self.store(running, Job::Slots(Box::new(slots)), known)?;
        let now = self.now();
        self.records.settle(running, &self.sure.slots, now)
    }

    fn store(&mut self, running: &mut Running, job: Job, known: Known) -> Result<(), String> {
        let doubt = self.maybe.replace(known.clone());
        let Some(Done::Stored(stored)) = running.keeper.work(job) else { unreachable!() };
        match stored {
            Ok(()) => {
                (self.sure, self.maybe) = (known, None);
                Ok(())
            }
            Err((error, _)) => {
                // The driver gives the same job again; nothing else is stored meanwhile.
                assert!(doubt.is_none_or(|doubt| doubt == known));
                Err(error.to_string())
            }
        }
    }
}
