//! What comes to a guest from outside, written down while it runs, and given to it again when it is run once more.
//!
//! A guest is a function of its module, of the frames and of what host functions answer; nothing else reaches it. The [`Flight`] recorder
//! keeps these, and a snapshot of the guest from time to time, in a region of fixed size
//! ([`sanderling_protocol::flight`]); a [`Player`] answers from such a region in the place of the host functions. Both look on where
//! host functions are linked ([`crate::host::Linker`]) and where the guest is called ([`crate::Guest`]).
//!
//! Invariant: an execution is the same on every processor, NaNs included (wasmi's feature `deterministic`).

mod digest;
mod expose;
mod flight;
mod instructions;
mod notes;
mod player;
mod state;

pub use digest::StateDigest;
pub use expose::{Exposed, Start, expose, global_name, memory_name};
pub use flight::{Flight, Region};
pub(crate) use notes::Notes;
pub use player::{Observed, Observer, Played, Player, Recorded, Stop};
pub(crate) use state::{RestoreError, Watched};

use std::sync::Arc;

use sanderling_protocol::flight::Export;

/// A host function, as a guest imports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Called {
    /// The module that it is imported from.
    pub module: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Its number, unique in its linker.
    pub id: u16,
}

/// Who looks on while a guest runs.
#[derive(Default)]
pub(crate) enum Tape {
    /// Nobody.
    #[default]
    Off,
    /// Somebody who writes down.
    Record(Box<Flight>),
    /// Somebody who answers in the place of the host functions.
    Replay(Box<Player>),
}

impl Tape {
    /// The recorder, where there is one.
    pub(crate) fn flight(&mut self) -> Option<&mut Flight> {
        match self {
            Self::Record(flight) => Some(flight),
            Self::Off | Self::Replay(_) => None,
        }
    }

    /// The player, where there is one.
    pub(crate) fn player(&mut self) -> Option<&mut Player> {
        match self {
            Self::Replay(player) => Some(player),
            Self::Off | Self::Record(_) => None,
        }
    }

    /// Where ranges of memory that are written are to be noted.
    pub(crate) fn notes(&self) -> Option<Arc<Notes>> {
        match self {
            Self::Record(flight) => Some(flight.notes()),
            Self::Off | Self::Replay(_) => None,
        }
    }

    /// Whether the guest is to be compiled so that its state can be seen.
    pub(crate) fn watches(&self) -> bool {
        !matches!(self, Self::Off)
    }

    /// A call into the guest begins. `false` where a replay has come to its end, or is another execution.
    pub(crate) fn begin(&mut self, export: Export, argument: u32) -> bool {
        match self {
            Self::Off => true,
            Self::Record(flight) => {
                flight.begin(export, argument);
                true
            }
            Self::Replay(player) => player.begin(export, argument),
        }
    }

    /// What was begun has ended well; nothing where nothing was.
    pub(crate) fn end(&mut self, fuel: u64, memory: u64) {
        match self {
            Self::Off => {}
            Self::Record(flight) => flight.end(fuel, memory),
            Self::Replay(player) => player.end(fuel, memory),
        }
    }
}
