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

use sanderling_protocol::worker::{Fault, FaultCode};
use wasmi::{Instance, Store};

use super::calls::{Calls, Failed, Place};
use crate::{
    call,
    exports::{COMMAND, Command, Exports},
    fault::{self, Ended},
    host::{Counters, CurrentFrame, HostState, lines, state::ModuleState},
    limits::Budget,
    module::Linked,
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
}

pub(crate) struct Fresh {
    linked: Linked,
    entry: Entry,
    /// The host's side, while there is no instance.
    state: Option<HostState>,
    /// Linear memory of the last instance at its end.
    memory_bytes: u64,
}

enum Entry {
    /// As a reactor, whose exports the first instance had.
    Isolated(Exports),
    Command,
}

impl Body {
    /// One that keeps its first instance.
    pub(crate) fn reactor(exports: Exports, store: Store<HostState>) -> Self {
        Self::Reactor(Box::new(Reactor { store, exports, place: None }))
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
        Self::Fresh(Box::new(Fresh { linked, entry, state: Some(state), memory_bytes }))
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

    pub(super) fn host_mut(&mut self) -> Option<&mut HostState> {
        match self {
            Self::Reactor(reactor) => Some(reactor.store.data_mut()),
            Self::Fresh(fresh) => fresh.state.as_mut(),
        }
    }

    fn host(&self) -> Option<&HostState> {
        match self {
            Self::Reactor(reactor) => Some(reactor.store.data()),
            Self::Fresh(fresh) => fresh.state.as_ref(),
        }
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
        let result = self.run(&mut store, budget);
        let mut state = store.into_data();
        lines::end_lines(&mut state);
        self.memory_bytes = state.own.limiter.memory_bytes();
        let frame = state.frame.take();
        state.renew();
        self.state = Some(state);
        (result, frame)
    }

    fn run(&self, store: &mut Store<HostState>, budget: &mut Budget) -> Result<(), Failed> {
        let instance = call::instantiate(store, &self.linked, budget).map_err(|ended| match ended {
            Ended::Stopped => Failed::Stopped,
            ended => Failed::Fault(fault::of_instantiation(&ended, &store.data().limits)),
        })?;
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
