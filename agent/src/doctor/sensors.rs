//! Whether each sensor's device, file or address is there and can be opened.
//!
//! A kind of sensor is examined by one function of its own, which [`examine_one`] names. It opens what the sensor opens, waits for nothing, and
//! changes nothing: no frame is taken from a device that the running agent reads.

use std::{
    fs, io,
    os::unix::{fs::FileTypeExt, net::UnixStream},
    path::Path,
};

use super::{Finding, Outcome};
#[cfg(feature = "gpio")]
use crate::sensors::Gpio;
#[cfg(feature = "http")]
use crate::sensors::Http;
#[cfg(feature = "iio")]
use crate::sensors::Iio;
#[cfg(feature = "serial")]
use crate::sensors::Serial;
#[cfg(feature = "v4l2")]
use crate::sensors::V4l2;
#[cfg(feature = "modbus")]
use crate::sensors::modbus::Modbus;
use crate::{
    sensors::{Mqtt, Process, Replay, Simulate, Sysfs},
    settings::{SensorSettings, Settings},
};

const AREA: &str = "sensors";

/// What was found of one sensor, in words.
type Found = (Outcome, String);

/// Looks at every sensor; `agent_runs` where the agent holds its devices and sockets at this moment.
pub(super) fn examine(settings: &Settings, agent_runs: bool) -> Vec<Finding> {
    let one = |(name, sensor): (&String, &SensorSettings)| {
        let (kind, (outcome, says)) = examine_one(sensor, agent_runs);
        Finding { area: AREA, check: kind, outcome, says: format!("{name}: {says}") }
    };
    settings.sensors.iter().map(one).collect()
}

fn examine_one(sensor: &SensorSettings, agent_runs: bool) -> (&'static str, Found) {
    match sensor {
        SensorSettings::Replay(replay) => ("replay", probed(Replay::probe(replay))),
        SensorSettings::Socket(socket) => ("socket", examine_socket(&socket.path, agent_runs)),
        SensorSettings::Simulate(simulate) => ("simulate", probed(Simulate::probe(simulate))),
        SensorSettings::Sysfs(sysfs) => ("sysfs", probed(Sysfs::probe(sysfs))),
        SensorSettings::Mqtt(mqtt) => ("mqtt", probed(Mqtt::probe(mqtt))),
        SensorSettings::Process(process) => ("process", probed(Process::probe(process))),
        #[cfg(feature = "http")]
        SensorSettings::Http(http) => ("http", probed(Http::probe(http))),
        #[cfg(feature = "modbus")]
        SensorSettings::Modbus(modbus) => ("modbus", probed(Modbus::probe(modbus))),
        #[cfg(feature = "serial")]
        SensorSettings::Serial(serial) => ("serial", probed(Serial::probe(serial))),
        #[cfg(feature = "gpio")]
        SensorSettings::Gpio(gpio) => ("gpio", probed(Gpio::probe(gpio))),
        #[cfg(feature = "iio")]
        SensorSettings::Iio(iio) => ("iio", probed(Iio::probe(iio))),
        #[cfg(feature = "v4l2")]
        SensorSettings::V4l2(v4l2) => ("v4l2", probed(V4l2::probe(v4l2))),
    }
}

/// What the kind itself has found.
fn probed(found: Result<String, String>) -> Found {
    match found {
        Ok(says) => (Outcome::Good, says),
        Err(says) => (Outcome::Bad, says),
    }
}

fn examine_socket(path: &Path, agent_runs: bool) -> Found {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => parent(path),
        Err(error) => (Outcome::Bad, format!("{} cannot be looked at: {error}", path.display())),
        Ok(found) if !found.file_type().is_socket() => {
            (Outcome::Bad, format!("{} is no socket; remove it, or set another `path`", path.display()))
        }
        Ok(_) if agent_runs => (Outcome::Good, format!("the agent has {}", path.display())),
        Ok(_) if UnixStream::connect(path).is_ok() => {
            (Outcome::Bad, format!("another program listens at {}; stop it, or set another `path`", path.display()))
        }
        Ok(_) => (Outcome::Good, format!("{} is left over and will be replaced", path.display())),
    }
}

/// The folder that a socket will be made in.
fn parent(path: &Path) -> Found {
    match path.parent() {
        Some(folder) if folder.is_dir() => (Outcome::Good, format!("{} can be made", path.display())),
        _ => (Outcome::Lacking, format!("the folder of {} is not there; the service manager makes it", path.display())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_socket_must_be_free_or_the_agents() {
        let folder = tempfile::tempdir().unwrap();
        let found = |name: &str, runs| examine_socket(&folder.path().join(name), runs).0;
        assert_eq!((found("s", false), found("none/s", false)), (Outcome::Good, Outcome::Lacking));
        let theirs = UnixListener::bind(folder.path().join("s")).unwrap();
        assert_eq!((found("s", true), found("s", false)), (Outcome::Good, Outcome::Bad));
        drop(theirs);
        assert_eq!(found("s", false), Outcome::Good, "nobody listens any more");
        fs::write(folder.path().join("f"), "x").unwrap();
        assert_eq!(found("f", true), Outcome::Bad);
    }
}
