//! One refresh: the client workflow of the specification (section 5) without a transport and without a clock.
//!
//! The driver asks [`Refresh::next`] what to fetch, fetches it however it likes, and hands in the bytes
//! ([`Refresh::supply`]) or the news that there are none ([`Refresh::absent`]). A refusal leaves the refresh where it was, so
//! that an honest copy may still be supplied. [`Refresh::finish`] gives back what is trusted, at any time.
//!
//! Limits: 256 root rotations, 32 delegated roles, 128 KiB a message.

use super::error::TrustError;
use super::search::{Edge, Scope};
use super::trusted::{Trusted, Update, limit};
use super::verify::check_expiry;
use super::{MAX_METADATA_LEN, MAX_ROOT_ROTATIONS};

/// A message to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchSpec {
    /// The role: `root`, `timestamp`, `snapshot`, `targets` or the name of a delegated role, which may be any text.
    pub role: String,
    /// The version in its name; `None` for the timestamp, and for all but root where the repository has no consistent
    /// snapshots.
    pub version: Option<u64>,
    /// No more bytes than these are taken.
    pub max_length: u64,
}

/// What a refresh needs next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// This message.
    Fetch(FetchSpec),
    /// Nothing: lookups answer from what the repository signed last.
    Done,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Root,
    Timestamp,
    Snapshot,
    Role(Edge),
    Done,
}

/// A refresh under way.
#[derive(Debug, Clone)]
pub struct Refresh {
    trusted: Trusted,
    now: i64,
    scope: Scope,
    stage: Stage,
    rotations: u32,
}

impl Refresh {
    /// Begins a refresh that loads every delegated role. `now` is the time of all of it, in unix seconds (section 5.1: "Record
    /// the time at which the update began as the fixed update start time").
    pub fn start(trusted: Trusted, now: i64) -> Self {
        Self::begin(trusted, now, Scope::All)
    }

    /// Begins a refresh that loads no delegated role: only what [`Refresh::seek`] asks for later.
    pub fn start_top_level(trusted: Trusted, now: i64) -> Self {
        Self::begin(trusted, now, Scope::Top)
    }

    /// Begins a refresh that loads only the roles that a search for this target visits.
    pub fn start_for(trusted: Trusted, path: &str, now: i64) -> Self {
        Self::begin(trusted, now, Scope::Path(path.to_owned()))
    }

    fn begin(mut trusted: Trusted, now: i64, scope: Scope) -> Self {
        trusted.incoming.clear();
        Self { trusted, now, scope, stage: Stage::Root, rotations: 0 }
    }

    /// From now on loads the roles that a search for this target visits, instead of what was to be loaded. A refresh that was
    /// done, or that waits for a role that never comes, goes on with it; all of it has the same fixed update start time.
    ///
    /// # Errors
    /// What [`Refresh::supply`] says of a role that is already there, or `NotListed`.
    pub fn seek(&mut self, path: &str) -> Result<(), TrustError> {
        self.scope = Scope::Path(path.to_owned());
        match self.stage {
            Stage::Root | Stage::Timestamp | Stage::Snapshot => Ok(()),
            Stage::Role(_) | Stage::Done => self.leave_snapshot(),
        }
    }

    /// The fixed update start time, in unix seconds.
    pub fn began(&self) -> i64 {
        self.now
    }

    /// What is needed next. Asking changes nothing.
    pub fn next(&self) -> Step {
        let root = &self.trusted.root.signed;
        let listed = |version: u64| root.consistent_snapshot.then_some(version);
        let (role, version, max_length) = match &self.stage {
            // 5.3.3: "The filename used to download the root metadata file is of the fixed form VERSION_NUMBER.FILENAME.EXT";
            // 5.4.1: the timestamp's "is of the fixed form FILENAME.EXT"; 5.5.1, 5.6.1: with consistent snapshots "the
            // filename is of the form VERSION_NUMBER.FILENAME.EXT".
            Stage::Root => ("root", Some(root.version.get().saturating_add(1)), MAX_METADATA_LEN),
            Stage::Timestamp => ("timestamp", None, MAX_METADATA_LEN),
            Stage::Snapshot => {
                let file = self.trusted.timestamp.as_ref().map(|kept| &kept.signed.meta.snapshot);
                ("snapshot", file.and_then(|file| listed(file.version.get())), file.map_or(MAX_METADATA_LEN, limit))
            }
            Stage::Role(edge) => {
                let file = self.trusted.snapshot.as_ref().and_then(|kept| kept.signed.role(&edge.role));
                let version = file.and_then(|file| listed(file.version.get()));
                (edge.role.as_str(), version, file.map_or(MAX_METADATA_LEN, limit))
            }
            Stage::Done => return Step::Done,
        };
        Step::Fetch(FetchSpec { role: role.into(), version, max_length })
    }

    /// Hands in the message that [`Refresh::next`] names.
    pub fn supply(&mut self, bytes: &[u8]) -> Result<(), TrustError> {
        match self.stage.clone() {
            Stage::Root => {
                self.trusted.update_root(bytes)?;
                self.rotations += 1;
                // 5.3.3: "If … we have downloaded more than Y number of root metadata files …, then go to step 5.3.10."
                if self.rotations >= MAX_ROOT_ROTATIONS {
                    return self.leave_root();
                }
                Ok(())
            }
            // 5.4.3.1 ends the cycle at a timestamp that is not newer. It goes on here: what it lists may not all have been
            // fetched the last time, and where it has been, nothing more is asked for.
            Stage::Timestamp => match self.trusted.update_timestamp(bytes, self.now)? {
                Update::Accepted | Update::Unchanged => self.leave_timestamp(),
            },
            Stage::Snapshot => {
                self.trusted.update_snapshot(bytes, self.now)?;
                self.leave_snapshot()
            }
            Stage::Role(edge) => {
                self.trusted.update_edge(&edge, bytes, self.now)?;
                self.leave_snapshot()
            }
            Stage::Done => Err(TrustError::NothingAwaited),
        }
    }

    /// Says that the repository does not have the message. That is how the search for newer roots ends (5.3.3: "If this
    /// file is not available, … then go to step 5.3.10"); anything else that is not there is an error.
    pub fn absent(&mut self) -> Result<(), TrustError> {
        match (&self.stage, self.next()) {
            (Stage::Root, _) => self.leave_root(),
            (_, Step::Fetch(spec)) => Err(TrustError::Unavailable { role: spec.role, version: spec.version }),
            (_, Step::Done) => Err(TrustError::NothingAwaited),
        }
    }

    /// Gives back what is trusted, whether the refresh is done or is given up. What a refresh that is given up had
    /// learnt of root, timestamp and snapshot stays, as floors.
    pub fn finish(mut self) -> Trusted {
        self.trusted.incoming.clear();
        self.trusted
    }

    /// What is trusted so far, for a driver that stores each step.
    pub fn trusted(&self) -> &Trusted {
        &self.trusted
    }

    fn leave_root(&mut self) -> Result<(), TrustError> {
        // 5.3.10: "The expiration timestamp in the trusted root metadata file MUST be higher than the fixed update start
        // time. If the trusted root metadata file has expired, abort the update cycle, report the potential freeze attack."
        check_expiry("root", &self.trusted.root.signed, self.now)?;
        self.stage = Stage::Timestamp;
        Ok(())
    }

    fn leave_timestamp(&mut self) -> Result<(), TrustError> {
        if self.trusted.snapshot_is_current(self.now) {
            self.leave_snapshot()
        } else {
            self.stage = Stage::Snapshot;
            Ok(())
        }
    }

    /// Finds the next role that has to be fetched, or ends.
    fn leave_snapshot(&mut self) -> Result<(), TrustError> {
        while let Some(edge) = self.trusted.settle(&self.scope)? {
            if !self.trusted.carry_over(&edge, self.now) {
                self.trusted.listed(&edge.role, self.now)?;
                self.stage = Stage::Role(edge);
                return Ok(());
            }
        }
        self.stage = Stage::Done;
        Ok(())
    }
}
