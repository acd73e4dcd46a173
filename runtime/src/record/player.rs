//! Answers a guest's host calls from what a flight recorder kept.
//!
//! Invariants: an answer is given only to the call that the record has at this place, with the same arguments; the first difference
//! ends the replay and is told. What the record says is bounded by the guest's memory like any pointer.
//!
//! Failure modes: each is a [`Stop`].

use std::{collections::BTreeMap, fmt, sync::Arc};

use sanderling_protocol::flight::{Answer, Entry, Export, FRAME_HEADER, FlightError, Return, Source};

/// Why a replay ended before the record's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The record has no more: the process was ended here.
    End,
    /// The record has the call, and not its return: the process was ended while the host was at work.
    Unanswered {
        /// The call.
        call: String,
    },
    /// The guest did something else than it did when it was recorded.
    Diverged {
        /// What the guest did.
        did: String,
        /// What it had done.
        recorded: String,
    },
    /// The record cannot be read.
    Damaged(FlightError),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => f.write_str("the record ends here: the worker was ended from outside, or aborted"),
            Self::Unanswered { call } => {
                write!(f, "the record ends in {call}: the worker was ended, or aborted, while the host was at work")
            }
            Self::Diverged { did, recorded } => {
                write!(f, "this is another execution: the guest did {did}, where the record has {recorded}")
            }
            Self::Damaged(error) => write!(f, "the record cannot be read: {error}"),
        }
    }
}

/// A host call as it is played, for whoever looks on.
#[derive(Debug)]
pub struct Observed<'a> {
    /// The module that the function is imported from.
    pub module: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The bits of its arguments.
    pub arguments: &'a [u64],
    /// What it gives back.
    pub answer: &'a Answer,
    /// Fuel that it is charged.
    pub fuel: u64,
    /// Bytes that it wrote.
    pub written: u64,
    /// The guest's memory after it.
    pub memory: &'a [u8],
}

/// Sees each host call as it is played.
pub type Observer = Box<dyn FnMut(&Observed<'_>) + Send>;

/// Plays a log.
pub struct Player {
    log: Arc<[u8]>,
    at: usize,
    functions: BTreeMap<u16, (String, String)>,
    observer: Option<Observer>,
    stop: Option<Stop>,
    calls: u64,
    begun: bool,
    failed: bool,
}

/// What a host call comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Played {
    /// What it gives back.
    pub answer: Answer,
    /// Fuel to be charged.
    pub fuel: u64,
}

impl Player {
    /// Plays `log`. `observer` sees each host call.
    pub fn new(log: &[u8], observer: Option<Observer>) -> Self {
        Self {
            log: log.into(),
            at: 0,
            functions: BTreeMap::new(),
            observer,
            stop: None,
            calls: 0,
            begun: false,
            failed: false,
        }
    }

    /// Why it ended, where it has.
    pub fn stopped(&self) -> Option<&Stop> {
        self.stop.as_ref()
    }

    /// Whether the last host call ended the guest, without an exit status.
    pub(crate) fn failed_in_host(&self) -> bool {
        self.failed
    }

    /// Host calls that were played.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// Ends the replay; the first reason stays.
    fn stop(&mut self, stop: Stop) {
        self.stop.get_or_insert(stop);
    }

    fn differs(&mut self, did: String, recorded: Option<&Recorded>) {
        match recorded {
            None => self.stop(Stop::End),
            Some(recorded) => self.stop(Stop::Diverged { did, recorded: recorded.to_string() }),
        }
    }

    /// The next entry that is not a name, without taking it, and where the one after it begins.
    fn look(&mut self) -> Option<(Recorded, usize)> {
        loop {
            let log = Arc::clone(&self.log);
            let mut rest = log.get(self.at..).unwrap_or_default();
            match Entry::take(&mut rest) {
                Ok(Some(Entry::Function { id, module, name })) => {
                    self.functions.insert(id, (module.to_owned(), name.to_owned()));
                    self.at = log.len() - rest.len();
                }
                Ok(Some(entry)) => return Some((self.owned(entry), log.len() - rest.len())),
                Ok(None) => return None,
                Err(error) => {
                    self.stop(Stop::Damaged(error));
                    return None;
                }
            }
        }
    }

    /// What the record has next.
    pub fn peek(&mut self) -> Option<Recorded> {
        self.look().map(|(entry, _)| entry)
    }

    /// Takes what the record has next.
    pub fn take(&mut self) -> Option<Recorded> {
        let (entry, next) = self.look()?;
        self.at = next;
        Some(entry)
    }

    fn owned(&self, entry: Entry<'_>) -> Recorded {
        match entry {
            Entry::Function { .. } | Entry::Instance => Recorded::Instance,
            Entry::Frame { header, content } => Recorded::Frame { header: *header, content: content.into() },
            Entry::Begin(begun) => Recorded::Begin { export: begun.export, argument: begun.argument },
            Entry::End { fuel, memory } => Recorded::End { fuel, memory },
            Entry::Call { function, arguments } => {
                let (module, name) = self.functions.get(&function).cloned().unwrap_or_default();
                Recorded::Call { module, name, arguments: arguments.iter().collect() }
            }
            Entry::Return(_) => Recorded::Return,
            Entry::Fault(json) => Recorded::Fault(json.into()),
            Entry::State(digest) => Recorded::State(digest),
        }
    }

    /// A call into the guest begins.
    pub(crate) fn begin(&mut self, export: Export, argument: u32) -> bool {
        self.begun = true;
        self.expect(Recorded::Begin { export, argument })
    }

    /// What was begun has ended well.
    pub(crate) fn end(&mut self, fuel: u64, memory: u64) {
        if !std::mem::take(&mut self.begun) {
            return;
        }
        self.expect(Recorded::End { fuel, memory });
    }

    fn expect(&mut self, did: Recorded) -> bool {
        if self.stop.is_some() {
            return false;
        }
        match self.look() {
            Some((recorded, next)) if recorded == did => {
                self.at = next;
                true
            }
            other => {
                self.differs(did.to_string(), other.map(|(recorded, _)| recorded).as_ref());
                false
            }
        }
    }

    /// A host call of a function, by its module and name: gives what was recorded, and writes into the guest's memory what was
    /// written. `frame` is the frame as the guest sees it. `None` where the replay ends with this call, as [`Player::stopped`] says.
    pub fn call(
        &mut self,
        (module, name): (&str, &str),
        arguments: &[u64],
        memory: &mut [u8],
        frame: &[u8],
    ) -> Option<Played> {
        if self.stop.is_some() {
            return None;
        }
        let did = Recorded::Call { module: module.to_owned(), name: name.to_owned(), arguments: arguments.to_vec() };
        match self.look() {
            Some((recorded, next)) if recorded == did => self.at = next,
            other => {
                self.differs(did.to_string(), other.map(|(recorded, _)| recorded).as_ref());
                return None;
            }
        }
        let log = Arc::clone(&self.log);
        let mut rest = log.get(self.at..).unwrap_or_default();
        match Entry::take(&mut rest) {
            Ok(Some(Entry::Return(returned))) => {
                self.at = log.len() - rest.len();
                self.calls += 1;
                let Return { fuel, answer, .. } = &returned;
                let (fuel, answer) = (*fuel, answer.clone());
                self.failed = answer == Answer::Failed;
                let written = match write(&returned, memory, frame) {
                    Ok(written) => written,
                    Err(error) => {
                        self.stop(Stop::Damaged(error));
                        return None;
                    }
                };
                if let Some(observer) = &mut self.observer {
                    observer(&Observed { module, name, arguments, answer: &answer, fuel, written, memory });
                }
                Some(Played { answer, fuel })
            }
            Ok(None) => {
                self.stop(Stop::Unanswered { call: did.to_string() });
                None
            }
            // A fault ends a call that the host did not return from.
            Ok(Some(_)) => {
                self.stop(Stop::Unanswered { call: did.to_string() });
                None
            }
            Err(error) => {
                self.stop(Stop::Damaged(error));
                None
            }
        }
    }
}

fn write(returned: &Return<'_>, memory: &mut [u8], frame: &[u8]) -> Result<u64, FlightError> {
    let outside = FlightError::Form { what: "a write outside of the guest's memory" };
    let mut written = 0_u64;
    for write in returned.writes {
        let write = write?;
        // A u32 fits a usize on every target.
        let (ptr, len) = (write.ptr as usize, write.len as usize);
        let place = ptr.checked_add(len).and_then(|end| memory.get_mut(ptr..end)).ok_or(outside.clone())?;
        match write.source {
            Source::Bytes(bytes) => place.copy_from_slice(bytes),
            Source::Frame(offset) => {
                let from = offset as usize;
                let bytes = from.checked_add(len).and_then(|end| frame.get(from..end)).ok_or(outside.clone())?;
                place.copy_from_slice(bytes);
            }
        }
        written = written.saturating_add(len as u64);
    }
    Ok(written)
}

/// An entry of the record, owned.
#[derive(Clone, Debug, PartialEq)]
pub enum Recorded {
    /// A new instance.
    Instance,
    /// A frame, as it came.
    Frame {
        /// Its header.
        header: [u8; FRAME_HEADER],
        /// Its content.
        content: Arc<[u8]>,
    },
    /// A call into the guest.
    Begin {
        /// What was called.
        export: Export,
        /// With what.
        argument: u32,
    },
    /// Its end.
    End {
        /// Fuel used.
        fuel: u64,
        /// Linear memory, in bytes.
        memory: u64,
    },
    /// A host call.
    Call {
        /// The module that the function is imported from.
        module: String,
        /// Its name.
        name: String,
        /// The bits of its arguments.
        arguments: Vec<u64>,
    },
    /// The return of a host call.
    Return,
    /// The fault, as JSON.
    Fault(Arc<[u8]>),
    /// The digest of the last state.
    State(u64),
}

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance => f.write_str("a new instance"),
            Self::Frame { content, .. } => write!(f, "a frame of {} bytes", content.len()),
            Self::Begin { export, argument: 0 } => write!(f, "a call of {}", export.name()),
            Self::Begin { export, argument } => write!(f, "a call of {}({argument})", export.name()),
            Self::End { fuel, memory } => write!(f, "a return with {fuel} units of fuel and {memory} bytes of memory"),
            Self::Call { module, name, arguments } => {
                write!(f, "{module}.{name}(")?;
                for (index, bits) in arguments.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    write!(f, "{separator}{bits:#x}")?;
                }
                f.write_str(")")
            }
            Self::Return => f.write_str("the return of a host call"),
            Self::Fault(_) => f.write_str("a fault"),
            Self::State(_) => f.write_str("the state after a fault"),
        }
    }
}
