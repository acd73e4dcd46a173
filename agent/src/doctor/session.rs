//! Whether an agent runs, by its database: who has that open locks it.

use std::path::Path;

use super::{Finding, Outcome};
use crate::store::{
    StoreError,
    database::{Database, RedbStore},
    saved_time,
};

/// What is known of an agent on this device.
pub(super) enum Session {
    /// One runs, and has its database.
    Runs,
    /// None runs as long as this has the database; there may be none yet.
    Free(Option<Database>),
    /// It cannot be said.
    Unknown(StoreError),
}

impl Session {
    /// Takes the database to be read, without changing anything.
    pub(super) fn look(state: &Path) -> Self {
        match Database::open_to_read(state) {
            Ok(database) => Self::Free(database),
            Err(StoreError::InUse { .. }) => Self::Runs,
            Err(error) => Self::Unknown(error),
        }
    }

    /// Whether one runs.
    pub(super) fn runs(&self) -> bool {
        matches!(self, Self::Runs)
    }

    /// Why the agent's session with the broker may be in use.
    pub(super) fn why_not_free(&self) -> Option<&'static str> {
        match self {
            Self::Runs => Some("the agent runs"),
            Self::Unknown(_) => Some("whether the agent runs cannot be said"),
            Self::Free(_) => None,
        }
    }

    /// The time that the agent saved last, Unix seconds, where its database can be read.
    pub(super) fn saved_time(&self) -> Option<i64> {
        let Self::Free(Some(database)) = self else { return None };
        saved_time(&RedbStore::new(database.clone())).ok().flatten()
    }

    /// What was found of the database.
    pub(super) fn finding(&self) -> Finding {
        let (outcome, says) = match self {
            Self::Runs => (Outcome::Good, "the agent runs and has its database".to_owned()),
            Self::Free(None) => (Outcome::Good, "there is no database yet; the agent makes it".to_owned()),
            Self::Free(Some(_)) => (Outcome::Good, "the database can be read, and no agent runs".to_owned()),
            Self::Unknown(error) => (Outcome::Bad, error.to_string()),
        };
        Finding { area: "disk", check: "database", outcome, says }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::{Change, Store, save_time};

    #[test]
    fn an_agent_that_runs_is_known_by_its_database_and_a_look_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Session::look(folder.path()), Session::Free(None)));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let database = Database::open(folder.path()).unwrap();
        RedbStore::new(database.clone()).apply(save_time(Change::new(), 77).unwrap()).unwrap();
        assert!(Session::look(folder.path()).runs());
        let path = database.path().to_owned();
        drop(database);
        let before = std::fs::read(&path).unwrap();
        let session = Session::look(folder.path());
        assert_eq!((session.why_not_free(), session.saved_time()), (None, Some(77)));
        assert!(matches!(Database::open(folder.path()), Err(StoreError::InUse { .. })), "no agent starts meanwhile");
        drop(session);
        assert_eq!(std::fs::read(&path).unwrap(), before);
        std::fs::write(&path, "damaged").unwrap();
        let session = Session::look(folder.path());
        assert!(session.why_not_free().is_some() && session.finding().outcome == Outcome::Bad);
        assert_eq!(std::fs::read(&path).unwrap(), b"damaged", "nothing is set aside");
    }
}
