//! What an edge node of Sparkplug B says, and when: a pure state machine from reports to messages.
//!
//! The device is the edge node, each of its modules a device of it. After a birth only values that changed are told, by alias. A birth
//! names all metrics, so that one that is new needs another birth: of its module, or of the node and all modules.
//!
//! Invariants: `seq` counts every message but NDEATH, from 0 at NBIRTH, modulo 256. `bdSeq` is the same in the will and in the births of a
//! connection, and another in the next. An alias stands for one metric for as long as the agent runs.

use std::collections::BTreeMap;

use prost::Message;
use sanderling_protocol::{
    reported::{ModuleReport, Reported},
    topics::DeviceId,
};

use super::payload::{Metric, Payload, Value};
use crate::{
    link::{Publish, Qos},
    publishers::SparkplugSettings,
};

const REBIRTH: &str = "Node Control/Rebirth";
const BD_SEQ: &str = "bdSeq";
/// `DataType` Int64, which the specification demands for `bdSeq`.
const INT64: u32 = 4;

type Values = BTreeMap<String, Value>;

/// The edge node.
#[derive(Debug)]
pub struct Node {
    group: String,
    edge: String,
    bd_seq: u8,
    seq: u8,
    aliases: BTreeMap<(Option<String>, String), u64>,
    /// What is to be known: of the node, and of each module.
    wanted: Option<(Values, BTreeMap<String, Values>)>,
    /// What was told since the last birth; `None` where a birth is due.
    told: Option<(Values, BTreeMap<String, Values>)>,
}

impl Node {
    /// Nothing was told yet.
    pub fn new(settings: &SparkplugSettings, device: &DeviceId) -> Self {
        Self {
            group: settings.group.clone(),
            edge: settings.edge_node.clone().unwrap_or_else(|| device.to_string()),
            bd_seq: u8::MAX,
            seq: 0,
            aliases: BTreeMap::new(),
            wanted: None,
            told: None,
        }
    }

    /// The topic of commands to the node.
    pub fn commands(&self) -> String {
        self.topic("NCMD", None)
    }

    /// A connection is about to be made: the will that it is to be made with.
    pub fn connecting(&mut self) -> Publish {
        self.bd_seq = self.bd_seq.wrapping_add(1);
        self.told = None;
        let payload = Payload { timestamp: None, metrics: vec![self.bd_seq()], seq: None };
        Publish::new(self.topic("NDEATH", None), payload.encode_to_vec())
    }

    /// A birth is due.
    pub fn rebirth(&mut self) {
        self.told = None;
    }

    /// This is what the device reports now.
    pub fn reported(&mut self, report: &Reported) {
        let modules = report.modules.iter().map(|module| (module.name.clone(), module_values(module)));
        self.wanted = Some((node_values(report), modules.collect()));
    }

    /// A message came. Says whether it asks for a birth.
    pub fn heard(&mut self, topic: &str, payload: &[u8]) -> bool {
        if topic != self.commands() {
            return false;
        }
        let Ok(payload) = Payload::decode(payload) else { return false };
        let asks =
            |metric: &Metric| metric.name.as_deref() == Some(REBIRTH) && metric.value == Some(Value::Boolean(true));
        payload.metrics.iter().any(asks)
    }

    /// How many messages [`Node::messages`] gives at most.
    pub fn most(&self) -> usize {
        let modules = |values: &Option<(Values, BTreeMap<String, Values>)>| {
            values.as_ref().map_or(0, |(_, modules)| modules.len())
        };
        1 + modules(&self.wanted) + modules(&self.told)
    }

    /// What is to be told now. All of it must be sent, in this order; where that fails, [`Node::rebirth`].
    pub fn messages(&mut self, now_ms: u64) -> Vec<Publish> {
        let Some((node, modules)) = self.wanted.clone() else { return Vec::new() };
        let told = self.told.take().filter(|(told, _)| node.keys().all(|name| told.contains_key(name)));
        let mut messages = Vec::new();
        let Some((told_node, mut told_modules)) = told else {
            self.seq = 0;
            let mut metrics = vec![self.bd_seq(), rebirth_metric()];
            metrics.extend(self.metrics(None, &node, true));
            messages.push(self.message("NBIRTH", None, metrics, now_ms));
            for (name, values) in &modules {
                messages.push(self.birth(name, values, now_ms));
            }
            self.told = Some((node, modules));
            return messages;
        };
        let changed = changed(&told_node, &node);
        if !changed.is_empty() {
            let metrics = self.metrics(None, &changed, false);
            messages.push(self.message("NDATA", None, metrics, now_ms));
        }
        for (name, values) in &modules {
            match told_modules.remove(name) {
                Some(told) if values.keys().all(|metric| told.contains_key(metric)) => {
                    let changed = self::changed(&told, values);
                    if !changed.is_empty() {
                        let metrics = self.metrics(Some(name), &changed, false);
                        messages.push(self.message("DDATA", Some(name), metrics, now_ms));
                    }
                }
                _ => messages.push(self.birth(name, values, now_ms)),
            }
        }
        for gone in told_modules.keys() {
            messages.push(self.message("DDEATH", Some(gone), Vec::new(), now_ms));
        }
        self.told = Some((node, modules));
        messages
    }

    fn birth(&mut self, module: &str, values: &Values, now_ms: u64) -> Publish {
        let metrics = self.metrics(Some(module), values, true);
        self.message("DBIRTH", Some(module), metrics, now_ms)
    }

    fn metrics(&mut self, module: Option<&str>, values: &Values, named: bool) -> Vec<Metric> {
        let metric = |(name, value): (&String, &Value)| Metric {
            name: named.then(|| name.clone()),
            alias: Some(self.alias(module, name)),
            timestamp: None,
            datatype: Some(value.datatype()),
            value: Some(value.clone()),
        };
        values.iter().map(metric).collect()
    }

    fn alias(&mut self, module: Option<&str>, name: &str) -> u64 {
        let next = u64::try_from(self.aliases.len()).unwrap_or(u64::MAX);
        *self.aliases.entry((module.map(str::to_owned), name.to_owned())).or_insert(next)
    }

    fn message(&mut self, kind: &str, module: Option<&str>, mut metrics: Vec<Metric>, now_ms: u64) -> Publish {
        for metric in &mut metrics {
            metric.timestamp = Some(now_ms);
        }
        let payload = Payload { timestamp: Some(now_ms), metrics, seq: Some(u64::from(self.seq)) };
        self.seq = self.seq.wrapping_add(1);
        let topic = self.topic(kind, module);
        Publish { qos: Qos::AtMostOnce, ..Publish::new(topic, payload.encode_to_vec()) }
    }

    fn topic(&self, kind: &str, module: Option<&str>) -> String {
        let module = module.map_or(String::new(), |module| format!("/{module}"));
        format!("spBv1.0/{}/{kind}/{}{module}", self.group, self.edge)
    }

    fn bd_seq(&self) -> Metric {
        let value = Some(Value::Long(u64::from(self.bd_seq)));
        Metric { name: Some(BD_SEQ.into()), datatype: Some(INT64), value, ..Metric::default() }
    }
}

/// Without an alias, as the specification demands.
fn rebirth_metric() -> Metric {
    let value = Value::Boolean(false);
    Metric { name: Some(REBIRTH.into()), datatype: Some(value.datatype()), value: Some(value), ..Metric::default() }
}

fn changed(told: &Values, wanted: &Values) -> Values {
    let news = wanted.iter().filter(|(name, value)| told.get(*name) != Some(value));
    news.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn node_values(report: &Reported) -> Values {
    let deployment = report.deployment.as_ref();
    let mut values = Values::from([
        ("Properties/Agent".to_owned(), Value::Text(env!("CARGO_PKG_VERSION").into())),
        ("Deployment/Name".to_owned(), text(deployment.map(|found| found.name.clone()))),
        ("Deployment/State".to_owned(), text(deployment.and_then(|found| word(&found.state)))),
        ("Outbox/Records".to_owned(), Value::Long(report.outbox.records)),
        ("Outbox/Dropped".to_owned(), Value::Long(report.outbox.dropped)),
        ("Storage/Free".to_owned(), Value::Long(report.storage.free)),
    ]);
    for sensor in &report.sensors {
        values.insert(format!("Sensors/{}/Frames", sensor.name), Value::Long(sensor.frames));
        values.insert(format!("Sensors/{}/Error", sensor.name), text(sensor.error.clone()));
    }
    for sink in &report.sinks {
        let dropped = sink.dropped.values().fold(0, |sum: u64, count| sum.saturating_add(*count));
        values.insert(format!("Sinks/{}/Records", sink.name), Value::Long(sink.records));
        values.insert(format!("Sinks/{}/Dropped", sink.name), Value::Long(dropped));
        values.insert(format!("Sinks/{}/Error", sink.name), text(sink.error.clone()));
    }
    values
}

fn module_values(module: &ModuleReport) -> Values {
    let mut values = Values::from([
        ("Properties/Artifact".to_owned(), Value::Text(module.artifact.to_string())),
        ("State".to_owned(), text(word(&module.state))),
        ("Fault".to_owned(), text(module.fault.as_ref().map(ToString::to_string))),
        ("Frames".to_owned(), Value::Long(module.frames)),
        ("Dropped".to_owned(), Value::Long(module.dropped)),
        ("Restarts".to_owned(), Value::Long(module.restarts)),
        ("Frame Time/p50 us".to_owned(), Value::Long(module.frame_us_p50)),
        ("Frame Time/p99 us".to_owned(), Value::Long(module.frame_us_p99)),
    ]);
    for (name, metric) in &module.metrics {
        values.insert(format!("Metrics/{name}"), Value::Double(metric.value()));
    }
    values
}

/// Empty where there is none.
fn text(text: Option<String>) -> Value {
    Value::Text(text.unwrap_or_default())
}

/// The word that a state is in reports.
fn word(state: &impl serde::Serialize) -> Option<String> {
    serde_json::to_value(state).ok()?.as_str().map(str::to_owned)
}
