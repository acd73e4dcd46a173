//! A sensor that polls a Modbus device, over TCP or over a serial line (RTU).
//!
//! Each poll reads all points, in as few requests as possible, and gives one frame: a series of one sample with a channel for each value, or a JSON
//! object with the points' names. A poll that is not answered whole gives none. Nothing is polled, and no connection held, while no module
//! takes the frames.
//!
//! Failure modes: an exception that the device answers with is reported by its name, and it is polled on; a device that is gone, silent for
//! longer than the timeout, or does not keep to the protocol is connected anew with growing pauses, so that a late answer is never taken for that of a
//! later request.
//!
//! Limits: [`MOST_VALUES`] values; requests one after the other, each within the timeout and on a serial line after a silence. Modbus knows no authentication: whoever is on its
//! network can answer in the device's place.

mod plan;

use std::{io, pin::Pin, time::Duration};

use sanderling_guest::frame::{Format, FrameHeader, Kind};
use thiserror::Error;
use tokio::{
    net::TcpStream,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_modbus::{
    ExceptionCode, Request as Call, Response,
    client::{Client, Context},
    slave::{Slave, SlaveContext},
};

use self::plan::{Answer, Request};
pub use self::plan::{Function, MOST_BITS, MOST_REGISTERS, Point, ValueType, WordOrder};
use super::{
    Outlet, PortSettings, Sensor,
    content::{header, series_header},
    port::{self, PortError},
    reach::reach,
};
use crate::backoff::Backoff;

/// The most values of all points together.
pub const MOST_VALUES: usize = 4096;

/// A sensor that polls a Modbus device.
#[derive(Clone, Debug, PartialEq)]
pub struct ModbusSettings {
    /// Where the device is.
    pub way: Way,
    /// What is read.
    pub points: Vec<Point>,
    /// From poll to poll.
    pub interval: Duration,
    /// How long an answer, or a connection, may take.
    pub timeout: Duration,
    /// What a frame is.
    pub format: ModbusFormat,
}

/// The way to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Modbus TCP.
    Tcp {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// Modbus RTU.
    Rtu(PortSettings),
}

/// What a poll is given as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModbusFormat {
    /// One sample of a series of f32, a channel for each value.
    #[default]
    Series,
    /// An object, with the names of the points and their values, those of several in an array.
    Json,
}

/// Why a poll gives no frame.
#[derive(Debug, Error)]
enum ModbusError {
    #[error("{host}:{port}: no Modbus device answers there ({cause}); check `address`, the network and the device")]
    Absent { host: String, port: u16, cause: io::Error },
    #[error(transparent)]
    Port(#[from] PortError),
    #[error("{what}: no answer within {} s; check `unit`, the line's settings and the device", timeout.as_secs_f64())]
    Silent { what: String, timeout: Duration },
    #[error("{what}: the device answers with the exception \"{name}\"; {cure}")]
    Exception { what: String, name: String, cure: &'static str },
    #[error("{what}: {cause}; it is connected again")]
    Broken { what: String, cause: String },
}

/// The sensor.
pub struct Modbus {
    settings: ModbusSettings,
    requests: Vec<Request>,
}

impl Modbus {
    /// A sensor of checked settings.
    pub fn new(settings: ModbusSettings) -> Self {
        let requests = plan::requests(&settings.points);
        Self { settings, requests }
    }

    /// Whether somebody listens at the device's address, or its port is there. Nothing is asked of the device.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub fn probe(settings: &ModbusSettings) -> Result<String, String> {
        match &settings.way {
            Way::Rtu(port) => {
                port::probe(&port.device).map_err(|error| error.to_string())?;
                Ok(format!("{} is there and may be opened", port.device.display()))
            }
            Way::Tcp { host, port } => {
                reach(host, *port, settings.timeout)
                    .map_err(|cause| ModbusError::Absent { host: host.clone(), port: *port, cause }.to_string())?;
                Ok(format!("{host}:{port} takes connections"))
            }
        }
    }

    fn values(&self) -> usize {
        self.settings.points.iter().map(|point| usize::from(point.count)).sum()
    }
}

impl Sensor for Modbus {
    fn largest_frame(&self) -> usize {
        match self.settings.format {
            ModbusFormat::Series => self.values() * size_of::<f32>(),
            // A number takes 24 characters at most, and a comma.
            ModbusFormat::Json => {
                let names: usize = self.settings.points.iter().map(|point| point.name.len() + 8).sum();
                names + self.values() * 25 + 2
            }
        }
    }

    fn run(self: Box<Self>, outlet: Outlet) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move { self.run_on(&outlet).await })
    }
}

impl Modbus {
    async fn run_on(&self, outlet: &Outlet) {
        let mut backoff = Backoff::default();
        loop {
            outlet.until_wanted().await;
            if let Err(error) = self.serve(outlet, &mut backoff).await {
                outlet.failed(error.to_string());
                backoff.wait().await;
            }
        }
    }

    /// Polls one connection until it breaks, or nobody wants its frames.
    async fn serve(&self, outlet: &Outlet, backoff: &mut Backoff) -> Result<(), ModbusError> {
        let mut device = self.connect().await?;
        let mut poll =
            Poll { answers: Vec::with_capacity(self.requests.len()), bytes: Vec::with_capacity(self.largest_frame()) };
        let mut ticks = interval(self.settings.interval);
        // After an answer that took long, the next poll keeps its distance.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if !outlet.wanted() {
                return Ok(());
            }
            match self.ask(&mut device, &mut poll).await {
                Ok(()) => {
                    self.give(&mut poll, outlet);
                    backoff.reset();
                    outlet.well();
                }
                // The device is there; it may answer the next time.
                Err(error @ ModbusError::Exception { .. }) => outlet.failed(error.to_string()),
                Err(error) => return Err(error),
            }
        }
    }

    async fn connect(&self) -> Result<Context, ModbusError> {
        let (host, port) = match &self.settings.way {
            Way::Rtu(port) => return Ok(tokio_modbus::client::rtu::attach(port::open(port)?)),
            Way::Tcp { host, port } => (host, *port),
        };
        let connected = timeout(self.settings.timeout, TcpStream::connect((host.as_str(), port))).await;
        let stream = connected
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|cause| ModbusError::Absent { host: host.clone(), port, cause })?;
        Ok(tokio_modbus::client::tcp::attach(stream))
    }

    /// One poll. The answers lie in the order of the requests.
    async fn ask(&self, device: &mut Context, poll: &mut Poll) -> Result<(), ModbusError> {
        poll.answers.clear();
        for request in &self.requests {
            if let Way::Rtu(port) = &self.settings.way {
                sleep(silence(port.baud)).await;
            }
            device.set_slave(Slave(request.unit));
            let call = match request.function {
                Function::Holding => Call::ReadHoldingRegisters(request.address, request.count),
                Function::Input => Call::ReadInputRegisters(request.address, request.count),
                Function::Coil => Call::ReadCoils(request.address, request.count),
                Function::Discrete => Call::ReadDiscreteInputs(request.address, request.count),
            };
            // Not by `Reader`, whose functions have assertions on what the device answers.
            let answered = timeout(self.settings.timeout, device.call(call)).await;
            let what = || request.in_words();
            let silent = |_| ModbusError::Silent { what: what(), timeout: self.settings.timeout };
            let broken = |cause| ModbusError::Broken { what: what(), cause };
            let answer = match answered.map_err(silent)? {
                Ok(Ok(response)) => answer(response),
                Ok(Err(exception)) => return Err(refusal(what(), exception)),
                Err(error) => return Err(broken(in_words(&error))),
            };
            let answer = answer.filter(|answer| answer.answers(request));
            poll.answers.push(answer.ok_or_else(|| broken("the answer is not as long as was asked for".to_owned()))?);
        }
        Ok(())
    }

    fn give(&self, poll: &mut Poll, outlet: &Outlet) {
        poll.bytes.clear();
        let header = match self.settings.format {
            ModbusFormat::Series => self.samples(poll),
            ModbusFormat::Json => self.object(poll),
        };
        outlet.write(header, poll.bytes.len(), |room| room.copy_from_slice(&poll.bytes));
        outlet.flush();
    }

    fn samples(&self, poll: &mut Poll) -> FrameHeader {
        for (index, point) in self.settings.points.iter().enumerate() {
            for value in self.values_of(&poll.answers, index, point) {
                // Rounded to what a series holds.
                poll.bytes.extend_from_slice(&(value.number() as f32).to_le_bytes());
            }
        }
        series_header(poll.bytes.len() / size_of::<f32>(), 1, 1.0 / self.settings.interval.as_secs_f64())
    }

    fn object(&self, poll: &mut Poll) -> FrameHeader {
        poll.bytes.push(b'{');
        for (index, point) in self.settings.points.iter().enumerate() {
            if index > 0 {
                poll.bytes.push(b',');
            }
            // A name has no characters that JSON needs escaped.
            poll.bytes.push(b'"');
            poll.bytes.extend_from_slice(point.name.as_bytes());
            poll.bytes.extend_from_slice(if point.count > 1 { b"\":[" } else { b"\":" });
            for (at, value) in self.values_of(&poll.answers, index, point).enumerate() {
                if at > 0 {
                    poll.bytes.push(b',');
                }
                value.write(&mut poll.bytes);
            }
            if point.count > 1 {
                poll.bytes.push(b']');
            }
        }
        poll.bytes.push(b'}');
        header(Kind::Json, Format::None)
    }

    /// The values of a point, in order.
    fn values_of<'a>(
        &'a self,
        answers: &'a [Answer],
        index: usize,
        point: &'a Point,
    ) -> impl Iterator<Item = plan::Value> + use<'a> {
        let mut both = self.requests.iter().zip(answers);
        let of_point = both.find(|(request, _)| request.points.contains(&index));
        (0..point.count).filter_map(move |at| of_point.and_then(|(request, answer)| answer.value(request, point, at)))
    }
}

/// The silence on a serial line by which devices tell where a request begins: 3.5 characters of 11 bits, at high rates 1.75 ms.
fn silence(baud: u32) -> Duration {
    Duration::from_secs_f64(3.5 * 11.0 / f64::from(baud.max(1))).max(Duration::from_micros(1750))
}

/// What a poll is gathered in; the same memory for each.
struct Poll {
    answers: Vec<Answer>,
    bytes: Vec<u8>,
}

fn answer(response: Response) -> Option<Answer> {
    match response {
        Response::ReadHoldingRegisters(registers) | Response::ReadInputRegisters(registers) => {
            Some(Answer::Registers(registers))
        }
        Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits) => Some(Answer::Bits(bits)),
        _ => None,
    }
}

fn refusal(what: String, exception: ExceptionCode) -> ModbusError {
    use ExceptionCode as Code;
    let (name, cure) = match exception {
        Code::IllegalFunction => ("illegal function", "the device has no such table; correct `function`"),
        Code::IllegalDataAddress => ("illegal data address", "correct `address` and `count`; addresses start at 0"),
        Code::IllegalDataValue => ("illegal data value", "correct `count`"),
        Code::ServerDeviceFailure => ("server device failure", "see the device"),
        Code::Acknowledge => ("acknowledge", "the device is busy with it; it is polled again"),
        Code::ServerDeviceBusy => ("server device busy", "it is polled again"),
        Code::MemoryParityError => ("memory parity error", "see the device"),
        Code::GatewayPathUnavailable => ("gateway path unavailable", "correct `unit`, or the gateway's set-up"),
        Code::GatewayTargetDevice => {
            ("gateway target device failed to respond", "check `unit` and the device behind it")
        }
        Code::Custom(code) => {
            let name = format!("exception {code}");
            return ModbusError::Exception { what, name, cure: "see the device's manual" };
        }
    };
    ModbusError::Exception { what, name: name.to_owned(), cure }
}

fn in_words(error: &tokio_modbus::Error) -> String {
    match error {
        // The end of the stream, for which the library gives whatever error the system had last: none, or that nothing was there yet.
        tokio_modbus::Error::Transport(error)
            if error.raw_os_error() == Some(0) || error.kind() == io::ErrorKind::WouldBlock =>
        {
            "the device closed the connection".to_owned()
        }
        // What it carries is as long as the answer was.
        tokio_modbus::Error::Protocol(_) => "the answer is that of another request".to_owned(),
        tokio_modbus::Error::Transport(error) => error.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
