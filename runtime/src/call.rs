//! A call into a guest, in slices.
//!
//! After each slice of fuel the clock and the stop request are looked at, so an endless loop ends within about a
//! millisecond of its deadline; slices that take long make those after them smaller. Native work is charged as fuel by the host
//! functions; when a slice cannot pay for it the slice ends, and the rest is taken from the budget here. Nothing is allocated when a call
//! finishes in its first slice.

use wasmi::{Error, Instance, Store, TypedFunc, TypedResumableCall, WasmParams, WasmResults};

use crate::{
    fault::Ended,
    host::{HostState, wasi::poll::Roused},
    limits::Budget,
    module::{Linked, START_SECTION},
};

/// Calls `func` within `budget`, whose `used` is brought up to date whatever the end.
pub(crate) fn run<P, R>(
    store: &mut Store<HostState>,
    func: TypedFunc<P, R>,
    params: P,
    budget: &mut Budget,
) -> Result<R, Ended>
where
    P: WasmParams,
    R: WasmResults,
{
    let mut granted = budget.slice.min(budget.left());
    store.data_mut().own.deadline_ns = budget.deadline_ns;
    store.set_fuel(granted).map_err(Ended::Error)?;
    let mut outcome = func.call_resumable(&mut *store, params);
    loop {
        settle(store, granted, budget);
        match outcome.map_err(Ended::Error)? {
            TypedResumableCall::Finished(result) => return finish(store, budget, result),
            TypedResumableCall::HostTrap(trapped) => return Err(of_host(trapped.host_error())),
            TypedResumableCall::OutOfFuel(paused) => {
                granted = next_slice(store, budget, granted, paused.required_fuel())?;
                store.set_fuel(granted).map_err(Ended::Error)?;
                outcome = paused.resume(&mut *store);
            }
        }
    }
}

/// Instantiates a module within `budget`, and runs what was its start section.
pub(crate) fn instantiate(
    store: &mut Store<HostState>,
    linked: &Linked,
    budget: &mut Budget,
) -> Result<Instance, Ended> {
    store.set_fuel(budget.slice.min(budget.left())).map_err(Ended::Error)?;
    let instance = linked.instantiate(store).map_err(|error| {
        // Nothing of the module has run: its segments are written, where they fit.
        let segment = error.as_trap_code().map(|code| format!("a segment does not fit: {}", code.trap_message()));
        Ended::Error(segment.map_or(error, Error::new))
    })?;
    if let Some(start) = instance.get_func(&*store, START_SECTION) {
        let start = start.typed::<(), ()>(&*store).map_err(Ended::Error)?;
        run(store, start, (), budget)?;
    }
    Ok(instance)
}

/// The end that the error of a host function means, which cannot be moved out of a typed call.
fn of_host(error: &Error) -> Ended {
    match error.downcast_ref::<Roused>() {
        Some(Roused::Deadline) => Ended::Deadline,
        Some(Roused::Stopped) => Ended::Stopped,
        None => Ended::Error(error.i32_exit_status().map_or_else(|| Error::new(error.to_string()), Error::i32_exit)),
    }
}

/// Books what the slice used, native work included.
fn settle(store: &mut Store<HostState>, granted: u64, budget: &mut Budget) {
    let unused = store.get_fuel().unwrap_or(0);
    let owed = std::mem::take(&mut store.data_mut().own.owed);
    budget.used = budget.used.saturating_add(granted.saturating_sub(unused)).saturating_add(owed);
}

fn next_slice(store: &mut Store<HostState>, budget: &mut Budget, granted: u64, required: u64) -> Result<u64, Ended> {
    let state = store.data_mut();
    if (state.stop)() {
        return Err(Ended::Stopped);
    }
    budget.look(granted, state.clock.mono_ns());
    if budget.now_ns >= budget.deadline_ns {
        return Err(Ended::Deadline);
    }
    state.out.tick(budget.now_ns);
    let left = budget.left();
    if left < required.max(1) {
        return Err(Ended::Fuel);
    }
    Ok(budget.slice.max(required).min(left))
}

/// A call that comes to its end after its deadline, or with native work that it could not pay, has still overrun.
pub(crate) fn finish<R>(store: &Store<HostState>, budget: &mut Budget, result: R) -> Result<R, Ended> {
    budget.now_ns = store.data().clock.mono_ns();
    if budget.used > budget.fuel {
        return Err(Ended::Fuel);
    }
    if budget.now_ns >= budget.deadline_ns {
        return Err(Ended::Deadline);
    }
    Ok(result)
}
