//! Entries of systemd's journal, by its native protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).
//!
//! A layer of our own, since `tracing-journald` leaves the fields out of the message: `journalctl` then shows that something was refused, and
//! not why. Here the message says them as a line on standard error does, and each is a field of the entry too.
//!
//! Failure modes: a journal that does not take an entry within [`PATIENCE`] loses it, so that the agent never waits for it longer.
//! Limits: an entry that is too long for a datagram is cut to [`SHORT`] bytes of its message.

use std::{fmt, io, os::unix::net::UnixDatagram, time::Duration};

use rustix::io::Errno;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// How long an entry may wait.
const PATIENCE: Duration = Duration::from_millis(500);
/// What is left of a message that is too long.
const SHORT: usize = 4096;

/// Who says it, and what the names of fields begin with.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    identifier: &'static str,
    prefix: &'static str,
}

impl Journal {
    /// Connects.
    ///
    /// # Errors
    /// No journal listens.
    pub(super) fn connect(identifier: &'static str, prefix: &'static str) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(SOCKET)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { socket, identifier, prefix })
    }

    fn entry(&self, said: &Said, about: &Metadata<'_>) -> Vec<u8> {
        let mut entry = Vec::new();
        put(&mut entry, "MESSAGE", &said.message());
        put(&mut entry, "PRIORITY", priority(*about.level()));
        put(&mut entry, "SYSLOG_IDENTIFIER", self.identifier);
        put(&mut entry, "TARGET", about.target());
        if let (Some(file), Some(line)) = (about.file(), about.line()) {
            put(&mut entry, "CODE_FILE", file);
            put(&mut entry, "CODE_LINE", &line.to_string());
        }
        for field in &said.fields {
            put(&mut entry, &format!("{}_{}", self.prefix, name(field.name)), &field.value);
        }
        entry
    }

    fn short(&self, said: &Said, about: &Metadata<'_>) -> Vec<u8> {
        let message = said.message();
        let end = (0..=SHORT.min(message.len())).rev().find(|end| message.is_char_boundary(*end)).unwrap_or_default();
        let text = message.get(..end).unwrap_or_default().to_owned();
        self.entry(&Said { text, fields: Vec::new() }, about)
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        let sent = self.socket.send(&self.entry(&said, event.metadata()));
        if sent.is_err_and(|error| error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error())) {
            // There is nobody to tell of an error.
            let _ = self.socket.send(&self.short(&said, event.metadata()));
        }
    }
}

/// A line: its text and its fields.
#[derive(Debug, Default)]
struct Said {
    text: String,
    fields: Vec<Told>,
}

#[derive(Debug)]
struct Told {
    name: &'static str,
    value: String,
    /// As the message tells it: a text in quotes.
    shown: String,
}

impl Said {
    fn message(&self) -> String {
        let mut message = self.text.clone();
        for Told { name, shown, .. } in &self.fields {
            let space = if message.is_empty() { "" } else { " " };
            message.push_str(&format!("{space}{name}={shown}"));
        }
        message
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.text);
        } else {
            self.fields.push(Told { name: field.name(), value: value.to_owned(), shown: format!("{value:?}") });
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        if field.name() == "message" {
            self.text = value;
        } else {
            self.fields.push(Told { name: field.name(), shown: value.clone(), value });
        }
    }
}

/// `NAME=value`, or the name, the length and the value, where that has lines of its own.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend((value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend(value.as_bytes());
    entry.push(b'\n');
}

/// Upper-case letters, digits and underscores.
fn name(field: &str) -> String {
    let legal = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' };
    field.chars().map(legal).collect()
}

/// Those that the levels have elsewhere.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}
