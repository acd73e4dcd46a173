//! Sensors: where frames come from, one file a kind, behind one port.
//!
//! A [`Sensor`] is a task that yields frames into its [`Outlet`] for as long as the agent runs. It looks after itself: what fails
//! it reports through the outlet, and tries again with growing pauses. Whether its frames are taken is no concern of its: the
//! outlet never makes it wait.
//!
//! Invariants: no sensor parses images. Headers carry the sensor's own name and count whatever a writer claims.
//!
//! Limits: a frame is at most [`crate::frames::LARGEST`] bytes long, and what each kind says.

mod buffer;
mod content;
pub mod fake;
#[cfg(feature = "gpio")]
mod gpio;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "iio")]
mod iio;
mod lines;
#[cfg(feature = "modbus")]
pub mod modbus;
mod mqtt;
mod outlet;
#[cfg(feature = "serial")]
mod port;
mod process;
mod reach;
#[cfg(any(feature = "gpio", feature = "iio", feature = "v4l2"))]
mod ready;
mod replay;
#[cfg(feature = "serial")]
mod serial;
mod settings;
mod simulate;
mod socket;
mod sysfs;
#[cfg(feature = "v4l2")]
mod v4l2;
mod wire;

use std::{cell::RefCell, collections::BTreeMap, pin::Pin, rc::Rc, sync::Arc};

use sanderling_protocol::reported::SensorReport;
use tokio::task::JoinHandle;

use crate::{
    clock::Clock,
    frames::{FrameSink, Pool, SensorId, Sizes},
};
pub use content::Content;
#[cfg(feature = "gpio")]
pub use gpio::{Gpio, GpioBias, GpioEdges, GpioLine, GpioSettings};
#[cfg(feature = "http")]
pub use http::{Http, HttpSettings};
#[cfg(feature = "iio")]
pub use iio::{Iio, IioMode, IioSettings};
pub use lines::LineSettings;
pub use mqtt::{Mqtt, MqttSettings};
pub use outlet::Outlet;
#[cfg(feature = "serial")]
pub use port::PortSettings;
pub use process::{Process, ProcessFrames, ProcessSettings};
pub use replay::Replay;
#[cfg(feature = "serial")]
pub use serial::{Serial, SerialSettings};
pub use settings::{PixelFormat, RawImage, ReplaySettings, SeriesSettings, SocketSettings};
pub use simulate::{ChannelSettings, SceneSettings, SignalSettings, Simulate, SimulateSettings, Simulated, Wave};
pub use socket::Socket;
pub use sysfs::{Sysfs, SysfsFormat, SysfsSettings, SysfsValue};
#[cfg(feature = "serial")]
pub use tokio_serial::{DataBits, FlowControl, Parity, StopBits};
#[cfg(feature = "v4l2")]
pub use v4l2::{CameraPixel, V4l2, V4l2Settings};

/// The port: something that gives frames.
pub trait Sensor {
    /// The content of its largest frame, in bytes: rings and buffers are made for this.
    fn largest_frame(&self) -> usize;

    /// One sample of all channels, in bytes, where its frames are of a series: as much as can be told before they come.
    fn largest_sample(&self) -> usize {
        self.largest_frame()
    }

    /// Gives frames until it is dropped. Ends by itself only when it never has another frame to give.
    fn run(self: Box<Self>, outlet: Outlet) -> Pin<Box<dyn Future<Output = ()>>>;
}

/// The sensors of this agent, running. Dropping it ends them.
pub struct Sensors {
    running: Vec<Running>,
}

struct Running {
    name: String,
    sizes: Sizes,
    state: Rc<RefCell<outlet::State>>,
    task: JoinHandle<()>,
}

/// What sensors stand on.
#[derive(Clone)]
pub struct Ports {
    /// Where frames go.
    pub sink: Rc<dyn FrameSink>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Memory for frames.
    pub pool: Pool,
}

impl Sensors {
    /// Starts sensors, each under its name and the id that the router gave it. Must be called within a
    /// [`tokio::task::LocalSet`].
    pub fn start(sensors: impl IntoIterator<Item = (String, SensorId, Box<dyn Sensor>)>, ports: &Ports) -> Self {
        let running = sensors
            .into_iter()
            .map(|(name, id, sensor)| {
                let sizes = Sizes { frame: sensor.largest_frame(), sample: sensor.largest_sample() };
                let outlet = Outlet::new(&name, id, ports.clone());
                let state = outlet.state().clone();
                Running { name, sizes, state, task: tokio::task::spawn_local(sensor.run(outlet)) }
            })
            .collect();
        Self { running }
    }

    /// Each sensor as it is reported.
    pub fn reports(&self) -> Vec<SensorReport> {
        let report = |running: &Running| {
            let state = running.state.borrow();
            SensorReport {
                name: running.name.clone(),
                frames: state.frames,
                refused: state.refused,
                error: state.error(),
            }
        };
        self.running.iter().map(report).collect()
    }

    /// How large the frames of each sensor are at most, by its name.
    pub fn sizes(&self) -> BTreeMap<String, Sizes> {
        self.running.iter().map(|running| (running.name.clone(), running.sizes)).collect()
    }
}

impl Drop for Sensors {
    fn drop(&mut self) {
        for running in &self.running {
            running.task.abort();
        }
    }
}
