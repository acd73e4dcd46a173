//! A connection that stands gives way to one with renewed certificate, key or CA.
//!
//! Invariant: what was handed to the client is waited for, and nothing more is handed to it; then the connection ends with DISCONNECT, and the
//! broker publishes no last will.
//!
//! Failure modes: a broker that acknowledges nothing ends the connection by its watchdog, one that does not let go after [`GOODBYE`] twice.

use std::pin::Pin;

use tokio::time::{Sleep, sleep};

use super::{Connection, GOODBYE, Unheard};
use crate::link::{LinkEvent, credentials::News};

/// Whether the connection is to be made anew with other credentials.
pub(super) enum Renewal {
    Not,
    /// When nothing is outstanding any more. Nothing new is handed to the client until then.
    Calm,
    /// Goodbye was said; at the latest when this runs out.
    Left(Pin<Box<Sleep>>),
}

impl Connection<'_> {
    /// Looks whether certificate, key or CA were renewed.
    pub(super) async fn look(&mut self) -> Result<(), Unheard> {
        self.look = Some(Box::pin(sleep(self.broker.reload)));
        if matches!(self.renewal, Renewal::Not) && self.credentials.look(self.broker) {
            self.renewal = Renewal::Calm;
        }
        self.tell_of_certificate().await
    }

    pub(super) async fn tell_of_certificate(&mut self) -> Result<(), Unheard> {
        match self.credentials.news() {
            Some(News { expires, refused }) => self.tell(LinkEvent::Certificate { expires, refused }).await,
            None => Ok(()),
        }
    }

    /// Disconnects in order, so that the broker does not publish the will; false where that cannot be said.
    pub(super) fn give_way(&mut self) -> bool {
        self.renewal = Renewal::Left(Box::pin(sleep(2 * GOODBYE)));
        self.client.try_disconnect_with_timeout(GOODBYE).is_ok()
    }
}

/// Waits until a connection that gives way has had its time to end.
pub(super) async fn left(renewal: &mut Renewal) {
    match renewal {
        Renewal::Left(sleep) => sleep.as_mut().await,
        Renewal::Not | Renewal::Calm => std::future::pending().await,
    }
}
