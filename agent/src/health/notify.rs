//! Messages to the service manager (sd_notify): READY, STATUS, WATCHDOG, STOPPING.
//!
//! Failure modes: without a service manager every message is nothing; one that cannot be sent is logged at debug.

use std::{cell::Cell, time::Duration};

use sd_notify::NotifyState;

/// Where messages go.
pub trait Notify {
    /// The agent is ready: it reads its settings, opened its store, and tries the link.
    fn ready(&self);
    /// One line that `systemctl status` shows.
    fn status(&self, text: &str);
    /// The agent lives.
    fn alive(&self);
    /// The agent ends.
    fn stopping(&self);
}

/// The service manager that started this process, if any.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemdNotify;

impl Notify for SystemdNotify {
    fn ready(&self) {
        send(NotifyState::Ready);
    }

    fn status(&self, text: &str) {
        // The message is lines of NAME=value.
        send(NotifyState::Status(&text.replace('\n', " ")));
    }

    fn alive(&self) {
        send(NotifyState::Watchdog);
    }

    fn stopping(&self) {
        send(NotifyState::Stopping);
    }
}

fn send(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "the service manager could not be notified");
    }
}

/// How long the service manager waits for a sign of life, by `WATCHDOG_USEC` and `WATCHDOG_PID`; `None` where it does not.
pub fn watchdog_timeout() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// Counts what would have been sent, for tests.
#[derive(Debug, Default)]
pub struct FakeNotify {
    /// Signs of life.
    pub alive: Cell<u32>,
}

impl Notify for FakeNotify {
    fn ready(&self) {}

    fn status(&self, _text: &str) {}

    fn alive(&self) {
        self.alive.set(self.alive.get() + 1);
    }

    fn stopping(&self) {}
}
