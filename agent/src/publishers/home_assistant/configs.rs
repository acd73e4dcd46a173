//! The discovery messages of a device, made of what it reports. Pure.
//!
//! Home Assistant's abbreviations are used, as its documentation of MQTT discovery lists them: a device with many metrics says a lot.
//! Values are picked out of the retained reported state by templates, which give an empty text where there is none: Home Assistant takes
//! an empty text for no news, and would warn in its log of what is not defined.

use std::collections::BTreeMap;

use sanderling_protocol::{
    reported::{ModuleReport, Reported},
    topics::{DeviceId, Topics},
    worker::Metric,
};
use serde_json::{Map, Value, json};

use crate::publishers::HomeAssistantSettings;

/// Where the parts of a device are in its message.
pub(super) const PARTS: &str = "cmps";

/// A template's way to one of a list by its name; a name of ours has no quote.
macro_rules! one_of {
    ($list:literal, $name:expr) => {
        format!(
            "{{% set it = value_json.{} | default([]) | selectattr('name', 'eq', '{}') | first | default({{}}) %}}",
            $list, $name
        )
    };
}

/// Topics and ids.
#[derive(Debug)]
pub(super) struct Names {
    device: String,
    subtree: String,
    status: String,
    reported: String,
    data: String,
}

impl Names {
    pub(super) fn new(prefix: &str, device: &DeviceId, topics: &Topics) -> Self {
        Self {
            device: device.to_string(),
            subtree: format!("{prefix}/device/{device}"),
            status: topics.device(device, "status"),
            reported: topics.device(device, "reported"),
            data: topics.device(device, "data"),
        }
    }

    /// Below this all messages are.
    pub(super) fn subtree(&self) -> &str {
        &self.subtree
    }

    /// Whether a topic is one of a message.
    pub(super) fn is_ours(&self, topic: &str) -> bool {
        let rest = topic.strip_prefix(&self.subtree).and_then(|rest| rest.strip_prefix('/'));
        rest.and_then(|rest| rest.strip_suffix("/config")).is_some_and(|name| !name.is_empty() && !name.contains('/'))
    }

    fn topic(&self, name: &str) -> String {
        format!("{}/{name}/config", self.subtree)
    }

    /// The id of the gateway in Home Assistant.
    fn gateway(&self) -> String {
        format!("sanderling_{}", self.device)
    }

    /// A message about a device with these parts.
    fn config(&self, about: Value, parts: Parts<'_>) -> Value {
        json!({
            "dev": about,
            "o": { "name": "sanderling", "sw": env!("CARGO_PKG_VERSION"), "url": env!("CARGO_PKG_REPOSITORY") },
            PARTS: parts.all,
            "avty": [ { "t": self.status, "val_tpl": "{{ 'online' if value_json.online else 'offline' }}" } ],
            "qos": 1,
        })
    }
}

/// The parts of one device.
struct Parts<'a> {
    names: &'a Names,
    id: String,
    all: Map<String, Value>,
}

impl<'a> Parts<'a> {
    fn new(names: &'a Names, id: String) -> Self {
        Self { names, id, all: Map::new() }
    }

    /// Adds a value of the reported state.
    fn value(&mut self, name: &str, platform: &str, template: String, more: Value) {
        let reported = self.names.reported.clone();
        self.part(name, platform, &reported, template, more);
    }

    fn part(&mut self, name: &str, platform: &str, topic: &str, template: String, more: Value) {
        let id = escape(name);
        let mut part = json!({
            "p": platform, "uniq_id": format!("{}_{id}", self.id), "name": name.replace(['_', '-'], " "),
            "stat_t": topic, "val_tpl": template,
        });
        if let (Some(part), Value::Object(more)) = (part.as_object_mut(), more) {
            part.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
        }
        self.all.insert(id, part);
    }
}

/// All messages by topic.
pub(super) fn all(names: &Names, settings: &HomeAssistantSettings, report: &Reported) -> BTreeMap<String, Value> {
    let modules = report.modules.iter().map(|module| {
        let topic = names.topic(&format!("module_{}", escape(&module.name)));
        (topic, module_config(names, settings, module))
    });
    std::iter::once((names.topic("gateway"), gateway(names, report))).chain(modules).collect()
}

fn gateway(names: &Names, report: &Reported) -> Value {
    let mut parts = Parts::new(names, names.gateway());
    parts.value(
        "deployment",
        "sensor",
        "{{ (value_json.deployment or {}).name | default('none') }}".to_owned(),
        json!({
            "json_attr_t": names.reported, "json_attr_tpl": "{{ (value_json.deployment or {}) | tojson }}",
        }),
    );
    let diagnostic = |unit: Value, class: Value| json!({ "ent_cat": "diagnostic", "stat_cla": "measurement", "unit_of_meas": unit, "dev_cla": class });
    let records = diagnostic("records".into(), Value::Null);
    parts.value("outbox", "sensor", "{{ value_json.outbox.records }}".to_owned(), records);
    let bytes = diagnostic("B".into(), "data_size".into());
    parts.value("free storage", "sensor", "{{ value_json.storage.free }}".to_owned(), bytes);
    let stale = "{{ 'ON' if value_json.stale is defined else 'OFF' }}".to_owned();
    parts.value("stale metadata", "binary_sensor", stale, json!({ "dev_cla": "problem", "ent_cat": "diagnostic" }));
    let problem = || json!({ "dev_cla": "problem", "ent_cat": "diagnostic" });
    for sensor in &report.sensors {
        let error = one_of!("sensors", sensor.name) + "{{ 'ON' if it.error is defined else 'OFF' }}";
        parts.value(&format!("sensor {}", sensor.name), "binary_sensor", error, problem());
    }
    for sink in &report.sinks {
        let error = one_of!("sinks", sink.name) + "{{ 'ON' if it.error is defined else 'OFF' }}";
        parts.value(&format!("sink {}", sink.name), "binary_sensor", error, problem());
    }
    let about = json!({
        "ids": names.gateway(), "name": names.device, "mf": "Sanderling", "mdl": "gateway", "sw": env!("CARGO_PKG_VERSION"),
    });
    names.config(about, parts)
}

fn module_config(names: &Names, settings: &HomeAssistantSettings, module: &ModuleReport) -> Value {
    let id = format!("{}_module_{}", names.gateway(), escape(&module.name));
    let mut parts = Parts::new(names, id.clone());
    let it = || one_of!("modules", module.name);
    parts.value("state", "sensor", it() + "{{ it.state | default('stopped') }}", json!({
        "dev_cla": "enum", "ops": ["starting", "running", "faulted", "quarantined", "stopped"], "ent_cat": "diagnostic",
    }));
    let faulted = it() + "{{ 'ON' if it.state | default('') in ['faulted', 'quarantined'] else 'OFF' }}";
    parts.value(
        "fault",
        "binary_sensor",
        faulted,
        json!({
            "dev_cla": "problem", "ent_cat": "diagnostic",
            "json_attr_t": names.reported, "json_attr_tpl": it() + "{{ it.fault | default({}) | tojson }}",
        }),
    );
    let count = |unit: &str| json!({ "stat_cla": "total_increasing", "unit_of_meas": unit, "ent_cat": "diagnostic" });
    parts.value("frames", "sensor", it() + "{{ it.frames | default('') }}", count("frames"));
    parts.value("dropped frames", "sensor", it() + "{{ it.dropped | default('') }}", count("frames"));
    parts.value(
        "frame time",
        "sensor",
        it() + "{{ (it.frame_us_p99 | default(0) / 1000) | round(3) }}",
        json!({
            "stat_cla": "measurement", "dev_cla": "duration", "unit_of_meas": "ms", "ent_cat": "diagnostic",
        }),
    );
    for (name, metric) in &module.metrics {
        let (kind, class) = match metric {
            Metric::Counter(_) => ("counter", "total_increasing"),
            Metric::Gauge(_) => ("gauge", "measurement"),
        };
        let value = it() + &format!("{{{{ (it.metrics | default({{}})).get('{name}', {{}}).{kind} | default('') }}}}");
        parts.value(&format!("metric {name}"), "sensor", value, json!({ "stat_cla": class }));
    }
    for (_, channel) in settings.channels.iter().filter(|(of, _)| *of == module.name) {
        let topic = format!("{}/{}/{channel}", names.data, module.name);
        // A state has room for 255 characters; a record that is an object is there as attributes.
        let attributes = json!({
            "json_attr_t": topic, "json_attr_tpl": "{{ value if value_json is mapping else '{}' }}", "frc_upd": true,
        });
        parts.part(&format!("channel {channel}"), "sensor", &topic, "{{ value[:255] }}".to_owned(), attributes);
    }
    let about = json!({
        "ids": id, "name": format!("{} {}", names.device, module.name), "mf": "Sanderling", "mdl": "module",
        "sw": module.artifact.to_string(), "via_device": names.gateway(),
    });
    names.config(about, parts)
}

/// A name as Home Assistant's ids take it: `[A-Za-z0-9_-]`. Different names stay different.
fn escape(name: &str) -> String {
    let mut id = String::with_capacity(name.len());
    for character in name.chars() {
        match character {
            'A'..='Z' | 'a'..='z' | '0'..='9' | '-' => id.push(character),
            ' ' => id.push('_'),
            other => id.push_str(&format!("_{:x}_", u32::from(other))),
        }
    }
    id
}
