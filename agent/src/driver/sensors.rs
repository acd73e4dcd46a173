//! Makes the sensors that the configuration names.

use crate::{
    sensors::{Replay, Sensor, Socket},
    settings::SensorSettings,
};

/// The sensor that this part of the configuration describes.
pub(super) fn make(sensor: &SensorSettings) -> Box<dyn Sensor> {
    match sensor {
        SensorSettings::Replay(replay) => Box::new(Replay::new(replay.clone())),
        SensorSettings::Socket(socket) => Box::new(Socket::new(socket.clone())),
    }
}
