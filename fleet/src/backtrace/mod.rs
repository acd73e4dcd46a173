//! `sanderling replay --backtrace`: runs a record once more, in wasmtime, which tells where in the guest it ended.
//!
//! wasmi runs guests, here and on the gateway, and tells no backtraces. So the module is compiled for this machine, put into the state
//! that the record begins with, and called as it was called; each host call is answered from the record, and its arguments are held to
//! it, so that the execution is the recorded one or says where it is another. The module is the one that was run: what debug
//! information it lacks may come from a [`companion`].
//!
//! Failure modes: a [`BacktraceError`] where the execution cannot even be begun; all else is an [`End`] of it.
//!
//! Limits: a fault by fuel, time or depth of calls has no place of its own in another engine. The guest is ended by the fuel that it had
//! used, by time, or at the first host call that the record does not have, and that place is told as about the one.

mod companion;
mod frames;
mod machine;
mod steps;
mod tell;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;

use std::{borrow::Cow, io, sync::mpsc, thread, time::Duration};

use sanderling_runtime::replay::{End, ReplayError, ReplaySpec, Script};
use thiserror::Error;
use wasmtime::Engine;

use companion::CompanionError;
use frames::Place;
use machine::STACK;
pub(crate) use tell::BacktraceOptions;

/// How long an epoch of the engine is.
const TICK: Duration = Duration::from_millis(100);
/// Stack of the thread that the guest runs on, besides the guest's own: for the compiler and for host calls.
const HOST_STACK: usize = 8 << 20;

/// Why no backtrace can be made.
#[derive(Debug, Error)]
enum BacktraceError {
    /// The record is not one that can be run again.
    #[error(transparent)]
    Record(#[from] ReplayError),
    /// The file that is to have the module's debug information is of no use.
    #[error(transparent)]
    Companion(#[from] CompanionError),
    /// wasmtime does not take the module.
    #[error("wasmtime cannot run the module: {0:#}")]
    Engine(wasmtime::Error),
    /// wasmtime panicked, which its compiler does on modules that nobody thought of.
    #[error("wasmtime broke on the module, with the words above; report it, and try a build with other optimisations")]
    Broken,
    /// There is no thread to run it on.
    #[error("there is no memory for another thread: {0}")]
    Thread(io::Error),
}

/// Where an execution ended.
#[derive(Clone, Debug, PartialEq)]
struct Backtrace {
    /// How it ended in wasmtime.
    end: End,
    /// Whether the place is only about the one that the record ends at.
    about: bool,
    /// Whether memories and globals are those of the record; `None` where that is not known.
    same_state: Option<bool>,
    /// The functions that were being called, innermost first.
    places: Vec<Place>,
}

/// Runs a record again; `companion` is a build of the module that has its debug information.
fn backtrace(record: &[u8], spec: &ReplaySpec<'_>, companion: Option<&[u8]>) -> Result<Backtrace, BacktraceError> {
    let script = Script::read(record)?;
    let module = companion.map_or(Ok(Cow::Borrowed(spec.module)), |companion| {
        companion::with_debug_info(spec.module, companion).map(Cow::Owned)
    })?;
    let engine = machine::engine().map_err(BacktraceError::Engine)?;
    let (running, over) = mpsc::channel();
    thread::scope(|scope| {
        let ticked = engine.clone();
        scope.spawn(move || tick(&ticked, &over));
        // A stack of its own size, since guests may call deeper than threads are made for.
        let guest = thread::Builder::new().stack_size(STACK + HOST_STACK);
        let guest = guest.spawn_scoped(scope, || steps::run(&engine, &module, &script, spec));
        let ended = match guest {
            Ok(guest) => guest.join().unwrap_or(Err(BacktraceError::Broken)),
            Err(error) => Err(BacktraceError::Thread(error)),
        };
        drop(running);
        ended
    })
}

/// Moves the engine's epoch on until what runs in it is over.
fn tick(engine: &Engine, over: &mpsc::Receiver<()>) {
    while over.recv_timeout(TICK) == Err(mpsc::RecvTimeoutError::Timeout) {
        engine.increment_epoch();
    }
}
