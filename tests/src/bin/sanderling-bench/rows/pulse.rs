//! A frame to a real worker, its record to a sink of kind `gpio`, and a line set; the line is a fake, since it is the way to it that is measured.

use std::{cell::RefCell, io, path::PathBuf, rc::Rc, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use sanderling_agent::{
    clock::{Clock, SystemClock},
    sinks::{GpioSettings, GpioSink, Line, LineAt, Lines, Origin, Record, Sink},
    workload::Records,
};
use tokio::sync::mpsc;

use super::workers::{Bench, PATIENCE, PAUSE, SINGLES, echo, emitting};
use crate::{
    measure::{Moment, median},
    report::Row,
};

/// Gives each record to the sink.
struct ToSink {
    sink: GpioSink,
    origin: Arc<Origin>,
    clock: Arc<SystemClock>,
}

impl Records for ToSink {
    fn record(&mut self, _module: &str, _channel: &str, seq: u64, captured_ns: Option<u64>, payload: &[u8]) {
        self.sink.take(&Record {
            origin: self.origin.clone(),
            seq,
            captured_ns,
            came_ns: self.clock.capture().mono_ns,
            at_ms: self.clock.wall_ms(),
            payload: payload.to_vec().into(),
        });
    }

    fn log(&mut self, module: &str, level: u8, text: &str) {
        eprintln!("{module} [{level}] {text}");
    }
}

/// A line that tells when it was set.
#[derive(Clone)]
struct Stamped(mpsc::UnboundedSender<Moment>);

impl Lines for Stamped {
    fn request(&self, _at: &LineAt, _active_low: bool) -> io::Result<Box<dyn Line>> {
        Ok(Box::new(self.clone()))
    }
}

impl Line for Stamped {
    fn set(&mut self, active: bool) -> io::Result<()> {
        if active {
            let _ = self.0.send(Moment::now());
        }
        Ok(())
    }
}

/// The row `pulse`.
pub(super) async fn measure(program: PathBuf) -> Result<Row> {
    let (set, mut sets) = mpsc::unbounded_channel();
    let (guard, _ended) = mpsc::channel(1);
    let clock = Arc::new(SystemClock::new());
    let settings = GpioSettings {
        at: LineAt::Name { chip: None, name: "bench".into() },
        active_low: false,
        pulse: Duration::from_micros(100),
        delay: Duration::ZERO,
        min_gap: Duration::ZERO,
        when: None,
    };
    let sink = GpioSink::start("bench", settings, Box::new(Stamped(set)), clock.clone(), guard)?;
    let origin = Arc::new(Origin { module: "guest".into(), channel: "out".into() });
    let mut bench = Bench::with(program, Rc::new(RefCell::new(ToSink { sink, origin, clock })), Rc::default())?;
    bench.run(emitting(&bench, 64)?).await?;
    let (mut ours, mut threads) = (vec![], vec![]);
    let (to, from) = echo();
    for _ in 0..SINGLES {
        let began = bench.offer(64).await?;
        let set = tokio::time::timeout(PATIENCE, sets.recv()).await.context("no pulse came")?;
        ours.push(set.context("the sink is gone")?.after(began) * 1e6);
        tokio::time::sleep(PAUSE).await;
        let began = Moment::now();
        to.send(())?;
        from.recv()?;
        threads.push(began.past() * 1e6);
    }
    let guest = bench.guest_us()?;
    bench.stop().await;
    let what =
        format!("one frame of 64 bytes to the worker, its record, and a line set, less the guest's own {guest} µs");
    Ok(Row::new("pulse", what, "µs", median(ours) - guest).beside("there and back between threads", median(threads)))
}
