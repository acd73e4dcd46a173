//! What the supervisor says to one worker: messages over a socket, frames through a ring.
//!
//! Invariants: nothing here waits for the worker. What a worker does not read piles up by no more than the state that it is told of at its start
//! and a message for each thing that is asked of it.

use std::{cell::RefCell, io, os::unix::net::UnixStream as StdStream, rc::Rc};

use sanderling_guest::frame::HEADER;
use sanderling_protocol::worker::{ToWorker, ring::RingError};
use tokio::net::UnixStream;

use super::{inlet::Feed, shared::FrameRing};

/// The supervisor's end of the socket, shared by the worker's task and its feed.
pub(super) struct Line {
    stream: UnixStream,
    unsent: RefCell<Vec<u8>>,
}

impl Line {
    /// Takes this end of the socket.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn new(socket: StdStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { stream: UnixStream::from_std(socket)?, unsent: RefCell::default() })
    }

    /// The socket, to be read.
    pub(super) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Whether something waits for the socket to take it.
    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.borrow().is_empty()
    }

    /// Says something. What the socket does not take at once waits.
    pub(super) fn say(&self, message: &ToWorker) {
        message.encode(&mut self.unsent.borrow_mut());
        self.send();
    }

    fn wake(&self) {
        // Where something is unsent, the worker does not sleep: it has not read what came before.
        if !self.has_unsent() {
            self.say(&ToWorker::Wake);
        }
    }

    /// Sends what waits, as far as the socket takes it.
    pub(super) fn send(&self) {
        let mut unsent = self.unsent.borrow_mut();
        while !unsent.is_empty() {
            match self.stream.try_write(&unsent) {
                Ok(count) => {
                    unsent.drain(..count);
                }
                // A worker that is gone is noticed where its socket is read.
                Err(_) => return,
            }
        }
    }
}

/// The way of frames: through the ring, and over the line where the worker sleeps.
pub(super) struct RingFeed {
    ring: FrameRing,
    line: Rc<Line>,
}

impl RingFeed {
    pub(super) fn new(ring: FrameRing, line: Rc<Line>) -> Self {
        Self { ring, line }
    }
}

impl Feed for RingFeed {
    fn push(&mut self, header: &[u8; HEADER], content: &[u8]) -> Result<bool, RingError> {
        self.ring.push(&[header, content])
    }

    fn wake(&mut self) {
        self.line.wake();
    }

    fn interrupt(&mut self) {
        self.ring.request_stop();
    }
}
