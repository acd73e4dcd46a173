//! What the supervisor says: messages from the socket, waited for or looked for.

use std::{
    io::{self, Read},
    os::unix::net::UnixStream,
    sync::Arc,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{RecvFlags, recv},
};
use sanderling_protocol::worker::{Inbox, ToWorker};

use crate::serve::ServeError;

const NS_PER_S: u64 = 1_000_000_000;

/// The receiving side of the socket.
pub(crate) struct Control {
    socket: Arc<UnixStream>,
    inbox: Inbox,
}

impl Control {
    pub(crate) fn new(socket: Arc<UnixStream>) -> Self {
        Self { socket, inbox: Inbox::default() }
    }

    /// The next message; sleeps until it comes.
    pub(crate) fn wait(&mut self) -> Result<ToWorker, ServeError> {
        loop {
            if let Some(message) = self.inbox.next()? {
                return Ok(ToWorker::decode(message)?);
            }
            match (&*self.socket).read(self.inbox.space()) {
                Ok(0) => return Err(ServeError::Gone),
                Ok(count) => self.inbox.filled(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next message; `None` where none comes within the time.
    pub(crate) fn wait_for(&mut self, ns: u64) -> Result<Option<ToWorker>, ServeError> {
        if let Some(message) = self.look()? {
            return Ok(Some(message));
        }
        let timeout = Timespec {
            tv_sec: i64::try_from(ns / NS_PER_S).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(ns % NS_PER_S).unwrap_or(0),
        };
        match poll(&mut [PollFd::new(&*self.socket, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => self.look(),
            Err(errno) => Err(io::Error::from(errno).into()),
        }
    }

    /// The next message if there is one.
    pub(crate) fn look(&mut self) -> Result<Option<ToWorker>, ServeError> {
        loop {
            if let Some(message) = self.inbox.next()? {
                return Ok(Some(ToWorker::decode(message)?));
            }
            match recv(&*self.socket, self.inbox.space(), RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(ServeError::Gone),
                Ok((count, _)) => self.inbox.filled(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(errno) => return Err(io::Error::from(errno).into()),
            }
        }
    }
}
