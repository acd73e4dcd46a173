//! A linker that looks on: every call of a host function that is linked through it is counted and charged, and what it is asked and
//! what it answers goes onto the guest's tape, or comes from it.
//!
//! Functions are linked as with wasmi's own linker; none has to know that somebody looks on. Arguments and results are those of the
//! signature; what a function writes into the guest's memory is noted by [`GuestMemory`](crate::GuestMemory).

use sanderling_protocol::flight::Answer;
use wasmi::{AsContextMut, Caller, Error, Extern, FuncType, Val, WasmRet, WasmTy, errors::LinkerError};

use super::{FUEL_PER_HOST_CALL, HostState, charge};
use crate::record::{Called, Tape};

/// The most arguments of a host function.
const MAX_ARGUMENTS: usize = 10;

/// Links host functions so that their calls are seen.
pub struct Linker<'l> {
    inner: &'l mut wasmi::Linker<HostState>,
    /// The number of the next function.
    next: u16,
}

impl<'l> Linker<'l> {
    /// Links into `inner`.
    pub fn new(inner: &'l mut wasmi::Linker<HostState>) -> Self {
        Self { inner, next: 0 }
    }

    /// Links a function with Rust's types for its arguments and result.
    ///
    /// # Errors
    /// Where the name is linked twice.
    pub fn func_wrap<Arguments>(
        &mut self,
        module: &'static str,
        name: &'static str,
        function: impl HostFunction<Arguments>,
    ) -> Result<&mut Self, LinkerError> {
        let called = self.called(module, name);
        function.link(self.inner, called)?;
        Ok(self)
    }

    fn called(&mut self, module: &'static str, name: &'static str) -> Called {
        let id = self.next;
        self.next = self.next.saturating_add(1);
        Called { module, name, id }
    }

    /// Links a function whose signature is made at run time; it has one result, an `i32`.
    ///
    /// # Errors
    /// Where the name is linked twice.
    pub fn func_new(
        &mut self,
        module: &'static str,
        name: &'static str,
        signature: FuncType,
        function: impl Fn(Caller<'_, HostState>, &[Val], &mut [Val]) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Result<&mut Self, LinkerError> {
        let called = self.called(module, name);
        self.inner.func_new(module, name, signature, move |mut caller, arguments, results| {
            let mut bits = [0; MAX_ARGUMENTS];
            for (to, from) in bits.iter_mut().zip(arguments) {
                *to = bits_of(from);
            }
            let given = bits.get(..arguments.len()).unwrap_or(&bits);
            let value = around(&mut caller, called, given, |caller| {
                let mut own = [Val::I32(0)];
                function(caller, arguments, &mut own)?;
                let [result] = own;
                Ok(result.i32().unwrap_or_default())
            })?;
            if let Some(result) = results.first_mut() {
                *result = Val::I32(value);
            }
            Ok(())
        })?;
        Ok(self)
    }
}

fn bits_of(value: &Val) -> u64 {
    match value {
        Val::I32(value) => value.bits(),
        Val::I64(value) => value.bits(),
        Val::F32(value) => u64::from(value.to_bits()),
        Val::F64(value) => value.to_bits(),
        _ => 0,
    }
}

/// What can be linked: a closure of a caller and plain numbers.
pub trait HostFunction<Arguments>: Send + Sync + 'static {
    /// Links it.
    ///
    /// # Errors
    /// Where the name is linked twice.
    fn link(self, linker: &mut wasmi::Linker<HostState>, called: Called) -> Result<(), LinkerError>;
}

macro_rules! host_functions {
    ($($argument:ident)*) => {
        impl<F, R, $($argument,)*> HostFunction<(R, $($argument,)*)> for F
        where
            F: Fn(Caller<'_, HostState>, $($argument),*) -> R + Send + Sync + 'static,
            R: HostResult,
            Result<R::Value, Error>: WasmRet,
            R::Value: HostValue,
            $($argument: HostArgument + WasmTy,)*
        {
            #[allow(non_snake_case)]
            fn link(self, linker: &mut wasmi::Linker<HostState>, called: Called) -> Result<(), LinkerError> {
                let seen = move |mut caller: Caller<'_, HostState>, $($argument: $argument),*| {
                    let bits = [$($argument.bits()),*];
                    around(&mut caller, called, &bits, |caller| self(caller, $($argument),*).outcome())
                };
                linker.func_wrap(called.module, called.name, seen).map(|_| ())
            }
        }
    };
}
host_functions!();
host_functions!(A);
host_functions!(A B);
host_functions!(A B C);
host_functions!(A B C D);
host_functions!(A B C D E);
host_functions!(A B C D E G);
host_functions!(A B C D E G H);
host_functions!(A B C D E G H I);
host_functions!(A B C D E G H I J);
host_functions!(A B C D E G H I J K);

/// What a host function gives back: a value, or the end of the guest.
pub trait HostResult {
    /// What the guest gets.
    type Value;

    /// The value, or why the guest cannot go on.
    ///
    /// # Errors
    /// Where the guest is to end.
    fn outcome(self) -> Result<Self::Value, Error>;
}

impl HostResult for () {
    type Value = ();

    fn outcome(self) -> Result<(), Error> {
        Ok(())
    }
}

impl HostResult for i32 {
    type Value = i32;

    fn outcome(self) -> Result<i32, Error> {
        Ok(self)
    }
}

impl<V> HostResult for Result<V, Error> {
    type Value = V;

    fn outcome(self) -> Self {
        self
    }
}

/// A number that a guest passes.
pub trait HostArgument: Copy {
    /// Its bits, as they are recorded.
    fn bits(self) -> u64;
}

impl HostArgument for i32 {
    fn bits(self) -> u64 {
        u64::from(self.cast_unsigned())
    }
}

impl HostArgument for i64 {
    fn bits(self) -> u64 {
        self.cast_unsigned()
    }
}

impl HostArgument for f32 {
    fn bits(self) -> u64 {
        u64::from(self.to_bits())
    }
}

impl HostArgument for f64 {
    fn bits(self) -> u64 {
        self.to_bits()
    }
}

/// What a guest gets from a host function: as it is recorded, and made again from the record.
pub trait HostValue: Sized {
    /// As it is recorded.
    fn answer(&self) -> Answer;
    /// As it was; `None` where the record has another kind of value.
    fn again(answer: &Answer) -> Option<Self>;
}

impl HostValue for () {
    fn answer(&self) -> Answer {
        Answer::Nothing
    }

    fn again(answer: &Answer) -> Option<Self> {
        matches!(answer, Answer::Nothing).then_some(())
    }
}

impl HostValue for i32 {
    fn answer(&self) -> Answer {
        Answer::Value(self.bits())
    }

    fn again(answer: &Answer) -> Option<Self> {
        let Answer::Value(bits) = answer else { return None };
        u32::try_from(*bits).ok().map(u32::cast_signed)
    }
}

/// Charges a call of a host function, calls it, and looks on before and after; or answers in its place.
fn around<V: HostValue>(
    caller: &mut Caller<'_, HostState>,
    called: Called,
    arguments: &[u64],
    function: impl FnOnce(Caller<'_, HostState>) -> Result<V, Error>,
) -> Result<V, Error> {
    let state = caller.data_mut();
    state.calls += 1;
    if state.own.memory.is_none() {
        // A start section runs; the handle is kept here, since a caller that is made below does not know its instance.
        let memory = caller.get_export("memory").and_then(Extern::into_memory);
        caller.data_mut().own.memory = memory;
    }
    charge(caller, FUEL_PER_HOST_CALL);
    match &mut caller.data_mut().tape {
        Tape::Off => function(Caller::from(caller)),
        Tape::Record(flight) => {
            flight.call(called, arguments);
            let before = spent(caller);
            let result = function(Caller::from(&mut *caller));
            let fuel = spent(caller).wrapping_sub(before);
            record(caller, fuel, &result);
            result
        }
        Tape::Replay(_) => replay(caller, called, arguments),
    }
}

/// A measure of fuel that grows with what is charged: what is owed, less what is left.
fn spent(caller: &Caller<'_, HostState>) -> u64 {
    let left = caller.get_fuel().unwrap_or(0);
    // Only differences are looked at.
    caller.data().own.owed.wrapping_sub(left)
}

fn record<V: HostValue>(caller: &mut Caller<'_, HostState>, fuel: u64, result: &Result<V, Error>) {
    let answer = match result {
        Ok(value) => value.answer(),
        Err(error) => error.i32_exit_status().map_or(Answer::Failed, Answer::Exit),
    };
    with_memory(caller, |memory, state| {
        if let Some(flight) = state.tape.flight() {
            flight.returned(fuel, &answer, memory);
        }
    });
}

fn replay<V: HostValue>(caller: &mut Caller<'_, HostState>, called: Called, arguments: &[u64]) -> Result<V, Error> {
    let played = with_memory(caller, |memory, state| {
        let frame = state.frame.as_ref().map_or(&[][..], |frame| &frame.bytes);
        match &mut state.tape {
            Tape::Replay(player) => player.call((called.module, called.name), arguments, memory, frame),
            Tape::Off | Tape::Record(_) => None,
        }
    });
    let over = || Error::new("the replay is over");
    let played = played.ok_or_else(over)?;
    charge(caller, played.fuel);
    match played.answer {
        Answer::Exit(status) => Err(Error::i32_exit(status)),
        Answer::Failed => Err(Error::new("the host function failed")),
        answer => V::again(&answer).ok_or_else(over),
    }
}

/// Gives the guest's memory, empty where it has none, and the host's state.
fn with_memory<R>(caller: &mut Caller<'_, HostState>, work: impl FnOnce(&mut [u8], &mut HostState) -> R) -> R {
    match caller.data().own.memory {
        Some(memory) => {
            let (bytes, state) = memory.data_and_store_mut(caller.as_context_mut());
            work(bytes, state)
        }
        None => work(&mut [], caller.data_mut()),
    }
}
