#![allow(clippy::unwrap_used)]

use sanderling_protocol::{
    digest::Digest,
    reported::{Excess, MetadataReport, ModuleReport, ModuleState, Outbox, SCHEMA, SensorReport, SinkReport, Storage},
    worker::Metric,
};

use super::*;

fn module(name: &str, metrics: &[(&str, Metric)]) -> ModuleReport {
    ModuleReport {
        name: name.into(),
        artifact: Digest::of(b"m"),
        state: ModuleState::Running,
        since: 0,
        restarts: 0,
        frames: 12,
        dropped: 0,
        drops: sanderling_protocol::reported::Drops::default(),
        skipped: 0,
        unreadable: 0,
        frame_us_p50: 0,
        frame_us_p99: 1500,
        excess: Excess::default(),
        metrics: metrics.iter().map(|(name, metric)| ((*name).to_owned(), *metric)).collect(),
        denied: vec![],
        pid: None,
        next_restart: None,
        unconfined: vec![],
        fault: None,
    }
}

fn report(modules: Vec<ModuleReport>) -> Reported {
    Reported {
        schema: SCHEMA.into(),
        device: "gw-1".parse().unwrap(),
        session: "s".into(),
        deployment: None,
        metadata: MetadataReport::default(),
        modules,
        sensors: vec![SensorReport { name: "cam0".into(), frames: 1, refused: 0, error: None }],
        sinks: vec![SinkReport { name: "log".into(), error: Some("full".into()), ..SinkReport::default() }],
        refused: vec![],
        certificate_expires: None,
        storage: Storage::default(),
        outbox: Outbox::default(),
        stale: None,
    }
}

fn publisher() -> HomeAssistant {
    let channels = vec![("scratch".to_owned(), "defects".to_owned()), ("other".to_owned(), "x".to_owned())];
    let settings = HomeAssistantSettings { discovery_prefix: "homeassistant".into(), channels };
    HomeAssistant::new(settings, &"gw-1".parse().unwrap(), &Topics::default())
}

/// All that waits, by topic and in order; JSON, or null for what is taken back.
fn said(publisher: &mut HomeAssistant) -> Vec<(String, Value)> {
    let mut said = Vec::new();
    while let Some(publish) = publisher.next() {
        assert!(publish.retain, "Home Assistant finds it when it is started later");
        let config =
            if publish.payload.is_empty() { Value::Null } else { serde_json::from_slice(&publish.payload).unwrap() };
        said.push((publish.topic, config));
        publisher.sent();
    }
    said
}

fn topics(said: &[(String, Value)]) -> Vec<&str> {
    said.iter().map(|(topic, _)| topic.strip_prefix("homeassistant/device/gw-1/").unwrap()).collect()
}

#[test]
fn every_message_has_what_home_assistant_demands() {
    let mut publisher = publisher();
    let metrics = [("defects.total", Metric::Counter(1.0)), ("score", Metric::Gauge(0.5))];
    publisher.reported(&report(vec![module("scratch", &metrics), module("a_b", &[])]));
    let said = said(&mut publisher);
    assert_eq!(topics(&said), ["gateway/config", "module_a_5f_b/config", "module_scratch/config"]);
    let (mut ids, is_id) = (BTreeSet::new(), |id: &str| {
        !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    });
    for (topic, config) in &said {
        assert!(topic.split('/').skip(2).all(is_id), "{topic}");
        assert!(config["dev"]["ids"].is_string() && config["dev"]["name"].is_string(), "{topic}");
        assert!(config["o"]["name"].is_string(), "{topic}");
        assert_eq!(config["avty"][0]["t"], "sanderling/v1/device/gw-1/status");
        let parts = config["cmps"].as_object().unwrap();
        for (name, part) in parts {
            assert!(is_id(name), "{name}");
            assert!(matches!(part["p"].as_str(), Some("sensor" | "binary_sensor")), "{name}: {part}");
            for key in ["uniq_id", "name", "stat_t", "val_tpl"] {
                assert!(part[key].as_str().is_some_and(|text| !text.is_empty()), "{name}: {key}");
            }
            assert!(ids.insert(part["uniq_id"].clone().to_string()), "{name} is there twice");
            assert!(part.as_object().unwrap().values().all(|value| !value.is_null()), "{name}: {part}");
        }
    }
    assert_eq!(said[1].1["dev"]["via_device"], said[0].1["dev"]["ids"]);
    let scratch = &said[2].1["cmps"];
    assert_eq!(scratch["metric_defects_2e_total"]["stat_cla"], "total_increasing");
    assert_eq!(scratch["metric_score"]["stat_cla"], "measurement");
    assert_eq!(scratch["channel_defects"]["stat_t"], "sanderling/v1/device/gw-1/data/scratch/defects");
    assert!(said[1].1["cmps"].get("channel_defects").is_none());
    assert!(said[0].1["cmps"].get("sensor_cam0").is_some() && said[0].1["cmps"].get("sink_log").is_some());
}

#[test]
fn what_is_the_same_is_said_once_and_again_on_a_new_connection() {
    let mut publisher = publisher();
    publisher.reported(&report(vec![module("a", &[])]));
    assert_eq!(said(&mut publisher).len(), 2);
    let moved = ModuleReport { frames: 99, state: ModuleState::Faulted, ..module("a", &[]) };
    publisher.reported(&report(vec![moved]));
    assert_eq!(said(&mut publisher), [], "values are picked out of the reported state");
    publisher.link_up();
    assert_eq!(said(&mut publisher).len(), 2);
}

#[test]
fn a_module_and_a_metric_that_are_gone_are_taken_back() {
    let mut publisher = publisher();
    let old = [("old", Metric::Gauge(0.0)), ("kept", Metric::Gauge(0.0))];
    publisher.reported(&report(vec![module("a", &old), module("b", &[])]));
    said(&mut publisher);
    publisher.reported(&report(vec![module("a", &old[1..])]));
    let said = said(&mut publisher);
    assert_eq!(topics(&said), ["module_b/config", "module_a/config", "module_a/config"]);
    assert_eq!(said[0].1, Value::Null);
    assert_eq!(said[1].1["cmps"]["metric_old"], json!({ "p": "sensor" }), "named without a configuration");
    assert!(said[2].1["cmps"].get("metric_old").is_none() && said[2].1["cmps"].get("metric_kept").is_some());
}

#[test]
fn what_an_earlier_run_left_is_taken_back_and_nothing_else() {
    let mut publisher = publisher();
    assert_eq!(publisher.filter(), "homeassistant/device/gw-1/+/config");
    let left = "homeassistant/device/gw-1/module_gone/config";
    assert!(publisher.heard(left, b"{}"));
    assert_eq!(said(&mut publisher), [], "before the first report nothing is known to be gone");
    publisher.reported(&report(vec![module("a", &[])]));
    assert_eq!(topics(&said(&mut publisher)), ["module_gone/config", "gateway/config", "module_a/config"]);
    publisher.link_up();
    said(&mut publisher);
    assert!(publisher.heard(left, b"{}"), "and after it, as on a new connection");
    assert!(publisher.heard("homeassistant/device/gw-1/module_a/config", b"{}"));
    for other in ["homeassistant/device/gw-2/module_a/config", "sanderling/v1/repo/timestamp", "homeassistant/status"] {
        assert!(!publisher.heard(other, b"{}"), "{other}");
    }
    assert_eq!(said(&mut publisher), [(left.to_owned(), Value::Null)]);
    assert!(publisher.heard(left, b""), "its own echo");
    assert_eq!(said(&mut publisher), []);
}

#[test]
fn of_what_waits_the_newest_is_sent() {
    let mut publisher = publisher();
    publisher.reported(&report(vec![module("a", &[])]));
    publisher.reported(&report(vec![]));
    let said = said(&mut publisher);
    assert_eq!(said.len(), 2);
    assert_eq!(said[1], ("homeassistant/device/gw-1/module_a/config".to_owned(), Value::Null));
}
