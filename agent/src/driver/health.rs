//! Signs of life, as [`crate::health`] decides on them.

use std::time::Duration;

use super::Driver;
use crate::health::Part;

impl Driver {
    /// The loop came round: gives a sign of life where the other parts get on too.
    pub(super) fn give_sign_of_life(&mut self, now: Duration) {
        let patience = self.watchdog.disk_patience();
        let marks = [
            (Part::Link, self.link.mark()),
            (Part::Keeper, self.keeper.mark(patience)),
            (Part::Spool, self.spool.mark(patience)),
        ];
        let verdict = self.watchdog.look(now, marks);
        for (part, waited) in verdict.stuck {
            let seconds = waited.as_secs();
            tracing::error!(%part, seconds, "a part of the agent does not get on; no sign of life is given until it does");
            self.notify.status(&format!("{part} has not got on for {seconds} s"));
        }
        for part in verdict.recovered {
            tracing::warn!(%part, "a part of the agent that was stuck gets on again");
            // The next report tells again how the agent is.
            self.status.clear();
        }
        if verdict.alive {
            self.notify.alive();
        }
    }
}
