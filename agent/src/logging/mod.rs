//! Where log lines go: to journald where systemd's journal holds standard error, else to standard error itself.
//!
//! In the journal each field of a line is a field of its entry, upper-case with the prefix [`PREFIX`], beside `SYSLOG_IDENTIFIER`, `PRIORITY`, `TARGET`
//! and where in the code it was said: `journalctl SANDERLING_MODULE=scratch`. Names of fields stay what they are. The message tells them too.
//!
//! Invariant: one subscriber for the whole process, set once by `main`.
//! Failure modes: a journal that cannot be reached falls back to standard error.
//! Limits: lines of the libraries below stand at `warn`, unless the level is `debug` or `trace`.

mod journal;

use std::{io, os::fd::AsFd};

use thiserror::Error;
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer, Registry,
    filter::Targets,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
};

use crate::settings::LogLevel;
use journal::Journal;

/// What the names of fields begin with in the journal.
pub const PREFIX: &str = "SANDERLING";
/// Who says it, in the journal.
const IDENTIFIER: &str = "sanderling-agent";

/// A subscriber was set before.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("logging was set up twice; it is set up once, by main")]
pub struct LoggingError;

/// Sets up logging for the process. `journal` is the value of `JOURNAL_STREAM`, which systemd sets for a service whose
/// standard error goes to the journal: device and inode of that, so that whoever redirects it is known.
///
/// # Errors
/// [`LoggingError`].
pub fn init(level: LogLevel, journal: Option<&str>) -> Result<(), LoggingError> {
    let registry = Registry::default();
    let journal = journal.filter(|stream| is(stream, io::stderr()));
    let subscriber: Box<dyn Subscriber + Send + Sync> =
        match journal.and_then(|_| Journal::connect(IDENTIFIER, PREFIX).ok()) {
            Some(layer) => Box::new(registry.with(layer.with_filter(targets(level)))),
            None => Box::new(to_writer(level, io::stderr)),
        };
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LoggingError)
}

/// Whether a descriptor is the stream that `JOURNAL_STREAM` names.
fn is(stream: &str, descriptor: impl AsFd) -> bool {
    let named = || {
        let (device, inode) = stream.split_once(':')?;
        Some((device.parse::<u64>().ok()?, inode.parse::<u64>().ok()?))
    };
    let found = rustix::fs::fstat(descriptor).map(|found| (found.st_dev, found.st_ino));
    found.is_ok_and(|found| named() == Some(found))
}

fn to_writer<W>(level: LogLevel, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let lines = fmt::layer().with_writer(writer).with_target(false).with_ansi(false);
    Registry::default().with(lines.with_filter(targets(level)))
}

fn targets(level: LogLevel) -> Targets {
    let (ours, others) = match level {
        LogLevel::Error => (LevelFilter::ERROR, LevelFilter::ERROR),
        LogLevel::Warn => (LevelFilter::WARN, LevelFilter::WARN),
        LogLevel::Info => (LevelFilter::INFO, LevelFilter::WARN),
        LogLevel::Debug => (LevelFilter::DEBUG, LevelFilter::INFO),
        LogLevel::Trace => (LevelFilter::TRACE, LevelFilter::DEBUG),
    };
    Targets::new().with_default(others).with_target("sanderling", ours)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: LogLevel) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        tracing::subscriber::with_default(to_writer(level, move || writer.clone()), || {
            tracing::info!(device = "gw-1", "ours");
            tracing::info!(target: "rumqttc", "theirs");
            tracing::debug!("detail");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_stream_is_known_by_device_and_inode() {
        let file = tempfile::tempfile().unwrap();
        let found = rustix::fs::fstat(&file).unwrap();
        assert!(is(&format!("{}:{}", found.st_dev, found.st_ino), &file));
        assert!(!is(&format!("{}:{}", found.st_dev, found.st_ino), tempfile::tempfile().unwrap()), "it is redirected");
        for damaged in ["", "1", ":", "a:b"] {
            assert!(!is(damaged, &file), "{damaged}");
        }
    }

    #[test]
    fn what_is_logged_follows_the_level() {
        let info = logged(LogLevel::Info);
        assert!(info.contains("ours device=\"gw-1\""), "{info}");
        assert!(!info.contains("theirs") && !info.contains("detail"), "{info}");
        let debug = logged(LogLevel::Debug);
        assert!(debug.contains("theirs") && debug.contains("detail"), "{debug}");
        assert_eq!(logged(LogLevel::Warn), "");
    }
}
