//! Sinks: where records go beside the broker, one file a kind, behind one port.
//!
//! A [`Sink`] takes records on the frame path and never makes it wait: what it has to do it does in a thread or a task of its own,
//! behind a bounded queue. What it cannot take is dropped and counted by [`Cause`]. What fails it reports, and tries again with
//! growing pauses.
//!
//! [`Sinks`] knows which channel goes where: a table that is made once for each deployment. Records of the deployment before it
//! go where that one said, as long as both run; a channel that both have goes where the new one says. So it is with the outbox.
//!
//! Invariants: a record reaches each sink of its channel in the order in which the module emitted it. Nothing is stored for a
//! sink: what waits is lost with the agent, and a device that must not lose a record sends it to the broker too. A sink that a
//! stored deployment names and the configuration has no more takes nothing, and is reported for as long as it is named.
//!
//! Limits: [`MOST_WAITING`] records and [`MOST_WAITING_BYTES`] bytes wait for each thread.

pub mod fake;
mod file;
mod gate;
mod gpio;
mod lines;
mod queue;
mod settings;
mod socket;
mod tally;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    rc::Rc,
    sync::Arc,
};

use bytes::Bytes;
use sanderling_protocol::{
    deployment::{Deployment, MQTT},
    reported::SinkReport,
};
use tokio::sync::mpsc;

pub use file::FileSink;
#[cfg(feature = "gpio")]
pub use gpio::KernelLines;
pub use gpio::{FakeLines, GpioSink, Line, Lines};
pub use queue::{MOST_WAITING, MOST_WAITING_BYTES};
pub use settings::{Condition, FileSettings, FileSync, GpioSettings, LineAt, SocketFormat, SocketSettings, Test};
pub use socket::SocketSink;
pub use tally::{Cause, Tally};

use crate::clock::Clock;

/// A record on its way to sinks.
#[derive(Clone, Debug)]
pub struct Record {
    /// Who emitted it, and on which channel.
    pub origin: Arc<Origin>,
    /// The frame during which it was emitted; 0 from the start function.
    pub seq: u64,
    /// When that frame was captured, nanoseconds of the kernel's monotonic clock.
    pub captured_ns: Option<u64>,
    /// When it came, nanoseconds of the same clock.
    pub came_ns: u64,
    /// When it came, Unix milliseconds.
    pub at_ms: i64,
    /// What the module emitted.
    pub payload: Bytes,
}

/// A channel of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The module's name in the deployment.
    pub module: String,
    /// The channel.
    pub channel: String,
}

/// The port: something that takes records.
pub trait Sink {
    /// Takes a record, or drops it and counts that. Never waits.
    fn take(&self, record: &Record);

    /// How it does; the name is filled in by [`Sinks`].
    fn report(&self) -> SinkReport;
}

/// Kept by whatever of a sink must come to an end before the agent does: it ends when its [`Sink`] is dropped, and drops this last.
pub type Guard = mpsc::Sender<Infallible>;

/// The sinks of this agent, and which channel goes to which.
pub struct Sinks {
    clock: Arc<dyn Clock>,
    named: BTreeMap<String, Rc<dyn Sink>>,
    table: Table,
    before: Table,
    /// Sinks that a channel names and that there are not.
    missing: BTreeMap<String, Rc<Missing>>,
    ended: mpsc::Receiver<Infallible>,
}

/// Routes by module and channel.
type Table = BTreeMap<String, BTreeMap<String, Route>>;

struct Route {
    mqtt: bool,
    origin: Arc<Origin>,
    sinks: Vec<Rc<dyn Sink>>,
}

impl Sinks {
    /// Sinks by name, each made by `make` with a guard for its thread. Nothing goes to them before [`Sinks::configure`].
    ///
    /// # Errors
    /// The first that `make` gives.
    pub fn make<'a, S: 'a, E>(
        clock: Arc<dyn Clock>,
        settings: impl IntoIterator<Item = (&'a String, &'a S)>,
        mut make: impl FnMut(&str, &S, Guard) -> Result<Rc<dyn Sink>, E>,
    ) -> Result<Self, E> {
        let (guard, ended) = mpsc::channel(1);
        let mut named = BTreeMap::new();
        for (name, settings) in settings {
            named.insert(name.clone(), make(name, settings, guard.clone())?);
        }
        Ok(Self { clock, named, table: Table::new(), before: Table::new(), missing: BTreeMap::new(), ended })
    }

    /// From now on records go where this deployment says.
    pub fn configure(&mut self, deployment: &Deployment) {
        let mut table = Table::new();
        let mut missing = BTreeSet::new();
        for module in &deployment.modules {
            let route = |(channel, policy): (&String, &sanderling_protocol::deployment::Channel)| {
                let origin = Arc::new(Origin { module: module.name.clone(), channel: channel.clone() });
                let named = policy.sink.names().filter(|name| *name != MQTT);
                let sinks = named.map(|name| self.find(name, &mut missing)).collect();
                (channel.clone(), Route { mqtt: policy.sink.mqtt(), origin, sinks })
            };
            let routes = module.channels.iter().map(route).collect();
            table.insert(module.name.clone(), routes);
        }
        self.missing.retain(|name, _| missing.contains(name));
        self.before = std::mem::replace(&mut self.table, table);
    }

    fn find(&mut self, name: &str, missing: &mut BTreeSet<String>) -> Rc<dyn Sink> {
        if let Some(sink) = self.named.get(name) {
            return sink.clone();
        }
        missing.insert(name.to_owned());
        self.missing.entry(name.to_owned()).or_default().clone()
    }

    /// Gives a record to the sinks of its channel. Says whether the broker is one of them.
    pub fn take(&self, module: &str, channel: &str, seq: u64, captured_ns: Option<u64>, payload: &Bytes) -> bool {
        let Some(route) = self.route(module, channel) else { return true };
        if !route.sinks.is_empty() {
            let record = Record {
                origin: route.origin.clone(),
                seq,
                captured_ns,
                came_ns: self.clock.capture().mono_ns,
                at_ms: self.clock.wall_ms(),
                payload: payload.clone(),
            };
            route.sinks.iter().for_each(|sink| sink.take(&record));
        }
        route.mqtt
    }

    fn route(&self, module: &str, channel: &str) -> Option<&Route> {
        let mut tables = [&self.table, &self.before].into_iter();
        tables.find_map(|table| table.get(module)?.get(channel))
    }

    /// Each sink as it is reported.
    pub fn reports(&self) -> Vec<SinkReport> {
        let named = self.named.iter().map(|(name, sink)| SinkReport { name: name.clone(), ..sink.report() });
        let missing = self.missing.iter().map(|(name, sink)| SinkReport { name: name.clone(), ..sink.report() });
        named.chain(missing).collect()
    }

    /// Lets go of all sinks; ready when what waited for their threads is done with.
    pub fn end(&mut self) -> impl Future<Output = ()> + use<> {
        self.named.clear();
        self.table.clear();
        self.before.clear();
        let mut ended = std::mem::replace(&mut self.ended, mpsc::channel(1).1);
        async move { while ended.recv().await.is_some() {} }
    }
}

/// Stands for a sink that there is not.
#[derive(Default)]
struct Missing {
    tally: Tally,
}

impl Sink for Missing {
    fn take(&self, _record: &Record) {
        self.tally.came();
        self.tally.dropped(Cause::NoSink);
    }

    fn report(&self) -> SinkReport {
        let error = "the deployment names it, and the configuration has no such sink any more; add its table again";
        SinkReport { error: Some(error.to_owned()), ..self.tally.report() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::{fake::FakeSink, *};
    use crate::clock::FakeClock;

    fn deployment(channels: &[(&str, &str, serde_json::Value)]) -> Deployment {
        let module = |name: &str| {
            let of = channels.iter().filter(|(module, ..)| *module == name);
            let grants: Vec<String> = of.clone().map(|(_, channel, _)| format!("emit:{channel}")).collect();
            let channels: serde_json::Map<_, _> =
                of.map(|(_, channel, sink)| ((*channel).to_owned(), json!({ "sink": sink }))).collect();
            json!({ "name": name, "module": "modules/m/1.wasm", "input": [], "grants": grants, "channels": channels })
        };
        let names: BTreeSet<&str> = channels.iter().map(|(module, ..)| *module).collect();
        let modules: Vec<_> = names.into_iter().map(module).collect();
        let document = json!({ "schema": "sanderling.deployment/1", "name": "d", "modules": modules });
        Deployment::parse(document.to_string().as_bytes()).unwrap()
    }

    /// The sinks `log` and `live`.
    fn sinks() -> (Sinks, Rc<FakeSink>, Rc<FakeSink>) {
        let (log, live) = (FakeSink::new(), FakeSink::new());
        let settings: BTreeMap<String, Rc<FakeSink>> =
            [("log".to_owned(), log.clone()), ("live".to_owned(), live.clone())].into();
        let clock = Arc::new(FakeClock::at(5_000));
        clock.advance(std::time::Duration::from_millis(2));
        let made = Sinks::make::<_, Infallible>(clock, &settings, |_, sink, _| Ok(sink.clone()));
        (made.unwrap(), log, live)
    }

    fn take(sinks: &Sinks, module: &str, channel: &str) -> bool {
        sinks.take(module, channel, 3, Some(1_000_000), &Bytes::from(format!("{module}/{channel}")))
    }

    #[test]
    fn records_go_to_the_sinks_of_their_channel_and_no_others() {
        let (mut sinks, log, live) = sinks();
        sinks.configure(&deployment(&[
            ("a", "x", json!(["mqtt", "log", "live"])),
            ("a", "y", json!("log")),
            ("b", "x", json!("mqtt")),
        ]));
        assert!(take(&sinks, "a", "x"));
        assert!(!take(&sinks, "a", "y"), "not to the broker");
        assert!(take(&sinks, "b", "x"));
        let told = |sink: &FakeSink| sink.records().into_iter().map(|(_, _, payload)| payload).collect::<Vec<_>>();
        assert_eq!(told(&log), [b"a/x", b"a/y"]);
        assert_eq!(told(&live), [b"a/x"]);
        let record = live.last().unwrap();
        assert_eq!((record.seq, record.captured_ns, record.came_ns), (3, Some(1_000_000), 2_000_000));
        assert_eq!(record.at_ms, 5_002);
    }

    #[test]
    fn the_deployment_before_goes_on_where_the_new_one_does_not_say_otherwise() {
        let (mut sinks, log, live) = sinks();
        sinks.configure(&deployment(&[("a", "x", json!("log")), ("a", "y", json!("log"))]));
        sinks.configure(&deployment(&[("a", "x", json!("live"))]));
        assert!(!take(&sinks, "a", "x"));
        assert!(!take(&sinks, "a", "y"));
        assert_eq!((log.records().len(), live.records().len()), (1, 1));
        sinks.configure(&deployment(&[("b", "x", json!("live"))]));
        assert!(take(&sinks, "a", "y"), "what no deployment that runs names goes to the broker");
    }

    #[test]
    fn a_sink_that_is_gone_from_the_configuration_is_reported_while_it_is_named() {
        let (mut sinks, log, _) = sinks();
        sinks.configure(&deployment(&[("a", "x", json!(["gone", "log"]))]));
        assert!(!take(&sinks, "a", "x"));
        assert_eq!(log.records().len(), 1);
        let reports = sinks.reports();
        assert_eq!(reports.iter().map(|report| report.name.as_str()).collect::<Vec<_>>(), ["live", "log", "gone"]);
        assert_eq!(reports[2].dropped, BTreeMap::from([("no_sink".to_owned(), 1)]));
        assert!(reports[2].error.as_ref().unwrap().contains("add its table"));
        sinks.configure(&deployment(&[("a", "x", json!("log"))]));
        assert_eq!(sinks.reports().len(), 2);
    }
}
