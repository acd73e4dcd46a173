//! What the supervisor says: messages from the socket, waited for or looked for.

use std::{
    io::{self, Read},
    os::unix::net::UnixStream,
    sync::Arc,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};
use sanderling_protocol::worker::{Inbox, ToWorker};

use crate::serve::ServeError;

/// How long a worker waits for a message before it looks whether it has something to tell. The socket keeps the time: a process that
/// may have no descriptor cannot poll (poll(2): `EINVAL` above `RLIMIT_NOFILE`).
const WHILE: Duration = Duration::from_secs(1);

/// The receiving side of the socket.
pub(crate) struct Control {
    socket: Arc<UnixStream>,
    inbox: Inbox,
}

impl Control {
    /// # Errors
    /// Where the socket takes no time limit.
    pub(crate) fn new(socket: Arc<UnixStream>) -> io::Result<Self> {
        socket.set_read_timeout(Some(WHILE))?;
        Ok(Self { socket, inbox: Inbox::default() })
    }

    /// The next message; sleeps until it comes.
    pub(crate) fn wait(&mut self) -> Result<ToWorker, ServeError> {
        loop {
            if let Some(message) = self.wait_a_while()? {
                return Ok(message);
            }
        }
    }

    /// The next message; `None` where none comes within [`WHILE`].
    pub(crate) fn wait_a_while(&mut self) -> Result<Option<ToWorker>, ServeError> {
        loop {
            if let Some(message) = self.inbox.next()? {
                return Ok(Some(ToWorker::decode(message)?));
            }
            match (&*self.socket).read(self.inbox.space()) {
                Ok(0) => return Err(ServeError::Gone),
                Ok(count) => self.inbox.filled(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error.into()),
            }
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
