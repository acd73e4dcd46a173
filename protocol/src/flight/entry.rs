//! The entries of the log.
//!
//! An entry is `kind: u8 | length: u32 | body`.

use super::{Cursor, FlightError};

/// The length of a frame's header; `guest-abi` has the same, and a test of the runtime holds them together.
pub const FRAME_HEADER: usize = 96;

/// The kinds of entries.
pub mod kind {
    /// `id: u16 | module's length: u16 | module | name`: a host function gets a number.
    pub const FUNCTION: u8 = 1;
    /// `header | content`: a frame, as it came.
    pub const FRAME: u8 = 2;
    /// `export: u8 | argument: u32`: a call into the guest begins.
    pub const BEGIN: u8 = 3;
    /// `fuel used: u64 | memory: u64`: what was begun last, a frame as a whole, has ended well.
    pub const END: u8 = 4;
    /// `function: u16 | arguments: u64 each`: the guest calls a host function.
    pub const CALL: u8 = 5;
    /// `fuel: u64 | kind of result: u8 | result: u64 | writes`: the host function has returned.
    pub const RETURN: u8 = 6;
    /// The fault, as JSON.
    pub const FAULT: u8 = 7;
    /// `digest: u64`: of memories and globals, after a fault or a frame.
    pub const STATE: u8 = 8;
    /// Nothing: a new instance begins.
    pub const INSTANCE: u8 = 9;
}

/// What of the guest is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Export {
    /// `sanderling_abi`.
    Abi = 1,
    /// `_initialize`.
    Initialize = 2,
    /// `sanderling_start`.
    Start = 3,
    /// `sanderling_buffer`.
    Buffer = 4,
    /// `sanderling_frame`.
    Frame = 5,
    /// `sanderling_stop`.
    Stop = 6,
    /// `_start`.
    Command = 7,
}

impl Export {
    const ALL: [Self; 7] =
        [Self::Abi, Self::Initialize, Self::Start, Self::Buffer, Self::Frame, Self::Stop, Self::Command];

    /// The export's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Abi => "sanderling_abi",
            Self::Initialize => "_initialize",
            Self::Start => "sanderling_start",
            Self::Buffer => "sanderling_buffer",
            Self::Frame => "sanderling_frame",
            Self::Stop => "sanderling_stop",
            Self::Command => "_start",
        }
    }
}

/// A call into the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// What is called.
    pub export: Export,
    /// With what, where it takes something.
    pub argument: u32,
}

/// What a host function gave back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing, because it has no result.
    Nothing,
    /// The bits of its result.
    Value(u64),
    /// The guest's end, with an exit status.
    Exit(i32),
    /// The guest's end, for another reason.
    Failed,
}

impl Answer {
    /// As it stands in an entry: the kind, and the bits.
    pub fn to_parts(&self) -> (u8, u64) {
        match self {
            Self::Nothing => (0, 0),
            Self::Value(bits) => (1, *bits),
            Self::Exit(status) => (2, u64::from(status.cast_unsigned())),
            Self::Failed => (3, 0),
        }
    }

    fn from_parts(kind: u8, bits: u64) -> Result<Self, FlightError> {
        let form = FlightError::Form { what: "a result" };
        Ok(match kind {
            0 => Self::Nothing,
            1 => Self::Value(bits),
            2 => Self::Exit(u32::try_from(bits).map_err(|_| form)?.cast_signed()),
            3 => Self::Failed,
            _ => return Err(form),
        })
    }
}

/// The end of a host call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Return<'a> {
    /// Fuel that it was charged.
    pub fuel: u64,
    /// What it gave back.
    pub answer: Answer,
    /// What it wrote into the guest's memory.
    pub writes: Writes<'a>,
}

/// The ranges that a host call wrote, as an iterator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writes<'a>(&'a [u8]);

/// One range that a host call wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write<'a> {
    /// Where, in the guest's memory.
    pub ptr: u32,
    /// How many bytes.
    pub len: u32,
    /// What.
    pub source: Source<'a>,
}

/// What a host call wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// The frame at hand, as the guest sees it, from this offset on.
    Frame(u32),
}

impl Source<'_> {
    /// How bytes are marked that follow in the log.
    pub const INLINE: u32 = u32::MAX;
}

impl<'a> Iterator for Writes<'a> {
    type Item = Result<Write<'a>, FlightError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let write = write(&mut self.0);
        if write.is_err() {
            self.0 = &[];
        }
        Some(write)
    }
}

fn write<'a>(rest: &mut &'a [u8]) -> Result<Write<'a>, FlightError> {
    let what = "what a host call wrote";
    let mut cursor = Cursor(rest);
    let (ptr, len, from) = (cursor.u32(what)?, cursor.u32(what)?, cursor.u32(what)?);
    let source = if from == Source::INLINE {
        Source::Bytes(cursor.bytes(usize::try_from(len).map_err(|_| FlightError::Short { what })?, what)?)
    } else {
        Source::Frame(from)
    };
    *rest = cursor.0;
    Ok(Write { ptr, len, source })
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry<'a> {
    /// A host function gets a number.
    Function {
        /// The number.
        id: u16,
        /// The module that it is imported from.
        module: &'a str,
        /// Its name.
        name: &'a str,
    },
    /// A new instance begins.
    Instance,
    /// A frame, as it came.
    Frame {
        /// Its header.
        header: &'a [u8; FRAME_HEADER],
        /// Its content.
        content: &'a [u8],
    },
    /// A call into the guest begins.
    Begin(Begun),
    /// What was begun has ended well.
    End {
        /// Fuel used since it began.
        fuel: u64,
        /// Linear memory, in bytes.
        memory: u64,
    },
    /// The guest calls a host function.
    Call {
        /// Its number.
        function: u16,
        /// The bits of its arguments.
        arguments: Arguments<'a>,
    },
    /// The host function has returned.
    Return(Return<'a>),
    /// The guest is over, for this reason: JSON.
    Fault(&'a [u8]),
    /// Digest of memories and globals, after the fault.
    State(u64),
}

/// The bits of arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arguments<'a>(&'a [[u8; 8]]);

impl Arguments<'_> {
    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().map(|bits| u64::from_le_bytes(*bits))
    }
}

impl<'a> Entry<'a> {
    /// Takes the first entry off a log; `None` at its end.
    ///
    /// # Errors
    /// [`FlightError`] where the log breaks off or an entry is not well formed.
    pub fn take(log: &mut &'a [u8]) -> Result<Option<Self>, FlightError> {
        if log.is_empty() {
            return Ok(None);
        }
        let mut cursor = Cursor(log);
        let kind = cursor.u8("an entry")?;
        let length = cursor.size("an entry")?;
        let body = cursor.bytes(length, "an entry")?;
        let entry = Self::read(kind, Cursor(body))?;
        *log = cursor.0;
        Ok(Some(entry))
    }

    fn read(kind: u8, mut body: Cursor<'a>) -> Result<Self, FlightError> {
        let entry = match kind {
            kind::FUNCTION => function(&mut body)?,
            kind::INSTANCE => Self::Instance,
            kind::FRAME => {
                let what = "a frame";
                let (header, content) = body.0.split_first_chunk().ok_or(FlightError::Short { what })?;
                return Ok(Self::Frame { header, content });
            }
            kind::BEGIN => {
                let number = body.u8("a call")?;
                let export = Export::ALL.into_iter().find(|export| *export as u8 == number);
                let export = export.ok_or(FlightError::Form { what: "a call" })?;
                Self::Begin(Begun { export, argument: body.u32("a call")? })
            }
            kind::END => Self::End { fuel: body.u64("an end")?, memory: body.u64("an end")? },
            kind::CALL => {
                let function = body.u16("a host call")?;
                let (arguments, rest) = body.0.as_chunks();
                body.0 = rest;
                Self::Call { function, arguments: Arguments(arguments) }
            }
            kind::RETURN => {
                let (fuel, result) = (body.u64("a result")?, body.u8("a result")?);
                let answer = Answer::from_parts(result, body.u64("a result")?)?;
                return Ok(Self::Return(Return { fuel, answer, writes: Writes(body.0) }));
            }
            kind::FAULT => return Ok(Self::Fault(body.0)),
            kind::STATE => Self::State(body.u64("a digest")?),
            kind => return Err(FlightError::Kind { kind }),
        };
        if body.0.is_empty() { Ok(entry) } else { Err(FlightError::Form { what: "an entry" }) }
    }
}

fn function<'a>(body: &mut Cursor<'a>) -> Result<Entry<'a>, FlightError> {
    let what = "a function's name";
    let id = body.u16(what)?;
    let length = body.u16(what)?;
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| FlightError::Form { what });
    let module = text(body.bytes(length.into(), what)?)?;
    let name = text(std::mem::take(&mut body.0))?;
    Ok(Entry::Function { id, module, name })
}
