//! A sensor that reads lines from a serial port.
//!
//! What comes before the first delimiter after the port was opened may be the end of a line, and is passed over. Reading never stalls: lines
//! that no module takes are dropped by the policy of its input.
//!
//! Failure modes: a port that cannot be opened, or fails, is reported and tried again with growing pauses: a device that is unplugged and plugged
//! in again goes on. Lines that are too long, torn or not of their format are refused and counted ([`super::lines`]).
//!
//! Limits: a buffer of 64 KiB, or of the longest line.

use std::pin::Pin;

use tokio::io::AsyncReadExt;

use super::{
    LineSettings, Outlet, PortSettings, Sensor,
    buffer::Buffer,
    lines::Lines,
    port::{self, PortError},
};
use crate::backoff::Backoff;

/// A sensor that reads lines from a serial port.
#[derive(Clone, Debug, PartialEq)]
pub struct SerialSettings {
    /// Where from.
    pub port: PortSettings,
    /// What a line is.
    pub lines: LineSettings,
}

/// The sensor.
pub struct Serial {
    settings: SerialSettings,
}

impl Serial {
    /// A sensor of checked settings.
    pub fn new(settings: SerialSettings) -> Self {
        Self { settings }
    }

    /// Whether the port is there and may be opened; it is not touched.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub fn probe(settings: &SerialSettings) -> Result<String, String> {
        port::probe(&settings.port.device).map_err(|error| error.to_string())?;
        Ok(format!("{} is there and may be opened", settings.port.device.display()))
    }
}

impl Sensor for Serial {
    fn largest_frame(&self) -> usize {
        self.settings.lines.largest_frame()
    }

    fn run(self: Box<Self>, outlet: Outlet) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move { run(&self.settings, &outlet).await })
    }
}

async fn run(settings: &SerialSettings, outlet: &Outlet) {
    let mut backoff = Backoff::default();
    loop {
        let error = read(settings, outlet, &mut backoff).await;
        outlet.failed(error.to_string());
        backoff.wait().await;
    }
}

/// Reads until the port fails.
async fn read(settings: &SerialSettings, outlet: &Outlet, backoff: &mut Backoff) -> PortError {
    let mut port = match port::open(&settings.port) {
        Ok(port) => port,
        Err(error) => return error,
    };
    let failed = |cause: String| PortError::Open { device: settings.port.device.clone(), cause };
    outlet.well();
    let mut buffer = Buffer::default();
    let mut lines = Lines::in_the_midst(settings.lines.clone());
    let cause = loop {
        let room = match buffer.room(outlet.pool()) {
            Ok(room) => room,
            Err(error) => break error.to_string(),
        };
        match port.read(room).await {
            // A terminal that was hung up.
            Ok(0) => break "it was unplugged".to_owned(),
            Ok(count) => {
                buffer.filled(count);
                lines.give(&mut buffer, outlet);
                outlet.flush();
                backoff.reset();
            }
            Err(error) => break error.to_string(),
        }
    };
    lines.end(&mut buffer, outlet);
    failed(cause)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use std::{
        fs::File,
        io::Write,
        os::unix::fs::symlink,
        path::{Path, PathBuf},
    };

    use rustix::pty::OpenptFlags;

    use super::*;
    use crate::sensors::{
        Content,
        fake::{Bench, until},
        lines::tests::settings as lines,
    };

    /// The device's end of a pseudo-terminal, and the name of the other.
    pub(in crate::sensors) fn pair() -> (File, PathBuf) {
        let device = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        rustix::pty::grantpt(&device).unwrap();
        rustix::pty::unlockpt(&device).unwrap();
        let name = rustix::pty::ptsname(&device, Vec::new()).unwrap();
        (File::from(device), PathBuf::from(name.to_str().unwrap()))
    }

    pub(in crate::sensors) fn port(device: &Path) -> PortSettings {
        PortSettings {
            device: device.to_owned(),
            baud: 115_200,
            data_bits: tokio_serial::DataBits::Eight,
            parity: tokio_serial::Parity::None,
            stop_bits: tokio_serial::StopBits::One,
            flow: tokio_serial::FlowControl::None,
        }
    }

    fn serial(device: &Path, content: Content) -> Box<Serial> {
        Box::new(Serial::new(SerialSettings { port: port(device), lines: lines(content, 64) }))
    }

    /// Writes until the sensor has seen a delimiter: what was written before it opened the port is thrown away.
    async fn synchronise(bench: &Bench, device: &File) {
        let before = bench.count();
        until(|| {
            { device }.write_all(b"\n0\n").unwrap();
            bench.count() > before
        })
        .await;
    }

    fn contents(bench: &Bench) -> Vec<Vec<u8>> {
        bench.frames().into_iter().map(|(_, content)| content).filter(|content| content != b"0").collect()
    }

    #[tokio::test]
    async fn gives_the_lines_of_a_device() {
        let (mut device, name) = pair();
        Bench::default()
            .run(serial(&name, Content::Bytes), async |bench| {
                synchronise(bench, &device).await;
                device.write_all(b"$GPGGA,1\r\n\x00\x03\x04raw\n").unwrap();
                device.write_all(b"in ").unwrap();
                device.write_all(b"parts\n").unwrap();
                until(|| contents(bench).len() == 3).await;
                assert_eq!(contents(bench), [&b"$GPGGA,1"[..], b"\x00\x03\x04raw", b"in parts"]);
                assert_eq!(bench.report().error, None);
            })
            .await;
    }

    #[tokio::test]
    async fn refuses_lines_that_are_too_long_and_goes_on() {
        let (mut device, name) = pair();
        Bench::default()
            .run(serial(&name, Content::Json), async |bench| {
                synchronise(bench, &device).await;
                device.write_all(&[b'x'; 3000]).unwrap();
                device.write_all(b"\n{\"a\":1}\n").unwrap();
                until(|| contents(bench).len() == 1).await;
                let error = bench.report().error.unwrap();
                assert!(error.contains("longer than 64 bytes") && error.contains("(1 refused"), "{error}");
            })
            .await;
    }

    #[tokio::test]
    async fn a_device_that_is_unplugged_and_plugged_in_again_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("ttyUSB0");
        let (mut device, name) = pair();
        symlink(&name, &link).unwrap();
        Bench::default()
            .run(serial(&link, Content::Bytes), async |bench| {
                synchronise(bench, &device).await;
                device.write_all(b"mark\nhalf a li").unwrap();
                until(|| contents(bench) == [b"mark"]).await;
                drop(device);
                std::fs::remove_file(&link).unwrap();
                until(|| bench.report().error.is_some_and(|error| error.contains("no such device"))).await;
                assert!(bench.refused().unwrap().contains("torn"));
                let (mut device, name) = pair();
                symlink(&name, &link).unwrap();
                synchronise(bench, &device).await;
                device.write_all(b"whole\n").unwrap();
                until(|| contents(bench) == [&b"mark"[..], b"whole"]).await;
            })
            .await;
    }

    #[tokio::test]
    async fn says_what_is_wrong_with_a_device() {
        let said = |path: &Path| {
            let settings = SerialSettings { port: port(path), lines: lines(Content::Bytes, 64) };
            Serial::probe(&settings).unwrap_err()
        };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        File::create(&file).unwrap();
        assert!(said(&folder.path().join("none")).contains("plugged in"));
        assert!(said(&file).contains("no terminal"));
        let (_device, name) = pair();
        let _held = port::open(&port(&name)).unwrap();
        let error = port::open(&port(&name)).unwrap_err();
        assert!(error.to_string().contains("another program"), "{error}");
    }

    #[tokio::test]
    async fn steady_lines_use_the_same_memory_again() {
        let (mut device, name) = pair();
        Bench::default()
            .run(serial(&name, Content::Csv { rate_hz: 0.0 }), async |bench| {
                synchronise(bench, &device).await;
                let made = bench.pool().made();
                let rows = || bench.frames().iter().filter(|(header, _)| header.channels == 3).count();
                for round in 1..=20 {
                    device.write_all(b"1,2,3\n4,5,6\n").unwrap();
                    until(|| rows() == 2 * round).await;
                }
                assert_eq!(bench.pool().made(), made);
            })
            .await;
    }
}
