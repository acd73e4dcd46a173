//! What is called of one instance of a module that exports `sanderling_frame`.

use sanderling_protocol::{
    flight::Export,
    worker::{Fault, FaultCode},
};
use wasmi::{Store, TypedFunc, WasmParams, WasmResults};

use crate::{
    call,
    exports::{BUFFER, Exports, FRAME, START, check_abi},
    fault::{self, Ended},
    host::HostState,
    limits::Budget,
};

/// Why a guest did not do what it was asked to.
pub(super) enum Failed {
    /// The frame could not be given to it; the guest goes on.
    Refused(String),
    /// By a stop request.
    Stopped,
    /// It is over.
    Fault(Fault),
}

impl Failed {
    /// From the end of a call to `export`.
    pub(super) fn of(ended: &Ended, export: &str, state: &HostState) -> Self {
        match ended {
            Ended::Stopped => Self::Stopped,
            ended => Self::Fault(fault::of_call(ended, export, &state.limits, state.own.limiter.refused())),
        }
    }
}

/// Where a guest wants frames of this length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) len: usize,
    pub(super) ptr: usize,
}

/// One instance, while it is called within one budget.
pub(super) struct Calls<'a> {
    pub(super) store: &'a mut Store<HostState>,
    pub(super) exports: &'a Exports,
    pub(super) budget: &'a mut Budget,
}

impl Calls<'_> {
    /// `_initialize`, after it `sanderling_abi`, which was not asked without it, and `sanderling_start`, where exported.
    pub(super) fn start(&mut self) -> Result<(), Failed> {
        if let Some(initialize) = self.exports.initialize {
            self.call(initialize, (), Export::Initialize, 0)?;
        }
        if let Some(abi) = self.exports.abi_later {
            check_abi(self.call(abi, (), Export::Abi, 0)?).map_err(Failed::Fault)?;
        }
        let Some(start) = self.exports.start else { return Ok(()) };
        match self.call(start, (), Export::Start, 0)? {
            0 => Ok(()),
            code => Err(returned(FaultCode::Init, START, code)),
        }
    }

    /// Writes the frame at hand where the guest wants it, and calls `sanderling_frame`.
    pub(super) fn frame(&mut self, place: &mut Option<Place>) -> Result<(), Failed> {
        self.deliver(place)?;
        match self.call(self.exports.frame, (), Export::Frame, 0)? {
            0 => Ok(()),
            code => Err(returned(FaultCode::Guest, FRAME, code)),
        }
    }

    /// `sanderling_stop`, where exported.
    pub(super) fn stop(&mut self) -> Result<(), Failed> {
        self.exports.stop.map_or(Ok(()), |stop| self.call(stop, (), Export::Stop, 0))
    }

    /// Writes the frame where the guest wants frames of this length; it is asked when the length changes.
    fn deliver(&mut self, place: &mut Option<Place>) -> Result<(), Failed> {
        let Some(buffer) = self.exports.buffer else { return Ok(()) };
        let len = self.store.data().frame.as_ref().map_or(0, |frame| frame.bytes.len());
        let Place { ptr, .. } = match *place {
            Some(place) if place.len == len => place,
            _ => {
                *place = None;
                *place.insert(self.ask_for_place(buffer, len)?)
            }
        };
        let (memory, state) = self.exports.memory.data_and_store_mut(&mut *self.store);
        let to = ptr.checked_add(len).and_then(|end| memory.get_mut(ptr..end));
        match (to, &state.frame) {
            (Some(to), Some(frame)) if to.len() == frame.bytes.len() => to.copy_from_slice(&frame.bytes),
            _ => {
                *place = None;
                return Err(Failed::Refused(format!(
                    "{BUFFER}({len}) returned {ptr}, where the guest's memory has no {len} bytes"
                )));
            }
        }
        Ok(())
    }

    fn ask_for_place(&mut self, buffer: TypedFunc<i32, i32>, len: usize) -> Result<Place, Failed> {
        let asked = i32::try_from(len)
            .map_err(|_| Failed::Refused(format!("a frame of {len} bytes is larger than a guest can take")))?;
        let ptr = self.call(buffer, asked, Export::Buffer, asked.cast_unsigned())?.cast_unsigned() as usize;
        if ptr == 0 && len > 0 {
            return Err(Failed::Refused(format!(
                "the guest has no room for a frame of {len} bytes; raise memory_mib, or send smaller frames"
            )));
        }
        Ok(Place { len, ptr })
    }

    fn call<P: WasmParams, R: WasmResults>(
        &mut self,
        func: TypedFunc<P, R>,
        params: P,
        export: Export,
        argument: u32,
    ) -> Result<R, Failed> {
        if !self.store.data_mut().tape.begin(export, argument) {
            return Err(Failed::Stopped);
        }
        call::run(self.store, func, params, self.budget)
            .map_err(|ended| Failed::of(&ended, export.name(), self.store.data()))
    }
}

fn returned(code: FaultCode, export: &str, number: i32) -> Failed {
    let message = format!("{export} returned {number}; the guest's log or its documentation says what it means");
    Failed::Fault(Fault { export: Some(export.to_owned()), guest_code: Some(number), ..Fault::new(code, message) })
}
