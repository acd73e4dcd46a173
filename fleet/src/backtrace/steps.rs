//! Does what the record has, entry by entry, until the guest ends or the record does.
//!
//! The record says what is called and with what; nothing is decided here but where frames are written that a guest wants in a place
//! of its own. What a call leads to is held to what the record has then.

use std::sync::Arc;

use sanderling_protocol::{
    flight::{Export, FRAME_HEADER},
    worker::{Fault, FaultCode},
};
use sanderling_runtime::{
    FrameHeader, Player, Recorded, Stop,
    image::{self, DecodeLimits},
    record::Start,
    replay::{End, ReplaySpec, Script},
};
use wasmtime::{Engine, Trap};

use super::{
    Backtrace, BacktraceError,
    frames::Place,
    machine::{Cause, Ended, Machine, Scene},
};

/// Runs a script to its end.
pub(super) fn run(
    engine: &Engine,
    module: &[u8],
    script: &Script<'_>,
    spec: &ReplaySpec<'_>,
) -> Result<Backtrace, BacktraceError> {
    let mut scene = Scene::new(Player::new(script.log, None), &spec.limits);
    scene.used = script.fault.as_ref().filter(|fault| is_by_fuel(fault)).map(|fault| fault.fuel_used);
    let start = if script.snapshot.is_some() { Start::Dropped } else { Start::Kept };
    let machine = Machine::new(engine, module, start, scene).map_err(BacktraceError::Engine)?;
    let mut steps = Steps { machine, script, spec, place: None, returned: None };
    if let Some(snapshot) = &script.snapshot {
        if let Err(ended) = steps.machine.instantiate() {
            return Ok(steps.ended(ended));
        }
        steps.machine.restore(snapshot)?;
        steps.place =
            snapshot.place.and_then(|(len, at)| Some((usize::try_from(len).ok()?, usize::try_from(at).ok()?)));
    }
    Ok(steps.all())
}

struct Steps<'a> {
    machine: Machine,
    script: &'a Script<'a>,
    spec: &'a ReplaySpec<'a>,
    /// For frames of which length the guest has named a place, and where.
    place: Option<(usize, usize)>,
    /// What was called last, and what it returned.
    returned: Option<(Export, Option<i32>)>,
}

impl Steps<'_> {
    fn all(mut self) -> Backtrace {
        loop {
            if let Some(stop) = self.machine.scene().stopped().cloned() {
                return backtrace(End::Stopped(stop));
            }
            let Some(next) = self.machine.scene().player.take() else {
                let stop = self.machine.scene().stopped().cloned();
                return backtrace(stop.map_or_else(|| self.over(), End::Stopped));
            };
            if let Some(end) = self.step(next) {
                return end;
            }
        }
    }

    /// Does what the record has next; `Some` where that was the end.
    fn step(&mut self, next: Recorded) -> Option<Backtrace> {
        match next {
            Recorded::Instance if !self.machine.is_live() => self.make_instance(),
            Recorded::Frame { header, content } => {
                self.take_frame(&header, content);
                None
            }
            Recorded::Begin { export, argument } => self.enter(export, argument),
            Recorded::End { memory, .. } if memory == self.machine.memory_bytes() => {
                self.returned = None;
                None
            }
            Recorded::End { .. } => {
                let did = format!("a return with {} bytes of memory", self.machine.memory_bytes());
                Some(diverged(did, &next))
            }
            Recorded::Fault(_) => Some(self.returned_into_a_fault(&next)),
            Recorded::State(recorded) => {
                let now = self.machine.digest().filter(|now| *now != recorded)?;
                Some(diverged(format!("come to the state {now:016x}"), &next))
            }
            Recorded::Instance | Recorded::Call { .. } | Recorded::Return => {
                Some(diverged("nothing more, and no fault".to_owned(), &next))
            }
        }
    }

    /// A new instance begins. Where it is one for a frame, that comes before.
    fn make_instance(&mut self) -> Option<Backtrace> {
        if let Some(Recorded::Frame { header, content }) = self.machine.scene().player.peek() {
            self.machine.scene().player.take();
            self.take_frame(&header, content);
        }
        self.machine.instantiate().err().map(|ended| self.ended(ended))
    }

    /// A frame is at hand from now on. One that cannot be decoded was not given to the guest: the record has no call for it.
    fn take_frame(&mut self, header: &[u8; FRAME_HEADER], content: Arc<[u8]>) {
        self.machine.refuel();
        self.returned = None;
        let seen = FrameHeader::from_bytes(header).and_then(|header| {
            let mut pixels = Vec::new();
            let (wanted, limits) = (image::wanted(&self.spec.inputs, &header), DecodeLimits::of(&self.spec.limits));
            let decoded = image::decode_frame(&header, &content, wanted, &limits, &mut pixels).ok()?;
            Some(if decoded.is_some() { pixels.into() } else { content })
        });
        self.machine.scene().frame = seen.unwrap_or_default();
    }

    /// Calls what was called.
    fn enter(&mut self, export: Export, argument: u32) -> Option<Backtrace> {
        match export {
            Export::Stop => self.machine.refuel(),
            Export::Frame if !self.deliver() => {
                let length = self.machine.scene().frame.len();
                let did = format!("name no place for a frame of {length} bytes");
                return Some(diverged(did, &Recorded::Begin { export, argument }));
            }
            _ => {}
        }
        let result = match self.machine.call(export, argument) {
            Ok(result) => result,
            // So do programs end that return no status from main.
            Err(_) if export == Export::Command && self.machine.scene().exit == Some(0) => None,
            Err(ended) => return Some(self.ended(ended)),
        };
        if let (Export::Buffer, Some(at)) = (export, result) {
            self.place = usize::try_from(at.cast_unsigned()).ok().map(|at| (self.machine.scene().frame.len(), at));
        }
        self.returned = Some((export, result));
        None
    }

    /// Writes the frame where the guest wants it, if it wants it somewhere.
    fn deliver(&mut self) -> bool {
        if !self.machine.has_buffer() {
            return true;
        }
        let length = self.machine.scene().frame.len();
        self.place.is_some_and(|(len, at)| len == length && self.machine.deliver(at))
    }

    /// The record has no more.
    fn over(&self) -> End {
        // What has returned has its end in the record, if the worker came to it.
        if self.returned.is_some() { End::Stopped(Stop::End) } else { End::Finished }
    }

    /// The record has a fault, and no function is being called: it is what the guest returned, or how long it took for it.
    fn returned_into_a_fault(&mut self, next: &Recorded) -> Backtrace {
        let script = self.script;
        let Some(fault) = &script.fault else { return diverged("no fault".to_owned(), next) };
        let returned = self.returned.and_then(|(_, result)| result);
        let same = if fault.guest_code.is_some() { fault.guest_code == returned } else { fault.trap.is_none() };
        if !same {
            let what = self.returned.map_or("no call", |(export, _)| export.name());
            return diverged(format!("a return from {what}"), next);
        }
        let same_state = self.same_state();
        Backtrace { same_state, ..backtrace(End::Fault(fault.clone())) }
    }

    /// A call did not return.
    fn ended(&mut self, ended: Ended) -> Backtrace {
        let Ended { cause, places } = ended;
        let scene = self.machine.scene();
        let stop = scene.stopped().cloned();
        let next = scene.player.peek();
        let script = self.script;
        let fault = script.fault.as_ref().filter(|_| matches!(next, Some(Recorded::Fault(_))));
        let (end, about) = match (stop, fault) {
            (Some(Stop::Diverged { .. }), Some(fault)) if has_no_place(fault) => (End::Fault(fault.clone()), true),
            (Some(stop), _) => {
                let about = stop == Stop::End;
                (End::Stopped(stop), about)
            }
            (None, Some(fault)) if cause == Cause::Host => (End::Fault(fault.clone()), false),
            (None, Some(fault)) if has_no_place(fault) => (End::Fault(fault.clone()), true),
            (None, Some(fault)) if is_trap(&cause, fault) => (End::Fault(fault.clone()), false),
            (None, _) if next.is_none() => (End::Stopped(Stop::End), true),
            (None, _) => (diverged(words(&cause), next.as_ref().unwrap_or(&Recorded::Return)).end, false),
        };
        let exact = matches!(end, End::Fault(_)) && !about;
        let same_state = if exact { self.same_state() } else { None };
        Backtrace { end, about, same_state, places }
    }

    fn same_state(&mut self) -> Option<bool> {
        Some(self.machine.digest()? == self.script.state?)
    }
}

fn backtrace(end: End) -> Backtrace {
    Backtrace { end, about: false, same_state: None, places: Vec::<Place>::new() }
}

fn diverged(did: String, recorded: &Recorded) -> Backtrace {
    backtrace(End::Stopped(Stop::Diverged { did, recorded: recorded.to_string() }))
}

/// Whether a fault came by fuel or time, so that the fuel used tells about where.
fn is_by_fuel(fault: &Fault) -> bool {
    matches!(fault.code, FaultCode::Fuel | FaultCode::Deadline)
}

/// Whether where a fault happens is a matter of the engine.
fn has_no_place(fault: &Fault) -> bool {
    // Of code `memory` is the end of the stack.
    fault.trap.is_none() && (is_by_fuel(fault) || fault.code == FaultCode::Memory)
}

fn is_trap(cause: &Cause, fault: &Fault) -> bool {
    matches!(cause, Cause::Trap(trap) if kind(*trap).is_some() && kind(*trap) == fault.trap.as_deref())
}

/// What faults call a trap.
fn kind(trap: Trap) -> Option<&'static str> {
    Some(match trap {
        Trap::UnreachableCodeReached => "unreachable",
        Trap::MemoryOutOfBounds => "memory_out_of_bounds",
        Trap::TableOutOfBounds => "table_out_of_bounds",
        Trap::IndirectCallToNull => "indirect_call_to_null",
        Trap::IntegerDivisionByZero => "integer_division_by_zero",
        Trap::IntegerOverflow => "integer_overflow",
        Trap::BadConversionToInteger => "bad_conversion_to_integer",
        Trap::BadSignature => "bad_signature",
        _ => return None,
    })
}

fn words(cause: &Cause) -> String {
    match cause {
        Cause::Host => "the end of the guest in a host call".to_owned(),
        Cause::Trap(Trap::Interrupt) => "nothing for a minute".to_owned(),
        Cause::Trap(trap) => format!("a trap ({trap})"),
        Cause::Refused(why) => format!("nothing ({why})"),
    }
}
