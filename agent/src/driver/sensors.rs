//! Makes the sensors that the configuration names.

#[cfg(feature = "iio")]
use crate::sensors::Iio;
use crate::{
    sensors::{Replay, Sensor, Simulate, Socket, Sysfs},
    settings::SensorSettings,
};

/// The sensor that this part of the configuration describes.
pub(super) fn make(sensor: &SensorSettings) -> Box<dyn Sensor> {
    match sensor {
        SensorSettings::Replay(replay) => Box::new(Replay::new(replay.clone())),
        SensorSettings::Simulate(simulate) => Box::new(Simulate::new(simulate.clone())),
        SensorSettings::Sysfs(sysfs) => Box::new(Sysfs::new(sysfs.clone())),
        #[cfg(feature = "iio")]
        SensorSettings::Iio(iio) => Box::new(Iio::new(iio.clone())),
        SensorSettings::Socket(socket) => Box::new(Socket::new(socket.clone())),
    }
}
