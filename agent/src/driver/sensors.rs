//! Makes the sensors that the configuration names.

#[cfg(feature = "gpio")]
use crate::sensors::Gpio;
#[cfg(feature = "iio")]
use crate::sensors::Iio;
#[cfg(feature = "v4l2")]
use crate::sensors::V4l2;
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
        #[cfg(feature = "gpio")]
        SensorSettings::Gpio(gpio) => Box::new(Gpio::new(gpio.clone())),
        #[cfg(feature = "v4l2")]
        SensorSettings::V4l2(v4l2) => Box::new(V4l2::new(v4l2.clone())),
        #[cfg(feature = "iio")]
        SensorSettings::Iio(iio) => Box::new(Iio::new(iio.clone())),
        SensorSettings::Socket(socket) => Box::new(Socket::new(socket.clone())),
    }
}
