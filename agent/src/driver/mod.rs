//! Joins everything: one loop on one thread that takes what happens, lets [`crate::sync`] decide, and carries it out.
//!
//! Purpose: link, disk, outbox, workers, sensors and health meet here and nowhere else. The disk has two threads of its
//! own, so that no fsync is in the way of a frame: `keeper` for what sync asks for, `spool` for the outbox.
//!
//! Invariants: effects are carried out in order, and nothing that follows a stored change is begun before it is on disk.
//! What is committed starts without a network. Nothing here waits for the broker.
//!
//! Failure modes: a disk that does not take a change holds up updates, is reported, and is tried again; frames, records and
//! reports go on. A lost link is told to sync and outbox, and made again by the link.
//!
//! Limits: no timer runs that nobody waits for; the idle loop wakes for keep-alive, watchdog and the report.

mod capsules;
mod capture;
mod commands;
mod effects;
mod figures;
mod gathered;
mod health;
mod incoming;
mod keeper;
mod logs;
mod outgoing;
mod parts;
mod sensors;
mod shutdown;
mod sinks;
mod spool;
mod works;

use std::{
    collections::{BTreeSet, VecDeque},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use sanderling_protocol::{
    reported::EventKind,
    topics::Topics,
    worker::{Measure, Missing},
};
use tokio::sync::{Notify as Wake, mpsc};

pub use parts::{DriverError, check, check_root, run};

use crate::{
    clock::Clock,
    health::{Watchdog, notify::Notify},
    link::{Link, LinkEvent, LinkEvents},
    metrics::{self, Counts},
    outbox::Record,
    publishers::Publishers,
    report::Pace,
    sensors::Sensors,
    settings::Settings,
    store::{BlobError, Usage, database::Database},
    sync::{Effect, Event, Now, Slots, Sync},
    workload::{Happened, WorkloadEvent},
};
use capsules::Keeping;
use capture::Captures;
use gathered::Gathered;
use keeper::{Done, Job, Keeper, judged};
use spool::{Spool, Spooled};
use works::{Outcome, Works};

/// How long to wait before a change that the disk did not take is given again.
const STORE_AGAIN: Duration = Duration::from_secs(2);
/// How often sensors are asked how they are, since they do not tell by themselves.
const SENSORS_EVERY: Duration = Duration::from_secs(15);
/// How often the time is saved while nothing else is stored.
const TIME_EVERY: Duration = Duration::from_secs(6 * 3600);
/// Events of one kind that are taken before the others get their turn.
const BURST: usize = 32;

/// What happens, by source.
struct Inputs {
    link: LinkEvents,
    keeper: mpsc::UnboundedReceiver<Done>,
    spool: mpsc::UnboundedReceiver<Spooled>,
    workloads: mpsc::UnboundedReceiver<WorkloadEvent>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    records: Rc<Wake>,
    scrapes: Option<metrics::Scrapes>,
}

/// One thing that happened.
enum Input {
    Link(LinkEvent),
    Keeper(Done),
    Spool(Spooled),
    Workload(WorkloadEvent),
    Outcome(Outcome),
    Records,
    /// Somebody wants the figures.
    Scrape(metrics::Scrape),
    Time,
    /// A source has ended: the agent cannot go on.
    Ended(&'static str),
}

/// A connection to the broker.
struct Connection {
    session: String,
    /// The outbox was asked for records and has not answered.
    asking: bool,
    /// There may be records that were not asked for.
    more: bool,
    unsent: VecDeque<Record>,
}

/// The loop's state.
struct Driver {
    settings: Settings,
    topics: Topics,
    clock: Arc<dyn Clock>,
    link: Box<dyn Link>,
    notify: Box<dyn Notify>,
    watchdog: Watchdog,
    sync: Sync,
    queue: VecDeque<Effect>,
    /// A change is being stored: what follows waits.
    storing: bool,
    /// The slots that are being stored.
    slots: Option<Box<Slots>>,
    /// What the disk did not do, and when it is given again; the first of it first.
    again: VecDeque<(Duration, Job)>,
    keeper: Keeper,
    capsules: Rc<Keeping>,
    captures: Captures,
    spool: Spool,
    works: Works,
    sensors: Sensors,
    gathered: Rc<std::cell::RefCell<Gathered>>,
    /// When this device's certificate expires, Unix seconds.
    certificate_expires: Option<i64>,
    saved_time: Option<i64>,
    time_saved_at: Duration,
    connection: Option<Connection>,
    /// Counts connections, so that answers for an older one are recognised.
    epoch: u64,
    pace: Pace,
    publishers: Publishers,
    sensors_asked_at: Duration,
    database: Database,
    storage: Usage,
    counts: Counts,
    status: String,
    rates: commands::Rates,
    /// Measures of confinement that workers were found without.
    unconfined: BTreeSet<Measure>,
}

impl Driver {
    /// Runs until `stop` is ready.
    async fn run(mut self, mut inputs: Inputs, stop: impl Future<Output = ()>) -> Result<(), DriverError> {
        let mut stop = std::pin::pin!(stop);
        self.notify.ready();
        self.keeper.give(Job::Usage);
        if let Some(why) = self.database.notice().map(str::to_owned) {
            self.decide(Event::Refused { what: "store".into(), why });
        }
        self.settle();
        loop {
            let wake = self.wake_in();
            let input = tokio::select! {
                () = &mut stop => break,
                input = inputs.next() => input,
                () = tokio::time::sleep(wake) => Input::Time,
            };
            if let Input::Ended(part) = input {
                return Err(DriverError::Ended { part });
            }
            self.take(input);
            for _ in 0..BURST {
                let Some(input) = inputs.try_next() else { break };
                self.take(input);
            }
            self.settle();
        }
        shutdown::end(self, inputs).await;
        Ok(())
    }

    fn mono(&self) -> Duration {
        self.clock.mono()
    }

    /// The time that expiry is judged by, Unix seconds.
    fn unix(&self) -> i64 {
        judged(self.clock.wall(), self.saved_time)
    }

    /// What may be stored as the time that was reached, Unix seconds.
    fn time_to_save(&self) -> i64 {
        self.sync.time_to_save(self.unix()).max(self.saved_time.unwrap_or(i64::MIN))
    }

    fn sync_now(&self) -> Now {
        Now { ms: u64::try_from(self.mono().as_millis()).unwrap_or(u64::MAX), unix: self.unix() }
    }

    /// How long the loop may sleep.
    fn wake_in(&self) -> Duration {
        let now = self.mono();
        let sync = self.sync.wake_at().map(Duration::from_millis);
        let again = self.again.front().map(|(at, _)| *at);
        let report = self.connection.as_ref().and_then(|_| self.pace.due_at());
        let sensors = (!self.settings.sensors.is_empty()).then(|| self.sensors_asked_at + SENSORS_EVERY);
        let saved = Some(self.time_saved_at + TIME_EVERY);
        let captures = self.captures.due_at();
        let due = [sync, again, report, sensors, saved, captures].into_iter().flatten().min();
        let due = due.map_or(TIME_EVERY, |at| at.saturating_sub(now));
        self.watchdog.interval().map_or(due, |interval| due.min(interval))
    }

    /// Everything that follows from what was taken in.
    fn settle(&mut self) {
        let now = self.mono();
        self.give_sign_of_life(now);
        if self.sync.wake_at().is_some_and(|at| Duration::from_millis(at) <= now) {
            self.decide(Event::Tick);
        }
        while let Some((_, job)) = self.again.pop_front_if(|(at, _)| *at <= now) {
            self.keeper.give(job);
        }
        if now >= self.sensors_asked_at + SENSORS_EVERY {
            self.sensors_asked_at = now;
            self.pace.touch(now);
        }
        if now >= self.time_saved_at + TIME_EVERY {
            self.time_saved_at = now;
            self.warn_of_expiry();
            self.keeper.give(Job::Time(self.time_to_save()));
        }
        self.settle_captures();
        self.carry_out_all();
        self.hand_over_records();
        self.send_lines();
        self.drain();
        self.report_if_due();
        self.send_discoveries();
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Link(event) => self.link_event(event),
            Input::Keeper(done) => self.done(done),
            Input::Spool(Spooled::Records { epoch, records }) => self.records(epoch, records),
            Input::Spool(Spooled::Room) => self.spool.push(Vec::new()),
            Input::Spool(Spooled::RowsLost) => {
                let rows = self.gathered.borrow_mut().states().rows();
                self.gathered.borrow_mut().rows(rows);
            }
            Input::Spool(Spooled::Failed(why)) => self.decide(Event::Refused { what: "outbox".into(), why }),
            Input::Workload(event) => self.happened(event),
            Input::Outcome(outcome) => {
                if let Outcome::Gone { generation } = &outcome {
                    let rows = self.gathered.borrow_mut().states().gone(*generation);
                    self.gathered.borrow_mut().rows(rows);
                }
                if let Some(event) = self.works.finished(outcome) {
                    self.decide(event);
                }
            }
            // Who asked may have gone.
            Input::Scrape(scrape) => _ = scrape.send(Box::new(self.figures())),
            Input::Records | Input::Time | Input::Ended(_) => {}
        }
    }

    /// Lets sync decide; what it decides waits in the queue.
    fn decide(&mut self, event: Event) {
        if !matches!(event, Event::Tick) {
            self.pace.touch(self.mono());
        }
        match self.sync.handle(event, self.sync_now()) {
            Ok(effects) => self.queue.extend(effects),
            Err(error) => tracing::debug!(%error, "an event came too late"),
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Stored(Ok(())) => {
                self.storing = false;
                if let Some(slots) = self.slots.take() {
                    let rows = self.gathered.borrow_mut().states().settle(&slots);
                    self.gathered.borrow_mut().rows(rows);
                }
            }
            Done::Stored(Err((error, job))) => {
                self.counts.store_failures += 1;
                tracing::error!(%error, "a change was not stored; updates wait until it is");
                self.again.push_back((self.mono() + STORE_AGAIN, *job));
                self.decide(Event::Refused { what: "store".into(), why: error.to_string() });
            }
            Done::Answer(event) => {
                self.count_pull(&event);
                self.decide(event);
            }
            Done::Usage(usage) => self.storage = usage,
            Done::Reply(Some(response), answer) => self.answer(&response, &answer),
            Done::Reply(None, _) => {}
            Done::Opened { generation, purpose, plan, result } => {
                if !self.works.is_opening(generation) {
                    return;
                }
                match result {
                    Ok(files) => self.works.opened(generation, plan, files),
                    Err(error @ BlobError::Disk { .. }) => {
                        tracing::error!(%error, "a blob could not be opened; it is tried again");
                        self.again.push_back((self.mono() + STORE_AGAIN, Job::Open { generation, purpose, plan }));
                    }
                    Err(error) => {
                        tracing::error!(%error, "a blob is damaged or gone; it is pulled again");
                        self.works.not_opened(generation);
                        self.decide(Event::Refused { what: "store".into(), why: error.to_string() });
                        self.decide(Event::Damaged { generation });
                    }
                }
            }
        }
    }

    /// Logs each measure of confinement that is missing once; the reports carry it for as long as it is.
    fn tell_unconfined(&mut self, unconfined: &[Missing]) {
        for missing in unconfined {
            if self.unconfined.insert(missing.measure) {
                tracing::warn!(
                    measure = %missing.measure,
                    why = missing.why,
                    "workers do without a measure of their confinement; see `sanderling-agent doctor`"
                );
            }
        }
    }

    fn happened(&mut self, WorkloadEvent { generation, module, what }: WorkloadEvent) {
        let module = module.to_string();
        match what {
            Happened::Ready(ready) => {
                tracing::info!(
                    generation,
                    module,
                    module_us = ready.module_us,
                    models_us = ready.models_us,
                    "module loaded"
                );
                self.tell_unconfined(&ready.unconfined);
            }
            Happened::Running => {
                tracing::info!(generation, module, "module runs");
                self.decide(Event::Running { generation, module });
            }
            Happened::Frames { .. } => self.pace.touch(self.mono()),
            Happened::Denied { function } => {
                tracing::warn!(module, function, "the module called what it is not granted");
                self.pace.touch(self.mono());
            }
            Happened::Fault { fault, quarantined } => {
                let capsule = fault.capsule.as_ref().map(|id| id.as_str());
                tracing::warn!(generation, module, %fault, quarantined, capsule, "module faulted");
                let told = EventKind::Fault { module: module.clone(), fault: fault.clone(), quarantined };
                self.tell(told);
                self.decide(Event::Faulted { generation, module, fault });
            }
            Happened::Captured(kept) => self.module_captured(&module, kept),
            Happened::Stopped => tracing::info!(generation, module, "module stopped"),
        }
    }
}

impl Inputs {
    async fn next(&mut self) -> Input {
        tokio::select! {
            event = self.link.recv() => event.map_or(Input::Ended("the link"), Input::Link),
            done = self.keeper.recv() => done.map_or(Input::Ended("the thread that keeps the disk"), Input::Keeper),
            spooled = self.spool.recv() => spooled.map_or(Input::Ended("the thread that keeps the outbox"), Input::Spool),
            event = self.workloads.recv() => event.map_or(Input::Ended("the workloads"), Input::Workload),
            outcome = self.outcomes.recv() => outcome.map_or(Input::Ended("the dry starts"), Input::Outcome),
            () = self.records.notified() => Input::Records,
            scrape = metrics::next(&mut self.scrapes) => Input::Scrape(scrape),
        }
    }

    /// What is there already.
    fn try_next(&mut self) -> Option<Input> {
        let keeper = self.keeper.try_recv().ok().map(Input::Keeper);
        let outcome = || self.outcomes.try_recv().ok().map(Input::Outcome);
        let workload = || self.workloads.try_recv().ok().map(Input::Workload);
        let spool = || self.spool.try_recv().ok().map(Input::Spool);
        let link = || self.link.try_recv().ok().map(Input::Link);
        keeper.or_else(outcome).or_else(workload).or_else(spool).or_else(link)
    }
}
