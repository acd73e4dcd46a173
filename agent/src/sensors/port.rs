//! Serial ports, for the sensors that read one.
//!
//! Invariants: a port is raw, without flow control unless it is set, and ours alone while it is open. It is read as
//! [`tokio::io::AsyncRead`]: `SerialStream::readable` never waits again once the port was readable.
//!
//! Failure modes: [`PortError`], which names the device and what to do.

use std::{
    io,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use thiserror::Error;
use tokio_serial::{ClearBuffer, DataBits, FlowControl, Parity, SerialPort, SerialStream, StopBits};

/// Which port, and how it speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSettings {
    /// The device, such as `/dev/ttyUSB0`, or better a name below `/dev/serial/by-id`.
    pub device: PathBuf,
    /// Bits a second.
    pub baud: u32,
    /// Bits a character.
    pub data_bits: DataBits,
    /// What is sent beside them.
    pub parity: Parity,
    /// Their end.
    pub stop_bits: StopBits,
    /// How the other side is held up.
    pub flow: FlowControl,
}

/// Why a port cannot be used.
#[derive(Debug, Error)]
pub(super) enum PortError {
    #[error("{device}: there is no such device; check that it is plugged in, and `device`", device = device.display())]
    Absent { device: PathBuf },
    #[error("{device}: permission denied; let the agent's user into the group that owns it (`dialout`)", device = device.display())]
    Denied { device: PathBuf },
    #[error("{device}: another program has it open; stop that, or set another `device`", device = device.display())]
    Busy { device: PathBuf },
    #[error("{device}: it is no terminal device; correct `device`", device = device.display())]
    NoTerminal { device: PathBuf },
    #[error("{device}: {cause}; check `baud` and what else is set for it", device = device.display())]
    Open { device: PathBuf, cause: String },
}

/// Opens the port, and throws away what came before.
pub(super) fn open(settings: &PortSettings) -> Result<SerialStream, PortError> {
    let device = settings.device.clone();
    probe(&device)?;
    let builder = tokio_serial::new(device.to_string_lossy(), settings.baud)
        .data_bits(settings.data_bits)
        .parity(settings.parity)
        .stop_bits(settings.stop_bits)
        .flow_control(settings.flow);
    let port = SerialStream::open(&builder).map_err(|error| match error.kind() {
        tokio_serial::ErrorKind::NoDevice => PortError::Busy { device: device.clone() },
        tokio_serial::ErrorKind::Io(io::ErrorKind::NotFound) => PortError::Absent { device: device.clone() },
        tokio_serial::ErrorKind::Io(io::ErrorKind::PermissionDenied) => PortError::Denied { device: device.clone() },
        _ => PortError::Open { device: device.clone(), cause: error.to_string() },
    })?;
    port.clear(ClearBuffer::Input).map_err(|error| PortError::Open { device, cause: error.to_string() })?;
    Ok(port)
}

/// Whether there is such a device and it may be opened, found out without opening it: that would raise its modem lines, which resets some
/// devices.
pub(super) fn probe(device: &Path) -> Result<(), PortError> {
    let device = || device.to_owned();
    let about = std::fs::metadata(device()).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => PortError::Absent { device: device() },
        io::ErrorKind::PermissionDenied => PortError::Denied { device: device() },
        _ => PortError::Open { device: device(), cause: error.to_string() },
    })?;
    if !about.file_type().is_char_device() {
        return Err(PortError::NoTerminal { device: device() });
    }
    rustix::fs::access(device(), rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK)
        .map_err(|_| PortError::Denied { device: device() })
}
