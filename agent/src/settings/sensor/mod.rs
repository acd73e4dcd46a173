//! `[sensor.<name>]`: where frames come from. One file a kind, which says what its table may hold and checks it.

#[cfg(feature = "gpio")]
mod gpio;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "iio")]
mod iio;
mod lines;
#[cfg(feature = "modbus")]
mod modbus;
mod mqtt;
#[cfg(feature = "serial")]
mod port;
mod process;
mod replay;
#[cfg(feature = "serial")]
mod serial;
mod simulate;
mod socket;
mod sysfs;
#[cfg(feature = "v4l2")]
mod v4l2;

use std::{collections::BTreeMap, fmt::Display, ops::RangeInclusive, path::Path};

use sanderling_protocol::topics::DeviceId;
use serde::Deserialize;

use super::{BrokerSettings, MAX_SENSORS, SettingsError, load::Origin};
#[cfg(feature = "gpio")]
use crate::sensors::GpioSettings;
#[cfg(feature = "http")]
use crate::sensors::HttpSettings;
#[cfg(feature = "iio")]
use crate::sensors::IioSettings;
#[cfg(feature = "serial")]
use crate::sensors::SerialSettings;
#[cfg(feature = "v4l2")]
use crate::sensors::V4l2Settings;
#[cfg(feature = "modbus")]
use crate::sensors::modbus::ModbusSettings;
use crate::sensors::{MqttSettings, ProcessSettings, ReplaySettings, SimulateSettings, SocketSettings, SysfsSettings};

/// One sensor.
#[derive(Clone, Debug, PartialEq)]
pub enum SensorSettings {
    /// `kind = "gpio"`: edges on GPIO lines.
    #[cfg(feature = "gpio")]
    Gpio(GpioSettings),
    /// `kind = "iio"`: a device of Industrial I/O.
    #[cfg(feature = "iio")]
    Iio(IioSettings),
    /// `kind = "http"`: what local programs post.
    #[cfg(feature = "http")]
    Http(HttpSettings),
    /// `kind = "modbus"`: the registers and bits of a device.
    #[cfg(feature = "modbus")]
    Modbus(ModbusSettings),
    /// `kind = "mqtt"`: the messages on a topic.
    Mqtt(MqttSettings),
    /// `kind = "process"`: what a command writes.
    Process(ProcessSettings),
    /// `kind = "replay"`: files, one after the other.
    Replay(ReplaySettings),
    /// `kind = "serial"`: the lines of a serial port.
    #[cfg(feature = "serial")]
    Serial(SerialSettings),
    /// `kind = "socket"`: a Unix socket that local programs write frames to.
    Socket(SocketSettings),
    /// `kind = "simulate"`: signals and scenes that are made up.
    Simulate(SimulateSettings),
    /// `kind = "sysfs"`: small files with a number in each.
    Sysfs(SysfsSettings),
    /// `kind = "v4l2"`: a camera.
    #[cfg(feature = "v4l2")]
    V4l2(V4l2Settings),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum RawSensor {
    #[cfg(feature = "http")]
    Http(http::Raw),
    #[cfg(feature = "modbus")]
    Modbus(modbus::Raw),
    Mqtt(mqtt::Raw),
    Process(process::Raw),
    Replay(replay::Raw),
    Simulate(simulate::Raw),
    #[cfg(feature = "serial")]
    Serial(serial::Raw),
    Socket(socket::Raw),
    Sysfs(sysfs::Raw),
    #[cfg(feature = "v4l2")]
    V4l2(v4l2::Raw),
    #[cfg(feature = "gpio")]
    Gpio(gpio::Raw),
    #[cfg(feature = "iio")]
    Iio(iio::Raw),
    #[cfg(not(feature = "gpio"))]
    Gpio(Absent),
    #[cfg(not(feature = "http"))]
    Http(Absent),
    #[cfg(not(feature = "iio"))]
    Iio(Absent),
    #[cfg(not(feature = "modbus"))]
    Modbus(Absent),
    #[cfg(not(feature = "serial"))]
    Serial(Absent),
    #[cfg(not(feature = "v4l2"))]
    V4l2(Absent),
}

/// The table of a kind whose feature is off. It is known by name, so that the refusal says what to build; whatever it
/// holds is passed over.
#[cfg(not(all(
    feature = "gpio",
    feature = "http",
    feature = "iio",
    feature = "modbus",
    feature = "serial",
    feature = "v4l2"
)))]
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Absent {}

/// Checks all sensors.
pub(super) fn check(
    raw: BTreeMap<String, RawSensor>,
    max_frame_bytes: usize,
    runtime: &Path,
    (device, broker): (&DeviceId, &BrokerSettings),
    origin: &Origin,
) -> Result<BTreeMap<String, SensorSettings>, SettingsError> {
    if raw.len() > MAX_SENSORS {
        return Err(origin.value(&["sensor"], format!("{} tables", raw.len()), format!("at most {MAX_SENSORS}")));
    }
    let mut sensors = BTreeMap::new();
    for (name, sensor) in raw {
        // Shorter than names elsewhere: the frame header has 32 bytes for it.
        if name.len() > 32 || !sanderling_protocol::deployment::is_name(&name) {
            return Err(origin.value(
                &["sensor", &name],
                "a bad name",
                "names of 1 to 32 characters of A-Z a-z 0-9 . _ -",
            ));
        }
        let table = Table { name: &name, max_frame_bytes, runtime, device, broker, origin };
        let checked = match sensor {
            #[cfg(feature = "http")]
            RawSensor::Http(raw) => SensorSettings::Http(raw.check(&table)?),
            #[cfg(feature = "modbus")]
            RawSensor::Modbus(raw) => SensorSettings::Modbus(raw.check(&table)?),
            RawSensor::Mqtt(raw) => SensorSettings::Mqtt(raw.check(&table)?),
            RawSensor::Process(raw) => SensorSettings::Process(raw.check(&table)?),
            RawSensor::Replay(raw) => SensorSettings::Replay(raw.check(&table)?),
            #[cfg(feature = "serial")]
            RawSensor::Serial(raw) => SensorSettings::Serial(raw.check(&table)?),
            RawSensor::Socket(raw) => SensorSettings::Socket(raw.check(&table)?),
            RawSensor::Simulate(raw) => SensorSettings::Simulate(raw.check(&table)?),
            RawSensor::Sysfs(raw) => SensorSettings::Sysfs(raw.check(&table)?),
            #[cfg(feature = "gpio")]
            RawSensor::Gpio(raw) => SensorSettings::Gpio(raw.check(&table)?),
            #[cfg(feature = "v4l2")]
            RawSensor::V4l2(raw) => SensorSettings::V4l2(raw.check(&table)?),
            #[cfg(feature = "iio")]
            RawSensor::Iio(raw) => SensorSettings::Iio(raw.check(&table)?),
            #[cfg(not(feature = "gpio"))]
            RawSensor::Gpio(Absent {}) => return Err(table.absent("gpio")),
            #[cfg(not(feature = "http"))]
            RawSensor::Http(Absent {}) => return Err(table.absent("http")),
            #[cfg(not(feature = "modbus"))]
            RawSensor::Modbus(Absent {}) => return Err(table.absent("modbus")),
            #[cfg(not(feature = "serial"))]
            RawSensor::Serial(Absent {}) => return Err(table.absent("serial")),
            #[cfg(not(feature = "iio"))]
            RawSensor::Iio(Absent {}) => return Err(table.absent("iio")),
            #[cfg(not(feature = "v4l2"))]
            RawSensor::V4l2(Absent {}) => return Err(table.absent("v4l2")),
        };
        sensors.insert(name, checked);
    }
    Ok(sensors)
}

/// The table of one sensor, and what holds for all of them.
struct Table<'a> {
    name: &'a str,
    max_frame_bytes: usize,
    runtime: &'a Path,
    device: &'a DeviceId,
    broker: &'a BrokerSettings,
    origin: &'a Origin,
}

impl Table<'_> {
    /// The largest content of a frame that the table allows, in bytes.
    fn max_frame(&self, given: Option<usize>) -> Result<usize, SettingsError> {
        let max_frame = given.unwrap_or(self.max_frame_bytes);
        if !(1..=self.max_frame_bytes).contains(&max_frame) {
            let allowed = format!("1 to {} (`limits.max_frame_bytes`)", self.max_frame_bytes);
            return Err(self.value("max_frame", max_frame, allowed));
        }
        Ok(max_frame)
    }

    /// Frames of so many bytes, as `key` makes them, are allowed.
    fn fits(&self, key: &str, bytes: usize) -> Result<(), SettingsError> {
        if bytes > self.max_frame_bytes {
            let allowed = format!("at most {} bytes a frame (`limits.max_frame_bytes`)", self.max_frame_bytes);
            return Err(self.value(key, format!("{bytes} bytes a frame"), allowed));
        }
        Ok(())
    }

    /// A value that is allowed.
    fn within<T: PartialOrd + Display + Copy>(
        &self,
        key: &str,
        value: T,
        allowed: RangeInclusive<T>,
        unit: &str,
    ) -> Result<T, SettingsError> {
        self.origin.range(&["sensor", self.name, key], value, allowed, unit)
    }

    /// The error for a value that is not allowed.
    fn value(&self, key: &str, value: impl ToString, allowed: impl ToString) -> SettingsError {
        self.origin.value(&["sensor", self.name, key], value, allowed)
    }

    /// The error for a kind whose feature, of the same name, is off.
    #[cfg(not(all(
        feature = "gpio",
        feature = "http",
        feature = "iio",
        feature = "modbus",
        feature = "serial",
        feature = "v4l2"
    )))]
    fn absent(&self, kind: &'static str) -> SettingsError {
        let file = self.origin.file(&["sensor", self.name]);
        SettingsError::Feature { file, sensor: self.name.to_owned(), kind }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
