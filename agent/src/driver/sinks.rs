//! Makes the sinks that the configuration names.

use std::{io, rc::Rc, sync::Arc};

use crate::{
    clock::Clock,
    settings::SinkSettings,
    sinks::{FileSink, Guard, Sink, SocketSink},
    store::disk::SystemDisk,
};

/// The sink that this part of the configuration describes.
///
/// # Errors
/// What the system says, where it gives no thread.
pub(super) fn make(
    name: &str,
    settings: &SinkSettings,
    clock: &Arc<dyn Clock>,
    guard: Guard,
) -> io::Result<Rc<dyn Sink>> {
    Ok(match settings {
        SinkSettings::File(file) => {
            Rc::new(FileSink::start(name, file.clone(), Arc::new(SystemDisk), clock.clone(), guard)?)
        }
        SinkSettings::Socket(socket) => Rc::new(SocketSink::start(name, socket.clone())),
        #[cfg(feature = "gpio")]
        SinkSettings::Gpio(gpio) => {
            let lines = Box::new(crate::sinks::KernelLines);
            Rc::new(crate::sinks::GpioSink::start(name, gpio.clone(), lines, clock.clone(), guard)?)
        }
        // Settings of this kind are refused where the feature is not there.
        #[cfg(not(feature = "gpio"))]
        SinkSettings::Gpio(_) => return Err(io::ErrorKind::Unsupported.into()),
    })
}
