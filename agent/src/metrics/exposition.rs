//! Figures in the text form of OpenMetrics.

use std::fmt::Error;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet, text::encode},
    metrics::MetricType,
    registry::{Registry, Unit},
};
use sanderling_protocol::{reported::ModuleState, worker::Metric};

use super::Figures;
use crate::workload::memory::Machine;

const PREFIX: &str = "sanderling";
/// Every state of a module, as it is reported.
const STATES: [(ModuleState, &str); 5] = [
    (ModuleState::Starting, "starting"),
    (ModuleState::Running, "running"),
    (ModuleState::Faulted, "faulted"),
    (ModuleState::Quarantined, "quarantined"),
    (ModuleState::Stopped, "stopped"),
];

/// The figures as a scraper reads them; the memory of processes is read here.
pub(super) fn text(figures: Figures, machine: &Machine) -> Result<String, Error> {
    let mut processes = Vec::new();
    let workers = figures.modules.iter().filter_map(|module| Some((module.report.name.clone(), module.report.pid?)));
    for (process, pid) in workers.chain([("agent".to_owned(), std::process::id())]) {
        processes.extend(machine.held(pid).map(|(kind, bytes)| Process { process, kind, bytes }));
    }
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Gathered { figures, processes }));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// What a process holds in memory.
#[derive(Debug)]
struct Process {
    /// The module that it runs, or `agent`.
    process: String,
    kind: &'static str,
    bytes: u64,
}

#[derive(Debug)]
struct Gathered {
    figures: Figures,
    processes: Vec<Process>,
}

impl Collector for Gathered {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut out = Out(encoder);
        out.agent(self)?;
        out.modules(self)?;
        out.guests(self)?;
        out.sensors(self)?;
        out.sinks(&self.figures)?;
        out.link_and_disk(&self.figures)
    }
}

struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn family(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        kind: MetricType,
        samples: impl FnOnce(MetricEncoder<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        samples(self.0.encode_descriptor(name, help, unit, kind)?)
    }

    /// A counter with a value for each set of labels.
    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, f64)>,
    ) -> Result<(), Error> {
        self.family(name, help, None, MetricType::Counter, |mut family| {
            samples.into_iter().try_for_each(|(labels, value)| {
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, f64, f64>(&value, None)
            })
        })
    }

    /// A gauge with a value for each set of labels.
    fn gauges<L: EncodeLabelSet>(
        &mut self,
        (name, unit): (&str, Option<&Unit>),
        help: &str,
        samples: impl IntoIterator<Item = (L, f64)>,
    ) -> Result<(), Error> {
        self.family(name, help, unit, MetricType::Gauge, |mut family| {
            samples.into_iter().try_for_each(|(labels, value)| family.encode_family(&labels)?.encode_gauge(&value))
        })
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> Result<(), Error> {
        self.family(name, help, None, MetricType::Counter, |mut family| {
            family.encode_counter::<NoLabelSet, u64, f64>(&value, None)
        })
    }

    fn gauge(&mut self, (name, unit): (&str, Option<&Unit>), help: &str, value: f64) -> Result<(), Error> {
        self.family(name, help, unit, MetricType::Gauge, |mut family| family.encode_gauge(&value))
    }

    fn agent(&mut self, gathered: &Gathered) -> Result<(), Error> {
        self.family("agent", "The agent's version.", None, MetricType::Info, |mut family| {
            family.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
        })?;
        let held = gathered.processes.iter();
        self.gauges(
            ("process_memory", Some(&Unit::Bytes)),
            "What the agent and each worker hold in memory: their share of it (pss), or all that they map (rss) where the kernel does not tell that.",
            held.map(|held| ([("process", held.process.as_str()), ("kind", held.kind)], float(held.bytes))),
        )
    }

    fn modules(&mut self, gathered: &Gathered) -> Result<(), Error> {
        let modules = || gathered.figures.modules.iter();
        self.gauges(
            ("module_state", None),
            "1 for the state that a module is in, 0 for the others.",
            modules().flat_map(|module| {
                STATES.map(|(state, name)| {
                    let labels = [("module", module.report.name.as_str()), ("state", name)];
                    (labels, if module.report.state == state { 1.0 } else { 0.0 })
                })
            }),
        )?;
        let by_name = |value: fn(&crate::workload::ModuleFigures) -> u64| {
            modules().map(move |module| ([("module", module.report.name.as_str())], float(value(module))))
        };
        self.counters("frames", "Frames that a module has handled.", by_name(|module| module.report.frames))?;
        self.counters(
            "frames_dropped",
            "Frames that did not come to a module, by cause.",
            modules().flat_map(|module| {
                let name = module.report.name.as_str();
                module.drops.iter().map(move |(cause, count)| ([("module", name), ("cause", *cause)], float(*count)))
            }),
        )?;
        self.family(
            "frame_duration",
            "From the moment a worker took a frame to its guest's return.",
            Some(&Unit::Seconds),
            MetricType::Histogram,
            |mut family| {
                modules().try_for_each(|module| {
                    let buckets: Vec<(f64, u64)> = module.latency.buckets().collect();
                    family.encode_family(&[("module", module.report.name.as_str())])?.encode_histogram::<NoLabelSet>(
                        module.latency.sum_s(),
                        module.latency.count(),
                        &buckets,
                        None,
                    )
                })
            },
        )?;
        self.counters("fuel", "Fuel that frames of a module have used.", by_name(|module| module.fuel))?;
        self.counters(
            "faults",
            "Faults of a module, by code.",
            modules().flat_map(|module| {
                let name = module.report.name.as_str();
                let faults = module.faults.iter();
                faults.map(move |(code, count)| {
                    ([("module", name.to_owned()), ("code", code.to_string())], float(*count))
                })
            }),
        )?;
        self.counters("restarts", "Restarts of a module.", by_name(|module| module.report.restarts))
    }

    fn guests(&mut self, gathered: &Gathered) -> Result<(), Error> {
        let metrics = || {
            gathered.figures.modules.iter().flat_map(|module| {
                let name = module.report.name.as_str();
                module
                    .report
                    .metrics
                    .iter()
                    .map(move |(metric, value)| ([("module", name), ("name", metric.as_str())], value))
            })
        };
        self.counters(
            "guest_counter",
            "What a guest counts, by its own names.",
            metrics().filter_map(|(labels, metric)| match metric {
                Metric::Counter(value) => Some((labels, *value)),
                Metric::Gauge(_) => None,
            }),
        )?;
        self.gauges(
            ("guest_gauge", None),
            "What a guest measures, by its own names.",
            metrics().filter_map(|(labels, metric)| match metric {
                Metric::Gauge(value) => Some((labels, *value)),
                Metric::Counter(_) => None,
            }),
        )
    }

    fn sensors(&mut self, gathered: &Gathered) -> Result<(), Error> {
        let sensors = || gathered.figures.sensors.iter();
        self.counters(
            "sensor_frames",
            "Frames that a sensor gave.",
            sensors().map(|sensor| ([("sensor", sensor.name.as_str())], float(sensor.frames))),
        )?;
        self.gauges(
            ("sensor_failing", None),
            "1 where something keeps a sensor from giving frames.",
            sensors()
                .map(|sensor| ([("sensor", sensor.name.as_str())], if sensor.error.is_some() { 1.0 } else { 0.0 })),
        )
    }

    fn sinks(&mut self, figures: &Figures) -> Result<(), Error> {
        let sinks = || figures.sinks.iter();
        self.counters(
            "sink_records",
            "Records that came to a sink of the device.",
            sinks().map(|sink| ([("sink", sink.name.as_str())], float(sink.records))),
        )?;
        self.counters(
            "sink_dropped",
            "Those of them that it lost, by cause.",
            sinks().flat_map(|sink| {
                let dropped = sink.dropped.iter();
                dropped.map(|(cause, count)| ([("sink", sink.name.as_str()), ("cause", cause.as_str())], float(*count)))
            }),
        )
    }

    fn link_and_disk(&mut self, figures: &Figures) -> Result<(), Error> {
        let Figures { outbox, storage, counts, .. } = figures;
        self.gauge(("outbox_records", None), "Records that wait for the link.", float(outbox.records))?;
        self.gauge(("outbox_size", Some(&Unit::Bytes)), "What they take.", float(outbox.bytes))?;
        self.counter("outbox_dropped", "Records that were dropped by policy.", outbox.dropped)?;
        let connected = if figures.connected { 1.0 } else { 0.0 };
        self.gauge(("link_connected", None), "1 while there is a connection to the broker.", connected)?;
        self.counter("link_connects", "Connections to the broker that stood.", counts.connects)?;
        self.counter("link_failures", "Connections that were lost or could not be made.", counts.link_failures)?;
        let expires = figures.certificate_expires.map(|at| ([("", ""); 0], at as f64));
        self.gauges(
            ("certificate_expiry_timestamp", Some(&Unit::Seconds)),
            "When this device's certificate expires, in seconds since 1970.",
            expires,
        )?;
        self.counter("pull_chunks", "Chunks that came.", counts.chunks)?;
        self.counter("pull_bytes", "Bytes of chunks, as they came.", counts.chunk_bytes)?;
        self.counter(
            "pull_failures",
            "Chunks and blobs that were not as they should be or not written.",
            counts.pull_failures,
        )?;
        self.gauge(("store_used", Some(&Unit::Bytes)), "What the state directory takes.", float(storage.used))?;
        self.gauge(("store_free", Some(&Unit::Bytes)), "What is free on its disk.", float(storage.free))?;
        let damaged = [("database", storage.damaged.databases), ("blob", storage.damaged.blobs)];
        self.counters(
            "store_damaged",
            "What was found damaged in it.",
            damaged.map(|(what, count)| ([("what", what)], f64::from(count))),
        )?;
        self.counter("store_failures", "Changes that the disk did not take.", counts.store_failures)
    }
}

/// As OpenMetrics has numbers: exact up to 2^53, and a scraper reads them so in any case.
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
