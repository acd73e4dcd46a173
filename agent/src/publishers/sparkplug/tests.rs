#![allow(clippy::unwrap_used)]

use prost::Message;
use sanderling_protocol::{
    digest::Digest,
    reported::{Excess, MetadataReport, ModuleReport, ModuleState, Outbox, Reported, SCHEMA, SensorReport, Storage},
    worker::Metric as Measured,
};

use super::*;
use crate::{
    link::{Publish, Qos},
    publishers::SparkplugSettings,
};

fn module(name: &str, frames: u64, metrics: &[(&str, f64)]) -> ModuleReport {
    ModuleReport {
        name: name.into(),
        artifact: Digest::of(b"m"),
        state: ModuleState::Running,
        since: 0,
        restarts: 0,
        frames,
        dropped: 0,
        drops: sanderling_protocol::reported::Drops::default(),
        skipped: 0,
        unreadable: 0,
        frame_us_p50: 0,
        frame_us_p99: 0,
        excess: Excess::default(),
        metrics: metrics.iter().map(|(name, value)| ((*name).to_owned(), Measured::Gauge(*value))).collect(),
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
        sinks: vec![],
        refused: vec![],
        certificate_expires: None,
        storage: Storage::default(),
        outbox: Outbox::default(),
        stale: None,
    }
}

fn node() -> Node {
    let settings = SparkplugSettings { group: "plant".into(), edge_node: None };
    Node::new(&settings, &"gw-1".parse().unwrap())
}

/// A node that was born with these modules, and its messages.
fn born(modules: Vec<ModuleReport>) -> (Node, Vec<(String, Payload)>) {
    let mut node = node();
    node.connecting();
    node.reported(&report(modules));
    let messages = read(node.messages(7));
    (node, messages)
}

fn read(messages: Vec<Publish>) -> Vec<(String, Payload)> {
    let read = |message: Publish| {
        assert!(!message.retain && message.qos == Qos::AtMostOnce, "as the specification demands");
        (message.topic, Payload::decode(message.payload).unwrap())
    };
    messages.into_iter().map(read).collect()
}

fn topics(messages: &[(String, Payload)]) -> Vec<&str> {
    messages.iter().map(|(topic, _)| topic.strip_prefix("spBv1.0/plant/").unwrap()).collect()
}

fn named<'a>(payload: &'a Payload, name: &str) -> &'a Metric {
    payload.metrics.iter().find(|metric| metric.name.as_deref() == Some(name)).unwrap()
}

#[test]
fn a_birth_names_every_metric_and_carries_the_number_of_the_will() {
    let mut node = node();
    assert_eq!(read_will(&node.connecting()), 0);
    assert_eq!(node.messages(7), [], "before the first report there is nothing to say");
    assert_eq!(read_will(&node.connecting()), 1, "another connection");
    node.reported(&report(vec![module("a", 3, &[("seen", 0.5)])]));
    let messages = read(node.messages(7));
    assert_eq!(topics(&messages), ["NBIRTH/gw-1", "DBIRTH/gw-1/a"]);
    let birth = &messages[0].1;
    assert_eq!((birth.seq, birth.timestamp), (Some(0), Some(7)));
    assert_eq!(named(birth, "bdSeq").value, Some(Value::Long(1)));
    let rebirth = named(birth, "Node Control/Rebirth");
    assert_eq!((rebirth.value.clone(), rebirth.alias), (Some(Value::Boolean(false)), None));
    assert_eq!(messages[1].1.seq, Some(1));
    assert_eq!(named(&messages[1].1, "Metrics/seen").value, Some(Value::Double(0.5)));
    let mut aliases: Vec<u64> =
        messages.iter().flat_map(|(_, payload)| &payload.metrics).filter_map(|metric| metric.alias).collect();
    let count = aliases.len();
    aliases.sort_unstable();
    aliases.dedup();
    assert_eq!(aliases.len(), count, "an alias is one metric's, of node and devices together");
    for metric in messages.iter().flat_map(|(_, payload)| &payload.metrics) {
        assert!(metric.name.is_some() && metric.datatype.is_some() && metric.value.is_some(), "{metric:?}");
        assert_eq!(metric.timestamp, Some(7));
    }
}

/// The `bdSeq` of a will.
fn read_will(will: &Publish) -> u64 {
    assert_eq!((will.topic.as_str(), will.retain, will.qos), ("spBv1.0/plant/NDEATH/gw-1", false, Qos::AtLeastOnce));
    let payload = Payload::decode(&will.payload[..]).unwrap();
    assert_eq!((payload.seq, payload.metrics.len()), (None, 1));
    match named(&payload, "bdSeq").value {
        Some(Value::Long(number)) => number,
        _ => unreachable!(),
    }
}

#[test]
fn afterwards_only_what_changed_is_told_by_alias() {
    let (mut node, birth) = born(vec![module("a", 3, &[]), module("b", 3, &[])]);
    let alias = named(&birth[2].1, "Frames").alias;
    assert_eq!(node.messages(8), []);
    node.reported(&report(vec![module("a", 3, &[]), module("b", 4, &[])]));
    let messages = read(node.messages(8));
    assert_eq!(topics(&messages), ["DDATA/gw-1/b"]);
    let data = &messages[0].1;
    assert_eq!((data.seq, data.metrics.len()), (Some(3), 1));
    assert_eq!((data.metrics[0].alias, data.metrics[0].name.clone()), (alias, None));
    assert_eq!(data.metrics[0].value, Some(Value::Long(4)));
    let mut moved = report(vec![module("a", 3, &[]), module("b", 4, &[])]);
    moved.sensors[0].frames = 2;
    node.reported(&moved);
    assert_eq!(topics(&read(node.messages(9))), ["NDATA/gw-1"]);
}

#[test]
fn modules_and_metrics_that_come_and_go_are_born_and_die() {
    let (mut node, _) = born(vec![module("a", 3, &[]), module("b", 3, &[])]);
    node.reported(&report(vec![module("a", 3, &[("new", 1.0)]), module("c", 0, &[])]));
    let messages = read(node.messages(8));
    assert_eq!(topics(&messages), ["DBIRTH/gw-1/a", "DBIRTH/gw-1/c", "DDEATH/gw-1/b"]);
    assert_eq!(messages.iter().map(|(_, payload)| payload.seq.unwrap()).collect::<Vec<_>>(), [3, 4, 5]);
    let mut more = report(vec![module("a", 3, &[("new", 1.0)]), module("c", 0, &[])]);
    more.sensors.push(SensorReport { name: "cam1".into(), frames: 0, refused: 0, error: None });
    node.reported(&more);
    let messages = read(node.messages(9));
    assert_eq!(topics(&messages), ["NBIRTH/gw-1", "DBIRTH/gw-1/a", "DBIRTH/gw-1/c"], "the node's own are named anew");
    assert_eq!(messages[0].1.seq, Some(0));
}

#[test]
fn the_count_of_messages_wraps() {
    let (mut node, _) = born(vec![module("a", 0, &[])]);
    let mut seqs = Vec::new();
    for frames in 1..=256 {
        node.reported(&report(vec![module("a", frames, &[])]));
        seqs.extend(read(node.messages(9)).into_iter().map(|(_, payload)| payload.seq.unwrap()));
    }
    assert!(seqs.iter().copied().eq((2..256).chain(0..2)), "{seqs:?}");
}

#[test]
fn a_host_may_ask_for_a_birth_and_nothing_else() {
    let (mut node, birth) = born(vec![module("a", 3, &[])]);
    let command = |name: &str, value: bool| {
        let metric = Metric { name: Some(name.into()), value: Some(Value::Boolean(value)), ..Metric::default() };
        Payload { timestamp: Some(1), metrics: vec![metric], seq: None }.encode_to_vec()
    };
    let topic = node.commands();
    assert_eq!(topic, "spBv1.0/plant/NCMD/gw-1");
    assert!(!node.heard(&topic, &command("Node Control/Rebirth", false)));
    assert!(!node.heard(&topic, &command("Node Control/Reboot", true)));
    assert!(!node.heard(&topic, b"\xff\xff\xff\xff"));
    assert!(!node.heard("spBv1.0/plant/NCMD/gw-2", &command("Node Control/Rebirth", true)));
    assert!(node.heard(&topic, &command("Node Control/Rebirth", true)));
    node.rebirth();
    let again = read(node.messages(7));
    assert_eq!(again, birth, "the same, with the same aliases and the same bdSeq, from 0 on");
}
