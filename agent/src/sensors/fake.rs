//! Fakes for the sensors' port: a sensor that gives what it is told, and a bench that runs one.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use sanderling_guest::frame::FrameHeader;
use sanderling_protocol::reported::SensorReport;
use tokio::sync::mpsc;

use super::{Outlet, Ports, Sensor, Sensors};
use crate::{
    clock::{Clock, FakeClock},
    frames::{Frame, FrameSink, Pool, SensorId},
};

/// A sensor that gives what is sent to it, until the sender is gone.
pub struct FakeSensor {
    frames: mpsc::UnboundedReceiver<(FrameHeader, Vec<u8>)>,
    largest: usize,
}

impl FakeSensor {
    /// A sensor for frames of at most `largest` bytes, and the way to give it frames.
    pub fn new(largest: usize) -> (Self, mpsc::UnboundedSender<(FrameHeader, Vec<u8>)>) {
        let (sender, frames) = mpsc::unbounded_channel();
        (Self { frames, largest }, sender)
    }
}

impl Sensor for FakeSensor {
    fn largest_frame(&self) -> usize {
        self.largest
    }

    fn run(mut self: Box<Self>, outlet: Outlet) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move {
            while let Some((header, content)) = self.frames.recv().await {
                let Some(mut block) = outlet.pool().take(content.len()) else { continue };
                if let Some(room) = block.bytes_mut().and_then(|bytes| bytes.get_mut(..content.len())) {
                    room.copy_from_slice(&content);
                    outlet.give(header, &block, 0, content.len());
                    outlet.flush();
                }
            }
        })
    }
}

/// Remembers the frames of one sensor.
#[derive(Default)]
pub struct FakeSink {
    frames: RefCell<Vec<(FrameHeader, Vec<u8>)>>,
    count: Cell<usize>,
    unwanted: Cell<bool>,
}

impl FrameSink for FakeSink {
    fn frame(&self, _sensor: SensorId, frame: &Frame) {
        self.frames.borrow_mut().push((frame.header, frame.content().to_vec()));
        self.count.set(self.count.get() + 1);
    }

    fn wanted(&self, _sensor: SensorId) -> bool {
        !self.unwanted.get()
    }

    fn flush(&self) {}
}

/// Runs one sensor, named `cam0`, before a sink that remembers its frames.
pub struct Bench {
    sink: Rc<FakeSink>,
    pool: Pool,
    clock: Arc<dyn Clock>,
    sensors: RefCell<Option<Sensors>>,
}

impl Default for Bench {
    fn default() -> Self {
        Self {
            sink: Rc::default(),
            pool: Pool::new(1 << 20),
            clock: Arc::new(FakeClock::at(1_000_000)),
            sensors: RefCell::default(),
        }
    }
}

impl Bench {
    /// Runs `sensor` while `test` runs.
    pub async fn run(&self, sensor: Box<dyn Sensor>, test: impl AsyncFnOnce(&Self)) {
        let local = tokio::task::LocalSet::new();
        let ports = Ports { sink: self.sink.clone(), clock: self.clock.clone(), pool: self.pool.clone() };
        let run = async {
            let sensors = Sensors::start([("cam0".to_owned(), SensorId(0), sensor)], &ports);
            *self.sensors.borrow_mut() = Some(sensors);
            test(self).await;
            *self.sensors.borrow_mut() = None;
        };
        local.run_until(run).await;
        // Tasks that were aborted let go of what they hold when the set is dropped.
        drop(local);
    }

    /// The frames so far.
    pub fn frames(&self) -> Vec<(FrameHeader, Vec<u8>)> {
        self.sink.frames.borrow().clone()
    }

    /// How many frames there were so far.
    pub fn count(&self) -> usize {
        self.sink.count.get()
    }

    /// Whether anyone takes the frames.
    pub fn want(&self, wanted: bool) {
        self.sink.unwanted.set(!wanted);
    }

    /// The memory that frames lie in.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// What the sensor refused last, whatever else is wrong with it.
    pub fn refused(&self) -> Option<String> {
        let sensors = self.sensors.borrow();
        sensors.as_ref().and_then(|sensors| sensors.running.first()?.state.borrow().refusal())
    }

    /// The sensor as it is reported.
    pub fn report(&self) -> SensorReport {
        let sensors = self.sensors.borrow();
        let report = sensors.as_ref().and_then(|sensors| sensors.reports().pop());
        report.unwrap_or(SensorReport { name: "cam0".into(), frames: 0, refused: 0, error: None })
    }
}

/// Waits for a condition, letting other tasks run.
///
/// # Panics
/// When it does not hold within ten seconds.
pub async fn until(condition: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(condition(), "waited ten seconds in vain");
}
