//! Runs an execution again from what a flight recorder kept of it: the same module, in the same state, with the same frames and the same
//! answers of the host.
//!
//! No clock, no randomness, no model and no host function of ours takes part: what they answered is in the record. A guest is held
//! to its record at each step, so that a replay is either the same execution or says where it is another.
//!
//! An end that time brought about is found again by fuel: the guest gets just as much as it had used when its time had run out.

use std::{fmt, sync::Arc};

use sanderling_guest::frame::FrameHeader;
use sanderling_protocol::{
    deployment::{Execution, Limits},
    flight::{Export, FlightError, Snapshot},
    worker::{Fault, FaultCode, InputDecode},
};
use thiserror::Error;

use crate::{
    FakeClock, FrameBytes, Guest, LoadSpec, Outcome, Output, Ports, SeededRandom,
    record::{Observer, Player, Recorded, Stop, Tape},
};
pub use script::Script;

mod script;

/// What of a deployment a replay needs.
#[derive(Clone, Debug)]
pub struct ReplaySpec<'a> {
    /// The wasm file.
    pub module: &'a [u8],
    /// To what compressed frames were decoded.
    pub inputs: Vec<InputDecode>,
    /// What the guest could use.
    pub limits: Limits,
    /// How it was run.
    pub execution: Execution,
}

/// Why nothing can be run again.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// The record is not one, or is damaged.
    #[error("the record cannot be read: {0}")]
    Damaged(#[from] FlightError),
    /// Nothing was recorded.
    #[error("the record is empty: the worker ended before its guest was loaded")]
    Empty,
    /// The record lacks the state before the frame.
    #[error(
        "the record is partial: it holds the frame at most, and not the state that the guest was in. {}",
        room(*.wanted)
    )]
    Partial {
        /// The region that would have held it, in bytes; 0 where that is not known.
        wanted: u64,
    },
    /// The module is not the recorded one, or cannot be looked into.
    #[error("the record does not fit the module: {0}")]
    Module(String),
}

fn room(wanted: u64) -> String {
    match wanted {
        0 => "The guest was too busy for a snapshot at the time, or changes what snapshots do not hold (tables, dropped segments)"
            .to_owned(),
        bytes => format!("Raise capsule_kib to {} or more", bytes.div_ceil(1024)),
    }
}

/// How a replay ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// In a fault of the guest.
    Fault(Fault),
    /// Where the record ends, or differs.
    Stopped(Stop),
    /// With the last frame of the record, which has no fault.
    Finished,
}

/// What became of a replay.
#[derive(Clone, Debug, PartialEq)]
pub struct Replayed {
    /// How it ended.
    pub end: End,
    /// The fault in the record.
    pub recorded: Option<Fault>,
    /// The digest of the last state in the record.
    pub recorded_state: Option<u64>,
    /// The digest of the state now.
    pub state: Option<u64>,
    /// Frames that were given.
    pub frames: u64,
    /// Host calls that were answered.
    pub calls: u64,
    /// Fuel of the last frame, or of the start functions.
    pub fuel: u64,
}

impl Replayed {
    /// Whether the fault of the record came again, in every part that is not a sentence.
    pub fn is_same(&self) -> bool {
        let same_state = match (self.recorded_state, self.state) {
            (Some(recorded), Some(now)) => recorded == now,
            _ => true,
        };
        match (&self.end, &self.recorded) {
            (End::Fault(fault), Some(recorded)) => same_state && is_same(fault, recorded),
            (End::Finished, None) => true,
            _ => false,
        }
    }
}

/// Whether two faults are the same in every part that is not a sentence.
pub fn is_same(one: &Fault, other: &Fault) -> bool {
    let parts = |fault: &Fault| {
        let Fault { code, trap, export, guest_code, seq, fuel_used, memory_bytes, host_calls, .. } = fault.clone();
        (code, trap, export, guest_code, seq, fuel_used, memory_bytes, host_calls)
    };
    parts(one) == parts(other)
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::Stopped(stop) => stop.fmt(f),
            Self::Finished => f.write_str("the last frame of the record was handled"),
        }
    }
}

/// Runs a record again. `observer` sees each host call.
///
/// # Errors
/// [`ReplayError`] where it cannot even be begun.
pub fn replay(record: &[u8], spec: &ReplaySpec<'_>, observer: Option<Observer>) -> Result<Replayed, ReplayError> {
    let script = Script::read(record)?;
    let starts = script.snapshot.is_none() && spec.execution == Execution::Reactor;
    match load(&script, Player::new(script.log, observer), spec)? {
        Ok(guest) => Ok(Run { guest, script, limits: spec.limits, done: 0, frames: 0, fuel: 0 }.all(starts)),
        Err(fault) => Ok(Replayed {
            end: End::Fault(fault),
            recorded: script.fault,
            recorded_state: script.state,
            state: None,
            frames: 0,
            calls: 0,
            fuel: 0,
        }),
    }
}

type Loaded = Result<Guest, Fault>;

/// A guest in the state from which the log goes on.
fn load(script: &Script<'_>, player: Player, spec: &ReplaySpec<'_>) -> Result<Loaded, ReplayError> {
    match (&script.snapshot, spec.execution) {
        (None, Execution::Reactor) => Ok(from_the_start(player, spec)),
        (snapshot, _) => bare(player, spec, snapshot.as_ref()),
    }
}

fn from_the_start(mut player: Player, spec: &ReplaySpec<'_>) -> Loaded {
    if player.peek() == Some(Recorded::Instance) {
        player.take();
    }
    Guest::load_replayed(Tape::Replay(Box::new(player)), load_spec(spec), ports())
}

/// A guest whose start section and start functions have run already, in the state of a snapshot where there is one.
fn bare(player: Player, spec: &ReplaySpec<'_>, snapshot: Option<&Snapshot<'_>>) -> Result<Loaded, ReplayError> {
    let refused = |what: &dyn fmt::Display| ReplayError::Module(what.to_string());
    let mut guest = Guest::load_bare(load_spec(spec), ports()).map_err(|fault| refused(&fault))?;
    if let Some(snapshot) = snapshot {
        guest.body().restore(snapshot).map_err(|error| refused(&error))?;
    }
    if let Some(tape) = guest.body().tape() {
        *tape = Tape::Replay(Box::new(player));
    }
    Ok(Ok(guest))
}

fn load_spec<'a>(spec: &ReplaySpec<'a>) -> LoadSpec<'a> {
    LoadSpec {
        module: spec.module,
        inputs: spec.inputs.clone(),
        limits: spec.limits,
        execution: spec.execution,
        ..LoadSpec::default()
    }
}

/// A world in which no time passes, and that hears nothing.
fn ports() -> Ports {
    Ports {
        clock: Arc::new(FakeClock::default()),
        output: Box::new(Silence),
        random: Box::new(SeededRandom::new(0)),
        stop: Box::new(|| false),
    }
}

struct Silence;

impl Output for Silence {
    fn emit(&mut self, _seq: u64, _channel: &str, _payload: &[u8]) {}
    fn log(&mut self, _level: u8, _text: &str) {}
    fn denied(&mut self, _function: &'static str) {}
}

struct Run<'a> {
    guest: Guest,
    script: Script<'a>,
    limits: Limits,
    /// How often the guest was entered, its start not counted.
    done: u64,
    frames: u64,
    fuel: u64,
}

impl Run<'_> {
    fn all(mut self, starts: bool) -> Replayed {
        let end = self.steps(starts);
        let calls = self.player().map_or(0, |player| player.calls());
        Replayed {
            end,
            recorded: self.script.fault,
            recorded_state: self.script.state,
            state: self.guest.digest(),
            frames: self.frames,
            calls,
            fuel: self.fuel,
        }
    }

    fn steps(&mut self, starts: bool) -> End {
        if starts {
            self.limit_last();
            if let Err(fault) = self.guest.start() {
                return self.faulted(fault);
            }
        }
        loop {
            if let Some(stop) = self.player().and_then(|player| player.stopped().cloned()) {
                return End::Stopped(stop);
            }
            let Some(next) = self.player().and_then(Player::peek) else {
                let stop = self.player().and_then(|player| player.stopped().cloned());
                return stop.map_or(End::Finished, End::Stopped);
            };
            if let Some(end) = self.step(next) {
                return end;
            }
        }
    }

    /// Does what the record has next; `Some` where that was the end.
    fn step(&mut self, next: Recorded) -> Option<End> {
        match next {
            Recorded::Instance => drop(self.player().and_then(Player::take)),
            Recorded::Frame { header, content } => {
                drop(self.player().and_then(Player::take));
                let Some(header) = FrameHeader::from_bytes(&header) else {
                    return Some(End::Stopped(Stop::Damaged(FlightError::Form { what: "a frame's header" })));
                };
                self.done += 1;
                self.frames += 1;
                self.limit_last();
                match self.guest.frame(&header, FrameBytes::Shared(content)) {
                    Ok(Outcome::Done(report)) => {
                        self.fuel = report.fuel;
                        return self.ran_out_of_time(report.fuel);
                    }
                    Ok(Outcome::Refused(_) | Outcome::Stopped) => {}
                    Err(fault) => return Some(self.faulted(fault)),
                }
            }
            Recorded::Begin { export: Export::Stop, .. } => {
                self.done += 1;
                self.limit_last();
                if let Err(fault) = self.guest.stop() {
                    return Some(self.faulted(fault));
                }
            }
            Recorded::State(recorded) => {
                drop(self.player().and_then(Player::take));
                let now = self.guest.digest();
                if now != Some(recorded) {
                    let did = format!("come to the state {:016x}", now.unwrap_or_default());
                    let recorded = format!("the state {recorded:016x}");
                    return Some(End::Stopped(Stop::Diverged { did, recorded }));
                }
            }
            other => {
                let did = "nothing more, and no fault".to_owned();
                return Some(End::Stopped(Stop::Diverged { did, recorded: other.to_string() }));
            }
        }
        None
    }

    /// Gives the last call no more fuel than it can have used.
    fn limit_last(&mut self) {
        if self.done == self.script.entries {
            self.guest.fuel = self.script.last_fuel(&self.limits);
        }
    }

    /// A call that came to its end after its deadline is a fault in the record and none here.
    fn ran_out_of_time(&self, fuel: u64) -> Option<End> {
        let last = self.done == self.script.entries;
        let recorded = self.script.fault.as_ref().filter(|fault| last && fault.code == FaultCode::Deadline)?;
        (recorded.fuel_used == fuel).then(|| End::Fault(recorded.clone()))
    }

    fn faulted(&mut self, fault: Fault) -> End {
        self.fuel = fault.fuel_used;
        let Some(player) = self.player() else { return End::Fault(fault) };
        let ended_by_host = player.failed_in_host();
        if let Some(stop) = player.stopped() {
            return End::Stopped(stop.clone());
        }
        if self.script.breaks_off && fault.code == FaultCode::Fuel {
            // It went on without a host call until somebody ended it.
            return End::Stopped(Stop::End);
        }
        let by_time = |recorded: &&Fault| {
            recorded.code == FaultCode::Deadline && (fault.code == FaultCode::Fuel || ended_by_host)
        };
        match self.script.fault.as_ref().filter(by_time) {
            Some(recorded) => {
                let (code, message, trap) = (recorded.code, recorded.message.clone(), recorded.trap.clone());
                End::Fault(Fault { code, message, trap, ..fault })
            }
            None => End::Fault(fault),
        }
    }

    fn player(&mut self) -> Option<&mut Player> {
        self.guest.body().tape().and_then(Tape::player)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
