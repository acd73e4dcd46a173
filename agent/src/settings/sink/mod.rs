//! `[sink.<name>]`: where records go beside the broker. One file a kind, which says what its table may hold and checks it.

mod file;
mod gpio;
mod socket;

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use sanderling_protocol::deployment::{MQTT, is_name};
use serde::Deserialize;

use super::{MAX_SINKS, PathSettings, SettingsError, load::Origin};
use crate::sinks::{FileSettings, GpioSettings, SocketSettings};

/// One sink.
#[derive(Clone, Debug, PartialEq)]
pub enum SinkSettings {
    /// `kind = "file"`: a file of lines that is rotated.
    File(FileSettings),
    /// `kind = "gpio"`: a pulse on a line.
    Gpio(GpioSettings),
    /// `kind = "socket"`: a Unix socket that local programs read records from.
    Socket(SocketSettings),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum RawSink {
    File(file::Raw),
    Gpio(gpio::Raw),
    Socket(socket::Raw),
}

/// Checks all sinks.
pub(super) fn check(
    raw: BTreeMap<String, RawSink>,
    paths: &PathSettings,
    origin: &Origin,
) -> Result<BTreeMap<String, SinkSettings>, SettingsError> {
    if raw.len() > MAX_SINKS {
        return Err(origin.value(&["sink"], format!("{} tables", raw.len()), format!("at most {MAX_SINKS}")));
    }
    let mut sinks = BTreeMap::new();
    for (name, sink) in raw {
        if !is_name(&name) {
            let allowed = "names of 1 to 64 characters of A-Z a-z 0-9 . _ -";
            return Err(origin.value(&["sink", &name], "a bad name", allowed));
        }
        if name == MQTT {
            return Err(origin.value(&["sink", &name], "the broker", "other names; every device has the sink `mqtt`"));
        }
        let table = Table { name: &name, paths, origin };
        let checked = match sink {
            RawSink::File(raw) => SinkSettings::File(raw.check(&table)?),
            RawSink::Gpio(raw) => SinkSettings::Gpio(raw.check(&table)?),
            RawSink::Socket(raw) => SinkSettings::Socket(raw.check(&table)?),
        };
        sinks.insert(name, checked);
    }
    Ok(sinks)
}

/// The table of one sink, and what holds for all of them.
struct Table<'a> {
    name: &'a str,
    paths: &'a PathSettings,
    origin: &'a Origin,
}

impl Table<'_> {
    /// The error for a value that is not allowed.
    fn value(&self, key: &str, value: impl ToString, allowed: impl ToString) -> SettingsError {
        self.origin.value(&["sink", self.name, key], value, allowed)
    }

    fn range<T: PartialOrd + std::fmt::Display + Copy>(
        &self,
        key: &str,
        value: T,
        allowed: RangeInclusive<T>,
        unit: &str,
    ) -> Result<T, SettingsError> {
        self.origin.range(&["sink", self.name, key], value, allowed, unit)
    }

    fn milliseconds(&self, key: &str, value: f64, allowed: RangeInclusive<f64>) -> Result<Duration, SettingsError> {
        self.range(key, value, allowed, " ms").map(|ms| Duration::from_secs_f64(ms / 1000.0))
    }
}
