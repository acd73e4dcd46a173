//! Lines over a Unix socket: how QEMU and the agent in its guest are spoken to.

use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use sanderling_tests::{Deadline, until};
use serde_json::Value;

/// One end of a connection.
pub(crate) struct Lines {
    stream: BufReader<UnixStream>,
    begun: Vec<u8>,
}

impl Lines {
    /// Connects to a socket that may not be there yet.
    pub(crate) fn connect(socket: &Path, limit: Duration) -> Self {
        let stream = until(limit, || UnixStream::connect(socket).ok());
        let stream = stream.unwrap_or_else(|| panic!("nobody listens on {} within {limit:?}", socket.display()));
        Self { stream: BufReader::new(stream), begun: Vec::new() }
    }

    /// Sends a line.
    pub(crate) fn send(&mut self, line: &str) {
        let stream = self.stream.get_mut();
        stream
            .write_all(format!("{line}\n").as_bytes())
            .unwrap_or_else(|error| panic!("could not send {line}: {error}"));
    }

    /// The next line; `None` when the limit is over.
    pub(crate) fn next(&mut self, limit: Duration) -> Option<String> {
        let deadline = Deadline::after(limit);
        loop {
            self.stream.get_ref().set_read_timeout(Some(deadline.left()?)).unwrap();
            match self.stream.read_until(b'\n', &mut self.begun) {
                Ok(0) => panic!("the other end hung up"),
                Ok(_) if self.begun.ends_with(b"\n") => {
                    let line = std::mem::take(&mut self.begun);
                    return Some(String::from_utf8_lossy(&line).trim().to_owned());
                }
                Ok(_) => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {
                }
                Err(error) => panic!("could not read: {error}"),
            }
        }
    }

    /// Sends a command of QEMU's JSON protocols and gives what it returns, past events; `None` when the limit is over.
    pub(crate) fn ask(&mut self, command: &Value, limit: Duration) -> Option<Value> {
        self.send(&command.to_string());
        let deadline = Deadline::after(limit);
        loop {
            let line = self.next(deadline.left()?)?;
            // After a power cut there may be half a line of an earlier life in front.
            let Ok(mut answer) = serde_json::from_str::<Value>(line.trim_start_matches('\u{fffd}')) else { continue };
            if let Some(error) = answer.get("error") {
                panic!("{command}: {error}");
            }
            if answer.get("return").is_some() {
                return Some(answer["return"].take());
            }
        }
    }
}
