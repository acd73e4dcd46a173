//! Makes the sensors that the configuration names.

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
    sensors::{Mqtt, Process, Replay, Sensor, Simulate, Socket, Sysfs},
    settings::SensorSettings,
};

/// The sensor that this part of the configuration describes.
pub(super) fn make(sensor: &SensorSettings) -> Box<dyn Sensor> {
    match sensor {
        #[cfg(feature = "http")]
        SensorSettings::Http(http) => Box::new(Http::new(http.clone())),
        #[cfg(feature = "modbus")]
        SensorSettings::Modbus(modbus) => Box::new(Modbus::new(modbus.clone())),
        SensorSettings::Mqtt(mqtt) => Box::new(Mqtt::new(mqtt.clone())),
        SensorSettings::Process(process) => Box::new(Process::new(process.clone())),
        SensorSettings::Replay(replay) => Box::new(Replay::new(replay.clone())),
        SensorSettings::Simulate(simulate) => Box::new(Simulate::new(simulate.clone())),
        SensorSettings::Sysfs(sysfs) => Box::new(Sysfs::new(sysfs.clone())),
        #[cfg(feature = "gpio")]
        SensorSettings::Gpio(gpio) => Box::new(Gpio::new(gpio.clone())),
        #[cfg(feature = "v4l2")]
        SensorSettings::V4l2(v4l2) => Box::new(V4l2::new(v4l2.clone())),
        #[cfg(feature = "iio")]
        SensorSettings::Iio(iio) => Box::new(Iio::new(iio.clone())),
        #[cfg(feature = "serial")]
        SensorSettings::Serial(serial) => Box::new(Serial::new(serial.clone())),
        SensorSettings::Socket(socket) => Box::new(Socket::new(socket.clone())),
    }
}
