//! `emit`, `log`, `config` and `now`.
//!
//! Records are held to grant, length and rate, in that order; lines to a rate and a length. What is dropped is counted;
//! dropped lines are mentioned in the log itself as soon as it takes lines again.

use sanderling_guest::IMPORTS;
use sanderling_protocol::worker::{MAX_LOG_LINE, MAX_RECORD};
use wasmi::{Caller, errors::LinkerError};

use super::{Errno, HostState, Linker, answer, at_most, charge_copy};
use crate::GuestMemory;

/// Lines a second that a guest may log; bursts of one second's worth pass.
pub(crate) const LOG_PER_S: u32 = 100;
/// A channel's name is at most this long, in bytes.
const MAX_CHANNEL: usize = 64;
const WARN: u8 = 1;
const TRACE: u8 = 4;

pub(super) fn register(linker: &mut Linker<'_>) -> Result<(), LinkerError> {
    linker.func_wrap(
        IMPORTS,
        "emit",
        |mut caller: Caller<'_, HostState>, channel: i32, channel_len: i32, ptr: i32, len: i32| -> i32 {
            charge_copy(&mut caller, at_most(len, MAX_RECORD));
            answer(emit(&mut caller, (channel, channel_len), (ptr, len)))
        },
    )?;
    linker.func_wrap(IMPORTS, "log", |mut caller: Caller<'_, HostState>, level: i32, ptr: i32, len: i32| -> i32 {
        charge_copy(&mut caller, at_most(len, MAX_LOG_LINE));
        answer(log(&mut caller, level, ptr, len))
    })?;
    linker.func_wrap(IMPORTS, "config", |mut caller: Caller<'_, HostState>, ptr: i32, cap: i32| -> i32 {
        let length = caller.data().config.len();
        charge_copy(&mut caller, at_most(cap, length));
        answer(config(&mut caller, ptr, cap))
    })?;
    linker.func_wrap(IMPORTS, "now", |mut caller: Caller<'_, HostState>, out: i32| -> i32 {
        answer(now(&mut caller, out))
    })?;
    Ok(())
}

fn emit(caller: &mut Caller<'_, HostState>, channel: (i32, i32), record: (i32, i32)) -> Result<i32, Errno> {
    let (memory, state) = GuestMemory::split(caller)?;
    let name = memory.read(channel.0, channel.1)?;
    let payload = memory.read(record.0, record.1)?;
    let channel = granted(state, name, true, "emit")?;
    queue(state, channel, payload)?;
    Ok(0)
}

/// The place of a channel among those that are granted, where the guest may use it and has the `other` grant that a function needs.
pub(super) fn granted(state: &mut HostState, name: &[u8], other: bool, function: &'static str) -> Result<usize, Errno> {
    if name.len() > MAX_CHANNEL {
        return Err(Errno::TOO_BIG);
    }
    let channel = state.grants.emit.iter().position(|granted| granted.as_bytes() == name);
    state.allow(other && channel.is_some(), function)?;
    channel.ok_or(Errno::ACCES)
}

/// Queues a record on a channel, by its place among those that are granted; held to length and rate.
pub(super) fn queue(state: &mut HostState, channel: usize, payload: &[u8]) -> Result<(), Errno> {
    if payload.len() > MAX_RECORD {
        return Err(Errno::TOO_BIG);
    }
    count_to_rate(state)?;
    say(state, channel, payload)
}

/// Counts a record to the rate.
pub(super) fn count_to_rate(state: &mut HostState) -> Result<(), Errno> {
    if state.emit_rate.take(state.clock.mono_ns()) {
        return Ok(());
    }
    state.counters.emit_refused += 1;
    Err(Errno::AGAIN)
}

/// Says a record that is held to all limits.
pub(super) fn say(state: &mut HostState, channel: usize, payload: &[u8]) -> Result<(), Errno> {
    let channel = state.grants.emit.get(channel).ok_or(Errno::ACCES)?;
    let seq = state.frame.as_ref().map_or(0, |frame| frame.header.seq);
    state.out.emit(seq, channel, payload);
    state.counters.emitted += 1;
    Ok(())
}

fn log(caller: &mut Caller<'_, HostState>, level: i32, ptr: i32, len: i32) -> Result<i32, Errno> {
    let (memory, state) = GuestMemory::split(caller)?;
    let line = memory.read(ptr, len)?;
    let level = u8::try_from(level).unwrap_or(TRACE).min(TRACE);
    if write_line(state, level, line) { Ok(0) } else { Err(Errno::AGAIN) }
}

/// Returns the whole length, and copies as much as there is room for.
fn config(caller: &mut Caller<'_, HostState>, ptr: i32, cap: i32) -> Result<i32, Errno> {
    let (mut memory, state) = GuestMemory::split(caller)?;
    memory.fill(ptr, cap, state.config.as_bytes())?;
    i32::try_from(state.config.len()).map_err(|_| Errno::TOO_BIG)
}

/// Writes wall-clock time (i64) and monotonic time (u64), in nanoseconds.
fn now(caller: &mut Caller<'_, HostState>, out: i32) -> Result<i32, Errno> {
    let (mut memory, state) = GuestMemory::split(caller)?;
    let times = [state.clock.wall_ns().to_le_bytes(), state.clock.mono_ns().to_le_bytes()];
    memory.write(out, times.as_flattened())?;
    Ok(0)
}

/// Writes one line to the log, cut to its limit; `false` above the rate.
pub(super) fn write_line(state: &mut HostState, level: u8, line: &[u8]) -> bool {
    if !state.log_rate.take(state.clock.mono_ns()) {
        state.counters.log_dropped += 1;
        state.lines_dropped += 1;
        return false;
    }
    let dropped = std::mem::take(&mut state.lines_dropped);
    if dropped > 0 {
        state
            .out
            .log(WARN, &format!("{dropped} lines of this guest were dropped: it logs more than {LOG_PER_S} a second"));
    }
    let cut = line.get(..MAX_LOG_LINE).unwrap_or(line);
    let text = String::from_utf8_lossy(cut);
    let end = text.floor_char_boundary(MAX_LOG_LINE);
    state.out.log(level, text.get(..end).unwrap_or_default());
    state.counters.logged += 1;
    true
}
