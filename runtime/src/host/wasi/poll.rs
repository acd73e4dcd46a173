//! `poll_oneoff`: sleeping, and waiting for descriptors that never make anybody wait.
//!
//! A sleep is cut into pauses, after each of which the clock, the deadline and the stop request are looked at; where the guest would
//! sleep beyond its deadline it sleeps until then and is over, with the fault that an endless loop has. The time asleep costs no fuel.

use std::fmt;

use wasmi::{Error, errors::HostError};

use super::{
    Host, MONOTONIC, REALTIME, code,
    descriptors::{Node, content, node},
    wasi_errno::{BADF, INVAL, SUCCESS},
};
use crate::{
    GuestMemory,
    host::{Errno, HostState, charge_copy},
};

/// A guest waits for at most this many things at once.
const MAX_SUBSCRIPTIONS: i32 = 256;
/// The longest pause between two looks.
const PAUSE_NS: u64 = 2_000_000;
const SUBSCRIPTION: i32 = 48;
const EVENT: i32 = 32;
/// The flag of a clock subscription whose time is a moment, not a span.
const ABSOLUTE: u16 = 1;

/// Why a guest that slept is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Roused {
    /// It would have slept beyond its deadline.
    Deadline,
    /// By a stop request.
    Stopped,
}

impl fmt::Display for Roused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deadline => "the guest slept until its deadline",
            Self::Stopped => "the guest was asleep when a stop request came",
        })
    }
}

impl HostError for Roused {}

/// What a guest waits for.
#[derive(Clone, Copy, Debug)]
struct Subscription {
    userdata: [u8; 8],
    kind: u8,
    wait: Wait,
}

#[derive(Clone, Copy, Debug)]
enum Wait {
    /// Something has happened already: an errno, and how many bytes there are.
    Over(i32, u64),
    /// Until a moment of monotonic time.
    Until(u64),
}

pub(super) fn poll_oneoff(
    caller: &mut Host<'_>,
    subscriptions: i32,
    events: i32,
    count: i32,
    out: i32,
) -> Result<i32, Error> {
    if !(1..=MAX_SUBSCRIPTIONS).contains(&count) {
        return Ok(INVAL);
    }
    charge_copy(caller, (count * SUBSCRIPTION).unsigned_abs() as usize);
    let waits = match GuestMemory::split(caller) {
        Ok((mut memory, state)) => match read(&mut memory, state, (subscriptions, events, out), count) {
            Ok(waits) => waits,
            Err(errno) => return Ok(code(Err(errno))),
        },
        Err(errno) => return Ok(code(Err(errno))),
    };
    sleep(caller.data_mut(), earliest(&waits)).map_err(Error::host)?;
    let now = caller.data().clock.mono_ns();
    Ok(code(GuestMemory::split(caller).and_then(|(mut memory, _)| answer(&mut memory, &waits, now, events, out))))
}

/// Reads all subscriptions, and makes sure that all events can be written.
fn read(
    memory: &mut GuestMemory<'_>,
    state: &HostState,
    (subscriptions, events, out): (i32, i32, i32),
    count: i32,
) -> Result<Vec<Subscription>, Errno> {
    memory.read_array::<4>(out)?;
    memory.read(events, count * EVENT)?;
    let now = state.clock.mono_ns();
    (0..count)
        .map(|index| memory.read_array(subscriptions.wrapping_add(index * SUBSCRIPTION)))
        .map(|record| record.map(|record| subscription(state, now, record)))
        .collect()
}

/// The layout is that of WASI's `subscription`: userdata, kind, and then by kind a clock or a descriptor.
fn subscription(state: &HostState, now: u64, record: &[u8; SUBSCRIPTION as usize]) -> Subscription {
    let [a, b, c, d, e, f, g, h, kind, _, _, _, _, _, _, _, i0, i1, i2, i3, _, _, _, _, time @ ..] = *record;
    let [t0, t1, t2, t3, t4, t5, t6, t7, _, _, _, _, _, _, _, _, f0, f1, ..] = time;
    let id = i32::from_le_bytes([i0, i1, i2, i3]);
    let timeout = u64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]);
    let wait = match kind {
        0 => clock(state, now, id, timeout, u16::from_le_bytes([f0, f1])),
        1 => match node(state, id) {
            Some(Node::Input(position) | Node::File(position)) => {
                Wait::Over(SUCCESS, content(state).len().saturating_sub(position) as u64)
            }
            _ => Wait::Over(BADF, 0),
        },
        2 if matches!(node(state, id), Some(Node::Output(_))) => Wait::Over(SUCCESS, 0),
        2 => Wait::Over(BADF, 0),
        _ => Wait::Over(INVAL, 0),
    };
    Subscription { userdata: [a, b, c, d, e, f, g, h], kind, wait }
}

fn clock(state: &HostState, now: u64, id: i32, timeout: u64, flags: u16) -> Wait {
    let absolute = flags & ABSOLUTE != 0;
    match id {
        MONOTONIC if absolute => Wait::Until(timeout),
        // A wall clock that is set meanwhile does not change how long is slept.
        REALTIME if absolute => {
            let wall = u64::try_from(state.clock.wall_ns()).unwrap_or(0);
            Wait::Until(now.saturating_add(timeout.saturating_sub(wall)))
        }
        MONOTONIC | REALTIME => Wait::Until(now.saturating_add(timeout)),
        _ => Wait::Over(INVAL, 0),
    }
}

/// The moment to sleep until; 0 where something has happened already.
fn earliest(waits: &[Subscription]) -> u64 {
    let moments = waits.iter().map(|subscription| match subscription.wait {
        Wait::Over(..) => 0,
        Wait::Until(moment) => moment,
    });
    moments.min().unwrap_or(0)
}

fn sleep(state: &mut HostState, until: u64) -> Result<(), Roused> {
    loop {
        let now = state.clock.mono_ns();
        if now >= until {
            return Ok(());
        }
        if (state.stop)() {
            return Err(Roused::Stopped);
        }
        let deadline = state.own.deadline_ns;
        if now >= deadline {
            return Err(Roused::Deadline);
        }
        state.out.tick(now);
        state.clock.pause((until - now).min(deadline - now).min(PAUSE_NS));
    }
}

/// Writes an event for each subscription that is over.
fn answer(memory: &mut GuestMemory<'_>, waits: &[Subscription], now: u64, events: i32, out: i32) -> Result<(), Errno> {
    let mut count = 0_i32;
    for subscription in waits {
        let (errno, bytes) = match subscription.wait {
            Wait::Over(errno, bytes) => (errno, bytes),
            Wait::Until(moment) if moment <= now => (SUCCESS, 0),
            Wait::Until(_) => continue,
        };
        memory.write(events.wrapping_add(count * EVENT), &event(subscription, errno, bytes))?;
        count += 1;
    }
    memory.write(out, &count.to_le_bytes())
}

/// The layout is that of WASI's `event`.
fn event(subscription: &Subscription, errno: i32, bytes: u64) -> [u8; EVENT as usize] {
    let mut record = [0; EVENT as usize];
    let [low, high, ..] = errno.to_le_bytes();
    let fields = subscription.userdata.into_iter().chain([low, high, subscription.kind, 0, 0, 0, 0, 0]);
    for (to, from) in record.iter_mut().zip(fields.chain(bytes.to_le_bytes())) {
        *to = from;
    }
    record
}
