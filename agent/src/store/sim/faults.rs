//! What goes wrong on the simulated disk, and at which change.

use std::io;

use rustix::io::Errno;

/// How a change fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No space is left.
    NoSpace,
    /// The file system is read-only now.
    ReadOnly,
    /// The disk is broken.
    Broken,
}

impl Fault {
    /// The three of them.
    pub const ALL: [Self; 3] = [Self::NoSpace, Self::ReadOnly, Self::Broken];

    pub(super) fn error(self) -> io::Error {
        let number = match self {
            Self::NoSpace => Errno::NOSPC,
            Self::ReadOnly => Errno::ROFS,
            Self::Broken => Errno::IO,
        };
        number.into()
    }
}

/// What is to happen, counted in changes from when it was asked for: 0 is the next one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Plan {
    #[default]
    Nothing,
    Cut {
        at: u64,
    },
    Fail {
        at: u64,
        fault: Fault,
        lasting: bool,
    },
}

/// What becomes of a change.
#[derive(Debug)]
pub(super) enum Verdict {
    Done,
    /// It fails, perhaps in its middle.
    Fails(Fault),
    /// The power goes in its middle.
    Cut,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) plan: Plan,
    pub(super) changes: u64,
    pub(super) off: bool,
}

impl Faults {
    pub(super) fn alive(&self) -> io::Result<()> {
        if self.off { Err(io::Error::other("the power is out")) } else { Ok(()) }
    }

    /// Whether files can be opened to be written at all.
    pub(super) fn writable(&self) -> io::Result<()> {
        match self.plan {
            Plan::Fail { at: 0, fault: Fault::ReadOnly, lasting: true } => Err(Fault::ReadOnly.error()),
            _ => Ok(()),
        }
    }

    /// Counts a change.
    pub(super) fn change(&mut self) -> io::Result<Verdict> {
        self.alive()?;
        self.changes += 1;
        Ok(match &mut self.plan {
            Plan::Cut { at: 0 } => {
                self.off = true;
                self.plan = Plan::Nothing;
                Verdict::Cut
            }
            Plan::Fail { at: 0, fault, lasting } => {
                let fault = *fault;
                if !*lasting {
                    self.plan = Plan::Nothing;
                }
                Verdict::Fails(fault)
            }
            Plan::Cut { at } | Plan::Fail { at, .. } => {
                *at -= 1;
                Verdict::Done
            }
            Plan::Nothing => Verdict::Done,
        })
    }
}
