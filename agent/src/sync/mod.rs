//! Decides what the device trusts, pulls and runs: a pure state machine, `(state, event, now) -> (state, effects)`.
//!
//! Purpose: [`Sync::handle`] takes one [`Event`] and gives the [`Effect`]s to carry out, in their order. An effect that
//! stores something comes before those that follow from it: whoever carries them out must not go on before it is on disk.
//! Time and chance are parameters; nothing here reads a clock, a file or a socket.
//!
//! Invariants: nothing unsigned is staged; versions never fall; a committed deployment runs or is being started unless one on
//! probation runs in its place; an event that does not fit the state is a [`SyncError`] and changes nothing.
//!
//! Failure modes: whatever is refused, absent or fails becomes an entry in [`Report::refused`] with cause and cure, and is
//! tried again after growing waits, for ever; what runs goes on running.
//!
//! Limits: a window of bytes on their way, 16 refusals, 16 remembered rejections.

mod backoff;
mod fetch;
mod lifecycle;
mod plan;
mod probation;
mod pull;
mod refusals;
mod slots;
mod trust;
mod turn;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use sanderling_protocol::{
    blob::BlobIndex,
    digest::Digest,
    reported::{DeploymentReport, EventKind, MetadataReport, Refused},
    topics::Published,
    tuf::{TrustError, Trusted},
    worker::Fault,
};
use thiserror::Error;

pub use backoff::{Backoff, Chance};
pub use fetch::Limits;
pub use plan::{Artifact, Plan, PlanError, Slot};
pub use slots::{Rejected, Slots, Trial};

use lifecycle::{Env, Lifecycle};
use pull::Pull;
use refusals::Refusals;
use trust::Trust;
use turn::Turn;

/// The time at which an event is handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never goes back.
    pub ms: u64,
    /// The time that expiry is judged by, Unix seconds.
    pub unix: i64,
}

/// What does not change while the agent runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// This device's id.
    pub device: String,
    /// What a deployment's audience matches.
    pub labels: BTreeMap<String, String>,
    /// The sensors that are configured.
    pub sensors: BTreeSet<String>,
    /// What must stay free on the disk, in bytes.
    pub reserve_bytes: u64,
    /// What bounds the pull.
    pub limits: Limits,
    /// Decides the spread of waits.
    pub seed: u64,
}

/// A message under `repo/`, `blob/` or `chunk/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is, by its topic.
    pub what: Published,
    /// Its payload.
    pub payload: Bytes,
}

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BlobFault {
    /// The content is not what is signed: the whole has another digest. Its parts are gone.
    #[error("{0}")]
    Corrupt(String),
    /// The disk is full or broken, or the record is not there.
    #[error("{0}")]
    Disk(String),
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A connection stands; no subscription is left of the one before.
    LinkUp,
    /// The connection is lost.
    LinkDown,
    /// A message came.
    Message(Message),
    /// It is the time that [`Sync::wake_at`] named.
    Tick,
    /// Somebody asks for a look at the metadata now.
    Refresh,
    /// Something outside of this machine was refused or failed, to be listed with the rest.
    Refused {
        /// What.
        what: String,
        /// Why, naming cause and cure.
        why: String,
    },
    /// Answers [`Effect::Survey`].
    Surveyed {
        /// Those that are there.
        held: Vec<Digest>,
        /// What is free on the disk, in bytes.
        free: u64,
    },
    /// Answers [`Effect::Begin`].
    Begun {
        /// The blob.
        digest: Digest,
        /// The places in the index of the chunks that are missing.
        missing: Result<Vec<usize>, BlobFault>,
    },
    /// Answers [`Effect::Write`].
    Wrote {
        /// The blob.
        blob: Digest,
        /// The chunk's place in the index.
        index: usize,
        /// The chunk.
        chunk: Digest,
        /// Whether it is written.
        result: Result<(), BlobFault>,
    },
    /// Answers [`Effect::Finish`].
    Finished {
        /// The blob.
        digest: Digest,
        /// Whether it is whole.
        result: Result<(), BlobFault>,
    },
    /// Answers [`Effect::ReadDocument`].
    Document {
        /// The document.
        digest: Digest,
        /// Its content.
        content: Result<Vec<u8>, BlobFault>,
    },
    /// Answers [`Effect::Stage`]: every module was loaded.
    Staged {
        /// The number of the dry start.
        generation: u64,
    },
    /// Answers [`Effect::Stage`]: a module was not loaded.
    StageFailed {
        /// The number of the dry start.
        generation: u64,
        /// The module.
        module: String,
        /// Why.
        fault: Fault,
    },
    /// Answers [`Effect::Stage`] or [`Effect::Start`]: a blob was damaged since it was hashed, and is gone.
    Damaged {
        /// The generation that was to be staged or started.
        generation: u64,
    },
    /// A module takes frames.
    Running {
        /// Its generation.
        generation: u64,
        /// Its name.
        module: String,
    },
    /// A module faulted.
    Faulted {
        /// Its generation.
        generation: u64,
        /// Its name.
        module: String,
        /// Why.
        fault: Fault,
    },
    /// Answers [`Effect::Count`].
    Counted {
        /// The generation.
        generation: u64,
        /// Frames handled since it was started, by module.
        frames: Vec<(String, u64)>,
    },
}

/// Something to do, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Subscribe in one packet, in this order. What is subscribed already is subscribed again.
    Subscribe(Vec<Published>),
    /// Unsubscribe in one packet.
    Unsubscribe(Vec<Published>),
    /// Store the trusted metadata, by role, in place of what was stored; in one transaction.
    PersistTrust(Vec<(String, Vec<u8>)>),
    /// Store the slots in place of what was stored; in one transaction.
    PersistSlots(Box<Slots>),
    /// Say which of these blobs are there, and what is free. Answered by [`Event::Surveyed`].
    Survey {
        /// The blobs.
        blobs: Vec<Digest>,
    },
    /// Begin a blob, or go on with it. Answered by [`Event::Begun`].
    Begin {
        /// The blob.
        digest: Digest,
        /// Its chunks, and its length.
        index: Arc<BlobIndex>,
    },
    /// Write a chunk, which matches its digest. Answered by [`Event::Wrote`].
    Write {
        /// The blob.
        blob: Digest,
        /// The chunk's place in the index.
        index: usize,
        /// The chunk.
        chunk: Digest,
        /// Its content.
        content: Arc<[u8]>,
    },
    /// Hash a blob as a whole, and keep it. Answered by [`Event::Finished`].
    Finish {
        /// The blob.
        digest: Digest,
    },
    /// Read a blob that is a deployment document. Answered by [`Event::Document`].
    ReadDocument {
        /// The blob.
        digest: Digest,
    },
    /// Remove every blob but these.
    Collect {
        /// The blobs to keep.
        keep: BTreeSet<Digest>,
    },
    /// Load every module of a plan without running it. Answered by [`Event::Staged`], [`Event::StageFailed`] or
    /// [`Event::Damaged`].
    Stage {
        /// Names the dry start in the answer.
        generation: u64,
        /// The plan.
        plan: Arc<Plan>,
    },
    /// Start the modules of a plan beside whatever runs. [`Event::Running`] and [`Event::Faulted`] follow, or
    /// [`Event::Damaged`].
    Start {
        /// The new generation.
        generation: u64,
        /// The plan.
        plan: Arc<Plan>,
    },
    /// Give frames to this generation from now on, or to none.
    Route {
        /// The generation.
        generation: Option<u64>,
    },
    /// Stop a generation, or a dry start. One that is not there is no error.
    Stop {
        /// The generation.
        generation: u64,
    },
    /// Count the frames of a generation. Answered by [`Event::Counted`].
    Count {
        /// The generation.
        generation: u64,
    },
    /// Tell the fleet.
    Tell(EventKind),
}

/// Why an event was not taken. The state is as before.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SyncError {
    /// An answer to a question that is no longer open.
    #[error("{what} was not asked for, or no longer: {digest}")]
    NotAsked {
        /// What came.
        what: &'static str,
        /// Of which blob or chunk.
        digest: Digest,
    },
    /// The store answered what it was not asked.
    #[error("a survey was not asked for, or no longer")]
    NotSurveying,
    /// A generation that is not in that state, or no longer.
    #[error("generation {generation} is said to be {what}, but is not awaited to be, or no longer")]
    Generation {
        /// What is said of it.
        what: &'static str,
        /// Its number.
        generation: u64,
    },
    /// Something happened before [`Event::LinkUp`].
    #[error("a message came while the link was down")]
    LinkDown,
}

/// What there is to report.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The deployment that the device is to run, and how far it is.
    pub deployment: Option<DeploymentReport>,
    /// Versions of the trusted metadata.
    pub metadata: MetadataReport,
    /// What was refused lately.
    pub refused: Vec<Refused>,
    /// Since when the metadata is expired, Unix seconds.
    pub stale: Option<i64>,
}

/// The state machine.
#[derive(Debug)]
pub struct Sync {
    config: Config,
    up: bool,
    chance: Chance,
    refusals: Refusals,
    trust: Trust,
    pull: Pull,
    lifecycle: Lifecycle,
}

impl Sync {
    /// Begins with what is trusted and stored; gives what there is to do at once: what is committed is started, with or
    /// without a network.
    pub fn start(
        config: Config,
        trusted: Trusted,
        slots: Slots,
        refused: Vec<(String, TrustError)>,
        now: Now,
    ) -> (Self, Vec<Effect>) {
        let mut sync = Self {
            up: false,
            chance: Chance::new(config.seed),
            refusals: Refusals::default(),
            trust: Trust::new(trusted, config.limits),
            pull: Pull::new(config.limits),
            lifecycle: Lifecycle::default(),
            config,
        };
        let mut effects = Vec::new();
        let Self { chance, refusals, lifecycle, .. } = &mut sync;
        let mut turn = Turn { now, chance, refusals, effects: &mut effects };
        for (role, cause) in refused {
            turn.refuse(format!("stored {role}"), None, cause);
        }
        lifecycle.boot(slots, &mut turn);
        (sync, effects)
    }

    /// Takes an event in.
    ///
    /// # Errors
    /// [`SyncError`] where it does not fit: an answer that came too late, or one to nothing. The state is as before.
    pub fn handle(&mut self, event: Event, now: Now) -> Result<Vec<Effect>, SyncError> {
        let mut effects = Vec::new();
        let Self { config, up, chance, refusals, trust, pull, lifecycle } = self;
        let mut turn = Turn { now, chance, refusals, effects: &mut effects };
        let refreshed = match event {
            Event::LinkUp => {
                *up = true;
                pull.link_up(now.ms);
                trust.link_up(&mut turn);
                false
            }
            Event::LinkDown => {
                *up = false;
                turn.refusals.nothing_missing();
                let mut forget = trust.link_down(&mut turn);
                forget.extend(pull.link_down());
                if !forget.is_empty() {
                    turn.effect(Effect::Unsubscribe(forget));
                }
                false
            }
            Event::Message(_) if !*up => return Err(SyncError::LinkDown),
            Event::Message(message) => match message.what {
                Published::Index(digest) => {
                    pull.index(digest, &message.payload, &mut turn);
                    false
                }
                Published::Chunk(digest) => {
                    pull.chunk(digest, &message.payload, &mut turn);
                    false
                }
                _ => trust.message(&message, &mut turn),
            },
            Event::Tick => false,
            Event::Refresh => {
                trust.listen(&mut turn);
                false
            }
            Event::Refused { what, why } => {
                turn.refuse(what, None, why);
                false
            }
            Event::Running { generation, module } => {
                lifecycle.running(generation, &module, &mut turn)?;
                false
            }
            Event::Faulted { generation, module, fault } => {
                lifecycle.faulted(generation, &module, &fault, &mut turn)?;
                false
            }
            Event::Counted { generation, frames } => {
                lifecycle.counted(generation, &frames, &mut turn)?;
                false
            }
            Event::Begun { digest, missing } => {
                pull.begun(digest, missing, &mut turn)?;
                false
            }
            Event::Wrote { blob, index, chunk, result } => {
                pull.wrote((blob, index), chunk, result, &mut turn)?;
                false
            }
            Event::Finished { digest, result } => {
                pull.finished(digest, result, &mut turn)?;
                false
            }
            answer => {
                let trusted = trust.trusted();
                let (sensors, reserve_bytes) = (&config.sensors, config.reserve_bytes);
                let mut env = Env { turn: &mut turn, pull, trusted, sensors, reserve_bytes };
                answered(lifecycle, answer, &mut env)?;
                false
            }
        };
        self.settle(refreshed, now, &mut effects);
        Ok(effects)
    }

    /// What follows from the event beyond the part that took it.
    fn settle(&mut self, refreshed: bool, now: Now, effects: &mut Vec<Effect>) {
        let Self { config, chance, refusals, trust, pull, lifecycle, .. } = self;
        let mut turn = Turn { now, chance, refusals, effects };
        if refreshed {
            match plan::desired(trust.trusted(), &config.device, &config.labels) {
                Ok((desired, passed_over)) => {
                    for (path, why) in passed_over {
                        turn.refuse(path, None, why);
                    }
                    let (sensors, reserve_bytes) = (&config.sensors, config.reserve_bytes);
                    let mut env = Env { turn: &mut turn, pull, trusted: trust.trusted(), sensors, reserve_bytes };
                    lifecycle.decide(desired, &mut env);
                }
                Err(cause) => turn.refuse("deployments", None, cause),
            }
        }
        let (sensors, reserve_bytes) = (&config.sensors, config.reserve_bytes);
        let mut env = Env { turn: &mut turn, pull, trusted: trust.trusted(), sensors, reserve_bytes };
        lifecycle.pulled(&mut env);
        trust.poll(&mut turn);
        pull.poll(&mut turn);
        lifecycle.poll(now.ms, &mut turn);
    }

    /// When [`Event::Tick`] is due though nothing else happens, in milliseconds of [`Now::ms`].
    pub fn wake_at(&self) -> Option<u64> {
        [self.trust.wake_at(), self.pull.wake_at(), self.lifecycle.wake_at()].into_iter().flatten().min()
    }

    /// The generation that frames go to.
    pub fn generation(&self) -> Option<u64> {
        self.lifecycle.generation()
    }

    /// What there is to report. `unix` is the time that expiry is judged by, in seconds.
    pub fn report(&self, unix: i64) -> Report {
        let trusted = self.trust.trusted();
        let version = |role: &str| trusted.version(role).unwrap_or(0);
        let (_, expires) = trusted.first_expiry();
        let metadata = MetadataReport {
            root: version("root"),
            timestamp: version("timestamp"),
            snapshot: version("snapshot"),
            targets: version("targets"),
            expires,
        };
        Report {
            deployment: self.lifecycle.report(&self.pull),
            metadata,
            refused: self.refusals.list().cloned().collect(),
            stale: (expires <= unix).then_some(expires),
        }
    }
}

/// Hands answers of the store and of dry starts to the part that waits for them.
fn answered(lifecycle: &mut Lifecycle, answer: Event, env: &mut Env<'_, '_>) -> Result<(), SyncError> {
    match answer {
        Event::Surveyed { held, free } => {
            let needed = env.pull.surveyed(&held).ok_or(SyncError::NotSurveying)?;
            lifecycle.admit(needed, free, env);
            Ok(())
        }
        Event::Document { digest, content } => lifecycle.read(digest, content, env),
        Event::Staged { generation } => lifecycle.staged(generation, env),
        Event::StageFailed { generation, module, fault } => lifecycle.stage_failed(generation, &module, &fault, env),
        Event::Damaged { generation } => lifecycle.damaged(generation, env),
        _ => Ok(()),
    }
}
