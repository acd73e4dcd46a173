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
mod events;
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

use std::collections::{BTreeMap, BTreeSet};

use sanderling_protocol::{
    reported::{DeploymentReport, MetadataReport, Refused},
    topics::Published,
    tuf::{TrustError, Trusted},
};

pub use backoff::{Backoff, Chance};
pub use events::{BlobFault, Capacity, Effect, Event, Message, SyncError};
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
    /// The sinks that are configured, beside the broker.
    pub sinks: BTreeSet<String>,
    /// What must stay free on the disk, in bytes.
    pub reserve_bytes: u64,
    /// What bounds the pull.
    pub limits: Limits,
    /// Decides the spread of waits.
    pub seed: u64,
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
        let Self { config, chance, refusals, trust, pull, lifecycle, .. } = &mut sync;
        let mut turn = Turn { now, chance, refusals, effects: &mut effects };
        let complete = refused.is_empty() && trust.trusted().is_current() && trust.trusted().is_complete();
        for (role, cause) in refused {
            turn.refuse(format!("stored {role}"), None, cause);
        }
        let desired = plan::desired(trust.trusted(), &config.device, &config.labels);
        let desired = desired.ok().filter(|_| complete).map(|(desired, _)| desired);
        let (sensors, sinks, reserve_bytes) = (&config.sensors, &config.sinks, config.reserve_bytes);
        let mut env = Env { turn: &mut turn, pull, trusted: trust.trusted(), sensors, sinks, reserve_bytes };
        lifecycle.boot(slots, desired, &mut env);
        sync.settle(false, now, &mut effects);
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
            Event::LinkUp(_) if *up => return Err(SyncError::LinkUp),
            Event::LinkUp(capacity) => {
                *up = true;
                pull.link_up(capacity, &mut turn);
                trust.link_up(capacity, &mut turn);
                false
            }
            Event::LinkDown if !*up => return Err(SyncError::LinkDown),
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
                    pull.index(digest, &message.payload, &mut turn)?;
                    false
                }
                Published::Chunk(digest) => {
                    pull.chunk(digest, &message.payload, &mut turn)?;
                    false
                }
                _ => trust.message(&message, &mut turn)?,
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
                let (sensors, sinks, reserve_bytes) = (&config.sensors, &config.sinks, config.reserve_bytes);
                let mut env = Env { turn: &mut turn, pull, trusted, sensors, sinks, reserve_bytes };
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
                    let (sensors, sinks, reserve_bytes) = (&config.sensors, &config.sinks, config.reserve_bytes);
                    let mut env =
                        Env { turn: &mut turn, pull, trusted: trust.trusted(), sensors, sinks, reserve_bytes };
                    lifecycle.decide(desired, &mut env);
                }
                Err(cause) => turn.refuse("deployments", None, cause),
            }
        }
        let (sensors, sinks, reserve_bytes) = (&config.sensors, &config.sinks, config.reserve_bytes);
        let mut env = Env { turn: &mut turn, pull, trusted: trust.trusted(), sensors, sinks, reserve_bytes };
        lifecycle.again(&mut env);
        lifecycle.want(&mut env);
        while lifecycle.pulled(&mut env) {
            lifecycle.want(&mut env);
        }
        trust.poll(&mut turn);
        pull.poll(&mut turn);
        lifecycle.poll(now.ms, &mut turn);
    }

    /// When [`Event::Tick`] is due though nothing else happens, in milliseconds of [`Now::ms`].
    pub fn wake_at(&self) -> Option<u64> {
        [self.trust.wake_at(), self.pull.wake_at(), self.lifecycle.wake_at()].into_iter().flatten().min()
    }

    /// What may be stored as the time that was reached, where `unix` seems to be the time: one at which all that is trusted was
    /// valid, so that a clock that was ahead for a while does not make what is signed later look expired.
    pub fn time_to_save(&self, unix: i64) -> i64 {
        trust::time_to_save(self.trust.trusted(), unix)
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
        Event::Surveyed { number, held, taken, free } => {
            let needed = env.pull.surveyed(number, &held, taken)?;
            lifecycle.admit(needed, free, env);
            Ok(())
        }
        Event::Document { digest, content } => lifecycle.read(digest, content, env),
        Event::Staged { generation, handover } => lifecycle.staged(generation, handover, env),
        Event::StageFailed { generation, module, fault } => lifecycle.stage_failed(generation, &module, &fault, env),
        Event::Damaged { generation } => lifecycle.damaged(generation, env),
        _ => Ok(()),
    }
}
