//! The instances behind a guest: one for all frames, or one for each.
//!
//! Where each frame has an instance of its own, the module is compiled and linked once. The host's side of the guest moves into the store
//! of the new instance and, when the frame is done, out of it again; [`HostState::renew`] then takes from it what belonged to the
//! instance. What the guest had in its memory, globals and tables goes with the store.
//!
//! Such a frame has one budget for everything: instantiation, start functions, the frame itself. `sanderling_stop` is not called:
//! nothing is left that could be stopped.

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::BTreeMap;

use sanderling_guest::frame::FrameHeader;
use sanderling_protocol::{
    flight::{Export, Snapshot},
    worker::{Fault, FaultCode},
};
use wasmi::{Instance, Store};

use super::calls::{Calls, Failed, Place};
use crate::{
    Clock, call,
    exports::{COMMAND, Command, Exports},
    fault::{self, Ended},
    host::{Counters, CurrentFrame, HostState, lines, state::ModuleState},
    limits::Budget,
    module::Linked,
    record::{RestoreError, Tape, Watched},
};

/// What a guest consists of.
pub(crate) enum Body {
    /// One instance for all frames.
    Reactor(Box<Reactor>),
    /// An instance for each frame.
    Fresh(Box<Fresh>),
}

pub(crate) struct Reactor {
    store: Store<HostState>,
    exports: Exports,
    /// Where the guest wants frames of the length of the last one.
    place: Option<Place>,
    /// What of the instance a recorder sees.
    watched: Watched,
}

pub(crate) struct Fresh {
    linked: Linked,
    entry: Entry,
    /// The host's side, while there is no instance.
    state: Option<HostState>,
    /// Linear memory of the last instance at its end.
    memory_bytes: u64,
    /// A digest of the state in which a fault left an instance.
    digest: Option<u64>,
}

enum Entry {
    /// As a reactor, whose exports the first instance had.
    Isolated(Exports),
    Command,
}

impl Body {
    /// One that keeps its first instance.
    pub(crate) fn reactor(exports: Exports, mut store: Store<HostState>, watched: Watched) -> Self {
        if let Some(flight) = store.data_mut().tape.flight() {
            flight.whole = watched.whole;
        }
        Self::Reactor(Box::new(Reactor { store, exports, place: None, watched }))
    }

    /// One that calls the same exports in a fresh instance for each frame.
    pub(crate) fn isolated(linked: Linked, exports: Exports, first: Store<HostState>) -> Self {
        Self::fresh(linked, Entry::Isolated(exports), first)
    }

    /// One that is a WASI program, run once for each frame.
    pub(crate) fn command(linked: Linked, first: Store<HostState>) -> Self {
        Self::fresh(linked, Entry::Command, first)
    }

    fn fresh(linked: Linked, entry: Entry, first: Store<HostState>) -> Self {
        let mut state = first.into_data();
        let memory_bytes = state.own.limiter.memory_bytes();
        state.renew();
        Self::Fresh(Box::new(Fresh { linked, entry, state: Some(state), memory_bytes, digest: None }))
    }

    /// Linear memory, all memories together, in bytes; of the last instance where there is none now.
    pub(crate) fn memory_bytes(&self) -> u64 {
        match self {
            Self::Reactor(reactor) => reactor.store.data().own.limiter.memory_bytes(),
            Self::Fresh(fresh) => fresh.memory_bytes,
        }
    }

    pub(super) fn counters(&self) -> Counters {
        self.host().map_or_else(Counters::default, |state| state.counters)
    }

    pub(super) fn denied(&self) -> &BTreeMap<&'static str, u64> {
        static NONE: BTreeMap<&'static str, u64> = BTreeMap::new();
        self.host().map_or(&NONE, HostState::denied)
    }

    pub(super) fn state(&self) -> Option<&ModuleState> {
        self.host().map(|host| &host.state)
    }

    pub(super) fn state_mut(&mut self) -> Option<&mut ModuleState> {
        self.host_mut().map(|host| &mut host.state)
    }

    pub(super) fn host(&self) -> Option<&HostState> {
        match self {
            Self::Reactor(reactor) => Some(reactor.store.data()),
            Self::Fresh(fresh) => fresh.state.as_ref(),
        }
    }

    /// The host's side; none while an instance of its own handles a frame.
    pub(crate) fn host_mut(&mut self) -> Option<&mut HostState> {
        match self {
            Self::Reactor(reactor) => Some(reactor.store.data_mut()),
            Self::Fresh(fresh) => fresh.state.as_mut(),
        }
    }

    /// Who looks on.
    pub(crate) fn tape(&mut self) -> Option<&mut Tape> {
        self.host_mut().map(|state| &mut state.tape)
    }

    /// A digest of the state as it is, or as a fault left it; `None` where nobody looks on.
    pub(super) fn digest(&self) -> Option<u64> {
        match self {
            Self::Reactor(reactor) => {
                reactor.store.data().tape.watches().then(|| reactor.watched.digest(&reactor.store))
            }
            Self::Fresh(fresh) => fresh.digest,
        }
    }

    /// Tells a recorder of a frame that is about to be given, and takes a snapshot before where one is due.
    pub(super) fn record_frame(&mut self, header: &FrameHeader, content: &[u8], clock: &dyn Clock) {
        match self {
            Self::Reactor(reactor) => {
                if reactor.store.data_mut().tape.flight().is_some_and(|flight| flight.wants_snapshot(content.len())) {
                    reactor.take_snapshot(clock);
                }
            }
            Self::Fresh(fresh) => {
                if let Some(flight) = fresh.state.as_mut().and_then(|state| state.tape.flight()) {
                    flight.instance();
                }
            }
        }
        if let Some(flight) = self.tape().and_then(Tape::flight) {
            flight.frame(&header.to_bytes(), content);
        }
    }

    /// Takes a snapshot, whether one is due or not. What has an instance for each frame begins anew by itself.
    pub(super) fn record_anew(&mut self, clock: &dyn Clock) {
        if let Self::Reactor(reactor) = self {
            reactor.take_snapshot(clock);
        }
    }

    /// Puts a reactor into the state of a snapshot.
    ///
    /// # Errors
    /// Where the snapshot is not of this module.
    pub(crate) fn restore(&mut self, snapshot: &Snapshot<'_>) -> Result<(), RestoreError> {
        let Self::Reactor(reactor) = self else { return Ok(()) };
        reactor.watched.restore(&mut reactor.store, snapshot)?;
        reactor.place = snapshot
            .place
            .and_then(|(len, ptr)| Some(Place { len: usize::try_from(len).ok()?, ptr: usize::try_from(ptr).ok()? }));
        Ok(())
    }

    pub(super) fn start(&mut self, budget: &mut Budget) -> Result<(), Failed> {
        match self {
            Self::Reactor(reactor) => reactor.calls(budget).start(),
            Self::Fresh(_) => Ok(()),
        }
    }

    pub(super) fn stop(&mut self, budget: &mut Budget) -> Result<(), Failed> {
        match self {
            Self::Reactor(reactor) => {
                let result = reactor.calls(budget).stop();
                lines::end_lines(reactor.store.data_mut());
                result
            }
            Self::Fresh(_) => Ok(()),
        }
    }

    /// Gives a frame to the guest; the frame comes back.
    pub(super) fn frame(
        &mut self,
        frame: CurrentFrame,
        budget: &mut Budget,
    ) -> (Result<(), Failed>, Option<CurrentFrame>) {
        match self {
            Self::Reactor(reactor) => reactor.frame(frame, budget),
            Self::Fresh(fresh) => fresh.frame(frame, budget),
        }
    }
}

impl Reactor {
    fn take_snapshot(&mut self, clock: &dyn Clock) {
        let before = clock.mono_ns();
        // Out of the store, so that the store can be read while it is written to.
        let mut tape = std::mem::take(&mut self.store.data_mut().tape);
        if let Some(flight) = tape.flight().filter(|flight| flight.whole) {
            let place = self.place.map(|place| (place.len as u64, place.ptr as u64));
            flight.write_snapshot(|to| self.watched.write(&self.store, place, to));
            flight.paid(clock.mono_ns().saturating_sub(before));
        }
        self.store.data_mut().tape = tape;
    }

    fn calls<'a>(&'a mut self, budget: &'a mut Budget) -> Calls<'a> {
        Calls { store: &mut self.store, exports: &self.exports, budget }
    }

    fn frame(&mut self, frame: CurrentFrame, budget: &mut Budget) -> (Result<(), Failed>, Option<CurrentFrame>) {
        self.store.data_mut().frame = Some(frame);
        let result = Calls { store: &mut self.store, exports: &self.exports, budget }.frame(&mut self.place);
        if matches!(result, Err(Failed::Fault(_))) {
            lines::end_lines(self.store.data_mut());
        }
        (result, self.store.data_mut().frame.take())
    }
}

impl Fresh {
    fn frame(&mut self, frame: CurrentFrame, budget: &mut Budget) -> (Result<(), Failed>, Option<CurrentFrame>) {
        let Some(mut state) = self.state.take() else {
            let message = "the host's side of the guest was lost in an earlier frame";
            return (Err(Failed::Fault(Fault::new(FaultCode::Crash, message))), Some(frame));
        };
        state.frame = Some(frame);
        let mut store = self.linked.store(state);
        let mut instance = None;
        let result = self.run(&mut store, budget, &mut instance);
        self.digest = None;
        if let (Err(Failed::Fault(_)), Some(instance), Some(exposed)) = (&result, instance, self.linked.exposed()) {
            self.digest = Some(Watched::find(&store, instance, exposed).digest(&store));
        }
        let mut state = store.into_data();
        lines::end_lines(&mut state);
        self.memory_bytes = state.own.limiter.memory_bytes();
        let frame = state.frame.take();
        state.renew();
        self.state = Some(state);
        (result, frame)
    }

    fn run(
        &self,
        store: &mut Store<HostState>,
        budget: &mut Budget,
        made: &mut Option<Instance>,
    ) -> Result<(), Failed> {
        let instance = call::instantiate(store, &self.linked, budget).map_err(|ended| match ended {
            Ended::Stopped => Failed::Stopped,
            ended => Failed::Fault(fault::of_instantiation(&ended, &store.data().limits)),
        })?;
        *made = Some(instance);
        match &self.entry {
            Entry::Isolated(exports) => {
                let exports = &exports.again(store, instance).map_err(Failed::Fault)?;
                store.data_mut().own.memory = Some(exports.memory);
                let mut calls = Calls { store, exports, budget };
                calls.start()?;
                calls.frame(&mut None)
            }
            Entry::Command => command(store, instance, budget),
        }
    }
}

fn command(store: &mut Store<HostState>, instance: Instance, budget: &mut Budget) -> Result<(), Failed> {
    let Command { memory, start } = Command::find(store, instance).map_err(Failed::Fault)?;
    store.data_mut().own.memory = Some(memory);
    if !store.data_mut().tape.begin(Export::Command, 0) {
        return Err(Failed::Stopped);
    }
    let ended = match call::run(store, start, (), budget) {
        Ok(()) => return Ok(()),
        Err(Ended::Error(error)) => match error.i32_exit_status() {
            // So do programs end that return no status from main, and all in Go and Zig.
            Some(0) => match call::finish(store, budget, ()) {
                Ok(()) => return Ok(()),
                Err(ended) => ended,
            },
            Some(status) => return Err(Failed::Fault(fault::of_exit(status))),
            None => Ended::Error(error),
        },
        Err(ended) => ended,
    };
    Err(Failed::of(&ended, COMMAND, store.data()))
}
