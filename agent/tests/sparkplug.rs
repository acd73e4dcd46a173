//! Sparkplug B on a real Mosquitto: births, data, deaths and commands, read by a decoder of protobuf that is written here from its
//! documentation of the encoding, and knows nothing of the agent's.

#![cfg(feature = "sparkplug")]
#![allow(clippy::unwrap_used, clippy::panic)]

#[allow(dead_code, reason = "the link's tests use the rest")]
mod link_support;

use std::{collections::BTreeMap, sync::Arc};

use link_support::{Running, mosquitto::Mosquitto, pki::Pki, proxy::Proxy, settings, start};
use sanderling_agent::{
    clock::SystemClock,
    link::{Link, Publish},
    publishers::{
        SparkplugSettings,
        sparkplug::{Node, Sparkplug},
    },
};
use sanderling_protocol::reported::Reported;
use serde_json::json;

/// A field of a protobuf message: its number, and its value by wire type.
#[derive(Clone, Debug, PartialEq)]
enum Field<'a> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let field = match tag & 7 {
            0 => Field::Varint(varint(&mut bytes)),
            1 => {
                let (value, rest) = bytes.split_first_chunk::<8>().unwrap();
                bytes = rest;
                Field::Fixed(u64::from_le_bytes(*value))
            }
            2 => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(value)
            }
            other => panic!("wire type {other}"),
        };
        fields.push((tag >> 3, field));
    }
    fields
}

/// A metric as the host knows it: name, alias, type, value in words.
#[derive(Clone, Debug, PartialEq)]
struct Metric {
    name: Option<String>,
    alias: Option<u64>,
    datatype: u64,
    value: String,
}

#[derive(Clone, Debug)]
struct Told {
    topic: String,
    seq: Option<u64>,
    metrics: Vec<Metric>,
}

fn metric(bytes: &[u8]) -> Metric {
    let mut found = Metric { name: None, alias: None, datatype: 0, value: String::new() };
    for (number, field) in fields(bytes) {
        match (number, field) {
            (1, Field::Bytes(name)) => found.name = Some(String::from_utf8(name.to_vec()).unwrap()),
            (2, Field::Varint(alias)) => found.alias = Some(alias),
            (3, Field::Varint(at)) => assert!(at > 1_600_000_000_000, "Unix milliseconds"),
            (4, Field::Varint(datatype)) => found.datatype = datatype,
            (11 | 14, Field::Varint(value)) => found.value = value.to_string(),
            (13, Field::Fixed(bits)) => found.value = f64::from_bits(bits).to_string(),
            (15, Field::Bytes(text)) => found.value = String::from_utf8(text.to_vec()).unwrap(),
            other => panic!("an unexpected field: {other:?}"),
        }
    }
    found
}

async fn told(host: &mut Running) -> Told {
    let message = host.message().await;
    assert!(!message.retained);
    let mut told = Told { topic: message.topic, seq: None, metrics: Vec::new() };
    for (number, field) in fields(&message.payload) {
        match (number, field) {
            (1, Field::Varint(_)) => {}
            (2, Field::Bytes(bytes)) => told.metrics.push(metric(bytes)),
            (3, Field::Varint(seq)) => told.seq = Some(seq),
            other => panic!("an unexpected field: {other:?}"),
        }
    }
    told
}

fn named<'a>(told: &'a Told, name: &str) -> &'a Metric {
    told.metrics.iter().find(|metric| metric.name.as_deref() == Some(name)).unwrap_or_else(|| panic!("{told:?}"))
}

fn report(frames: u64) -> Reported {
    let digest = "00".repeat(32);
    serde_json::from_value(json!({
        "schema": "sanderling.reported/1", "device": "gw-1", "session": "s", "deployment": null,
        "metadata": { "root": 1, "timestamp": 1, "snapshot": 1, "targets": 1, "expires": 0 },
        "modules": [ { "name": "scratch", "artifact": digest, "state": "running", "since": 0, "restarts": 0, "frames": frames,
                       "dropped": 0, "metrics": { "score": { "gauge": 0.25 } } } ],
        "sensors": [], "refused": [], "storage": { "used": 1, "free": 2 },
        "outbox": { "records": 3, "bytes": 4, "dropped": 5 },
    }))
    .unwrap()
}

#[tokio::test]
async fn a_node_is_born_tells_what_changes_dies_and_is_born_again_when_a_host_asks() {
    let pki = Pki::new();
    let broker = Mosquitto::start(&pki);
    let proxy = Proxy::start(broker.port).await;
    let mut host = start("host", settings(&pki, "host", broker.port));
    // Not all of `plant`: then the host would hear its own commands.
    let kinds = ["NBIRTH", "NDATA", "NDEATH", "DBIRTH", "DDATA", "DDEATH"];
    host.link.subscribe(kinds.map(|kind| format!("spBv1.0/plant/{kind}/#")).to_vec()).unwrap();
    host.subscribed().await;

    let publish = SparkplugSettings { group: "plant".into(), edge_node: Some("line-1".into()) };
    let node = Node::new(&publish, &"gw-1".parse().unwrap());
    let clock = Arc::new(SystemClock::new());
    let sparkplug =
        Sparkplug::start(node, settings(&pki, "gw-1", proxy.port), "gw-1.sparkplug".into(), clock, Box::new(|| 7));
    sparkplug.reported(&report(1));

    let node = told(&mut host).await;
    assert_eq!((node.topic.as_str(), node.seq), ("spBv1.0/plant/NBIRTH/line-1", Some(0)));
    let first = named(&node, "bdSeq").clone();
    assert_eq!((first.datatype, first.alias), (4, None));
    assert_eq!((named(&node, "Outbox/Records").value.as_str(), named(&node, "Outbox/Records").datatype), ("3", 8));
    assert_eq!(named(&node, "Node Control/Rebirth").datatype, 11);
    let device = told(&mut host).await;
    assert_eq!((device.topic.as_str(), device.seq), ("spBv1.0/plant/DBIRTH/line-1/scratch", Some(1)));
    assert_eq!(named(&device, "State").value, "running");
    assert_eq!(
        (named(&device, "Metrics/score").value.as_str(), named(&device, "Metrics/score").datatype),
        ("0.25", 10)
    );
    let names: BTreeMap<u64, String> = [&node, &device]
        .into_iter()
        .flat_map(|told| &told.metrics)
        .filter_map(|metric| Some((metric.alias?, metric.name.clone()?)))
        .collect();

    sparkplug.reported(&report(2));
    let data = told(&mut host).await;
    assert_eq!((data.topic.as_str(), data.seq), ("spBv1.0/plant/DDATA/line-1/scratch", Some(2)));
    assert_eq!(data.metrics.len(), 1);
    assert_eq!((names[&data.metrics[0].alias.unwrap()].as_str(), data.metrics[0].value.as_str()), ("Frames", "2"));

    // A command as a host encodes it: a metric with a name, a type and a boolean.
    let name = b"Node Control/Rebirth";
    let mut metric = vec![0x0a, u8::try_from(name.len()).unwrap()];
    metric.extend_from_slice(name);
    metric.extend_from_slice(&[0x20, 11, 0x70, 1]);
    let mut command = vec![0x12, u8::try_from(metric.len()).unwrap()];
    command.extend_from_slice(&metric);
    host.link.publish(Publish::new("spBv1.0/plant/NCMD/line-1", command)).unwrap();
    let again = told(&mut host).await;
    assert_eq!((again.topic.as_str(), again.seq), ("spBv1.0/plant/NBIRTH/line-1", Some(0)));
    assert_eq!(named(&again, "bdSeq").value, first.value, "the connection is the same");
    assert_eq!(named(&told(&mut host).await, "Frames").value, "2");

    proxy.cut();
    let death = told(&mut host).await;
    assert_eq!((death.topic.as_str(), death.seq), ("spBv1.0/plant/NDEATH/line-1", None));
    assert_eq!(named(&death, "bdSeq").value, first.value, "the will of the birth that came before");
    let born = told(&mut host).await;
    assert_eq!(born.topic, "spBv1.0/plant/NBIRTH/line-1");
    let second = named(&born, "bdSeq").value.clone();
    assert_ne!(second, first.value);
    assert_eq!(told(&mut host).await.topic, "spBv1.0/plant/DBIRTH/line-1/scratch");

    sparkplug.end().await.unwrap();
    let death = told(&mut host).await;
    assert_eq!((death.topic.as_str(), named(&death, "bdSeq").value.clone()), ("spBv1.0/plant/NDEATH/line-1", second));
}
