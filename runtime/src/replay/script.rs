//! A record, taken apart: the state that an execution goes on from, what came to it then, and what it ended in. In what it is run is
//! somebody else's matter.

use sanderling_protocol::{
    deployment::Limits,
    flight::{Basis, Entry, Export, FlightError, HEADER, Header, Snapshot},
    worker::{Fault, FaultCode},
};

use super::ReplayError;

/// A worker that makes no progress is ended well within this time after its deadline.
const GRACE_MS: u64 = 1000;
/// More than a guest uses on any processor there is.
const FUEL_PER_MS: u64 = 2_000_000;

/// What a record holds.
#[derive(Clone, Debug)]
pub struct Script<'a> {
    /// The state to begin in; `None` where the log begins with the instance.
    pub snapshot: Option<Snapshot<'a>>,
    /// What came to the guest since, entry by entry.
    pub log: &'a [u8],
    /// How often the guest is entered: once to start, and for each frame and to stop.
    pub(super) entries: u64,
    /// The fault that it ended in.
    pub fault: Option<Fault>,
    /// The digest of the last state.
    pub state: Option<u64>,
    /// Whether it ends in a call into the guest that neither ended nor faulted: the worker was ended from outside, or aborted.
    pub(super) breaks_off: bool,
}

impl<'a> Script<'a> {
    /// Takes a record apart.
    ///
    /// # Errors
    /// [`ReplayError`] where it is damaged, or lacks the beginning of an execution.
    pub fn read(record: &'a [u8]) -> Result<Self, ReplayError> {
        let header = Header::read(record, record.len())?.ok_or(ReplayError::Empty)?;
        let snapshot = record.get(HEADER..header.snapshot_end).unwrap_or_default();
        let log = record.get(header.snapshot_end..header.log_end).unwrap_or_default();
        let snapshot = match header.basis {
            Basis::Nothing => return Err(ReplayError::Partial { wanted: header.wanted }),
            Basis::Instance => None,
            Basis::Snapshot => Some(Snapshot::read(snapshot)?),
        };
        let mut script = Self { snapshot, log, entries: 0, fault: None, state: None, breaks_off: false };
        script.look_through(log)?;
        Ok(script)
    }

    fn look_through(&mut self, mut rest: &[u8]) -> Result<(), FlightError> {
        while let Some(entry) = Entry::take(&mut rest)? {
            match entry {
                Entry::Frame { .. } => {
                    self.entries += 1;
                    self.breaks_off = true;
                }
                Entry::Begin(begun) => {
                    self.entries += u64::from(begun.export == Export::Stop);
                    self.breaks_off = true;
                }
                Entry::End { .. } => self.breaks_off = false,
                Entry::Fault(json) => {
                    self.breaks_off = false;
                    let fault = serde_json::from_slice(json);
                    self.fault = Some(fault.map_err(|_| FlightError::Form { what: "a fault" })?);
                }
                Entry::State(digest) => self.state = Some(digest),
                _ => {}
            }
        }
        Ok(())
    }

    /// What the guest gets in its last call where that is not what it was allowed: the fuel that it had used when its time had run
    /// out; or where it was ended without a word, more than it can have used until then.
    pub(super) fn last_fuel(&self, limits: &Limits) -> Option<u64> {
        let at_deadline = self.fault.as_ref().filter(|fault| fault.code == FaultCode::Deadline);
        if let Some(fault) = at_deadline {
            return Some(fault.fuel_used);
        }
        let most = (u64::from(limits.deadline_ms) + GRACE_MS).saturating_mul(FUEL_PER_MS);
        self.breaks_off.then(|| most.min(limits.fuel_per_frame))
    }
}
