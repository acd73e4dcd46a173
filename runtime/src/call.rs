//! A call into a guest, in slices.
//!
//! After each slice of fuel the clock and the stop request are looked at, so an endless loop ends within about a
//! millisecond of its deadline. Native work is charged as fuel by the host functions; when a slice cannot pay for it
//! the slice ends, and the rest is taken from the budget here. Nothing is allocated when a call finishes in its first slice.

use wasmi::{Error, Store, TypedFunc, TypedResumableCall, WasmParams, WasmResults};

use crate::{fault::Ended, host::HostState, limits::Budget};

/// Calls `func` within `budget`, whose `used` is brought up to date whatever the end.
pub(crate) fn run<P, R>(
    store: &mut Store<HostState>,
    func: TypedFunc<P, R>,
    params: P,
    budget: &mut Budget,
    stop: &dyn Fn() -> bool,
) -> Result<R, Ended>
where
    P: WasmParams,
    R: WasmResults,
{
    let mut granted = budget.slice.min(budget.left());
    store.set_fuel(granted).map_err(Ended::Error)?;
    let mut outcome = func.call_resumable(&mut *store, params);
    loop {
        settle(store, granted, budget);
        match outcome.map_err(Ended::Error)? {
            TypedResumableCall::Finished(result) => return finish(store, budget, result),
            TypedResumableCall::HostTrap(trapped) => return Err(Ended::Error(host_error(trapped.host_error()))),
            TypedResumableCall::OutOfFuel(paused) => {
                granted = next_slice(store, budget, paused.required_fuel(), stop)?;
                store.set_fuel(granted).map_err(Ended::Error)?;
                outcome = paused.resume(&mut *store);
            }
        }
    }
}

/// The error of a host function, which cannot be moved out of a typed call.
fn host_error(error: &Error) -> Error {
    error.i32_exit_status().map_or_else(|| Error::new(error.to_string()), Error::i32_exit)
}

/// Books what the slice used, native work included.
fn settle(store: &mut Store<HostState>, granted: u64, budget: &mut Budget) {
    let unused = store.get_fuel().unwrap_or(0);
    let owed = std::mem::take(&mut store.data_mut().owed);
    budget.used = budget.used.saturating_add(granted.saturating_sub(unused)).saturating_add(owed);
}

fn next_slice(
    store: &mut Store<HostState>,
    budget: &mut Budget,
    required: u64,
    stop: &dyn Fn() -> bool,
) -> Result<u64, Ended> {
    if stop() {
        return Err(Ended::Stopped);
    }
    let state = store.data_mut();
    budget.now_ns = state.clock.mono_ns();
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
fn finish<R>(store: &Store<HostState>, budget: &mut Budget, result: R) -> Result<R, Ended> {
    budget.now_ns = store.data().clock.mono_ns();
    if budget.used > budget.fuel {
        return Err(Ended::Fuel);
    }
    if budget.now_ns >= budget.deadline_ns {
        return Err(Ended::Deadline);
    }
    Ok(result)
}
