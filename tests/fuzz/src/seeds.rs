//! What mutations start from: a few valid messages for each target.

use sanderling_protocol::{
    batch::BatchBuilder,
    blob::{cut, encode_chunk},
    capsule::Manifest,
    digest::Digest,
    flight::{END_OF_PAGES, FRAME_HEADER, HEADER, MAGIC, PAGE, kind, offset},
    worker::{Fault, FaultCode, FrameDone, FromWorker, Measure, Metric, Missing, Ready, ToWorker},
};
use serde_json::{Value, json};

use crate::{Random, repository::WITHOUT_DIGESTS, walks};

/// Valid messages for a target, by its name; none for a name that is not known.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "metadata" => messages(),
        "content" => contents(),
        "deployment" => deployments(),
        "release" => [
            json!({ "kind": "module", "abi": 1, "ceiling": { "grants": ["infer", "emit:*"], "memory_mib": 16, "deadline_ms": 200 } }),
            json!({ "kind": "model", "format": "onnx" }),
            json!({ "kind": "deployment", "audience": { "devices": ["gw-*"], "labels": { "line": "a" } }, "percent": 50, "salt": "s", "priority": 1 }),
        ]
        .map(|ours| json!({ "sanderling": ours }).to_string().into_bytes())
        .to_vec(),
        "index" => indexes(),
        "chunk" => chunks(),
        "batch" => batches(),
        "reported" => reports(),
        "command" => [
            &b"ping\n"[..],
            b"report\n",
            b"refresh\n{}",
            b"restart\n{\"module\":\"m\"}",
            b"logs\n{\"lease_s\":5,\"level\":\"warn\"}",
            b"capsules\n",
            b"capsule\n{\"id\":\"0123456789abcdef\",\"offset\":7}",
            b"capture\n{\"sensor\":\"cam0\"}",
        ]
        .map(<[u8]>::to_vec)
        .to_vec(),
        "topic" => topics(),
        "worker" => streams(),
        "guest" => (0..40).map(|seed| dice(seed, 12_000)).collect(),
        "ring" => vec![noise(9 * 200), steps(&[0, 2, 0, 0, 2, 0, 3, 0])],
        "record" => vec![record()],
        "capsule" => vec![capsule()],
        _ => Vec::new(),
    }
}

/// The messages of all refreshes, each behind its number.
fn messages() -> Vec<Vec<u8>> {
    let messages = walks().into_iter().flat_map(|walk| walk.places).filter_map(|place| place.message);
    (0_u8..).zip(messages).map(|(number, message)| [&[number], &message[..]].concat()).collect()
}

/// The signed parts of one refresh, each behind its place.
fn contents() -> Vec<Vec<u8>> {
    let places = walks().swap_remove(WITHOUT_DIGESTS).places;
    let mut seeds = Vec::new();
    for (at, place) in (0_u8..).zip(places) {
        let Some(message) = place.message else { continue };
        let value: Value = serde_json::from_slice(&message).unwrap();
        seeds.push([&[at], value["signed"].to_string().as_bytes()].concat());
        if place.role == "targets" {
            let mut bins = value["signed"].clone();
            let keys = bins["delegations"]["keys"].clone();
            let ids: Vec<&String> = keys.as_object().unwrap().keys().collect();
            let succinct = json!({ "keyids": ids, "threshold": 1, "bit_length": 3, "name_prefix": "bin" });
            bins["delegations"] = json!({ "keys": keys, "succinct_roles": succinct });
            bins["targets"]["modules/a"] = json!({ "length": 1, "hashes": { "sha256": Digest::of(b"a") } });
            seeds.push([&[at], bins.to_string().as_bytes()].concat());
        }
    }
    seeds
}

fn deployments() -> Vec<Vec<u8>> {
    let full = json!({ "schema": "sanderling.deployment/1", "name": "line-a", "modules": [ {
        "name": "scratch", "module": "modules/surface-defect/1.2.0.wasm", "models": { "defect": "models/surface-defect/7.onnx" },
        "input": [ { "sensor": "cam0", "policy": "latest", "decode": "gray8" }, { "sensor": "cam1", "policy": { "queue": 4 } } ],
        "execution": "reactor", "config": { "threshold": 0.8 }, "grants": [ "infer", "emit:defects" ],
        "limits": { "memory_mib": 16, "deadline_ms": 200, "fuel_per_frame": 500_000_000, "emit_per_s": 50, "native_memory_mib": 64 },
        "channels": { "defects": { "sink": "mqtt", "keep": "newest", "max_bytes": 4_194_304, "max_age_s": 604_800 } },
        "restart": { "max": 5, "within_s": 300 }, "probation": { "frames": 20, "seconds": 30 } } ] });
    let example = include_bytes!("../../../docs/examples/line-a.json").to_vec();
    vec![
        full.to_string().into_bytes(),
        example,
        br#"{"schema":"sanderling.deployment/1","name":"x","modules":[]}"#.to_vec(),
    ]
}

fn noise(length: usize) -> Vec<u8> {
    dice(7, length)
}

fn dice(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..length).map(|_| random.byte()).collect()
}

/// A ring that is filled and emptied in order.
fn steps(kinds: &[u8]) -> Vec<u8> {
    kinds.iter().flat_map(|kind| [&[*kind][..], &1024_u64.to_le_bytes()].concat()).collect()
}

fn indexes() -> Vec<Vec<u8>> {
    [0, 1, 9000, 200_000]
        .map(|length| {
            let content = noise(length);
            let (index, _) = cut(&content).unwrap();
            [&index.length().to_be_bytes()[..], &index.encode()].concat()
        })
        .to_vec()
}

fn chunks() -> Vec<Vec<u8>> {
    let text = "a sanderling runs along the water's edge; ".repeat(400).into_bytes();
    let zeros = vec![0; 65_536];
    let mixed = [&text[..3000], &noise(3000), &text[..500]].concat();
    let message = |content: &[u8], message: Vec<u8>| {
        let length = u32::try_from(content.len()).unwrap();
        [&length.to_le_bytes()[..], &message].concat()
    };
    let mut seeds: Vec<Vec<u8>> =
        [&text[..], &zeros, &mixed, b"short"].map(|content| message(content, encode_chunk(content))).to_vec();
    // Other levels make other kinds of blocks.
    for level in [-5, 1, 3] {
        let data = zstd::bulk::compress(&mixed, level).unwrap();
        seeds.push(message(&mixed, [&[1], &data[..]].concat()));
    }
    seeds
}

fn batches() -> Vec<Vec<u8>> {
    let batch = |payloads: &[Vec<u8>]| {
        let mut builder = BatchBuilder::default();
        for (id, payload) in (1..).zip(payloads) {
            builder.push(id, 1_900_000_000_000, payload);
        }
        builder.finish()
    };
    let json = |frame: usize| format!("{{\"frame\":{frame},\"score\":0.{}}}", frame * 7919 % 1000).into_bytes();
    [batch(&[]), batch(&[b"x".to_vec()]), batch(&(0..200).map(json).collect::<Vec<_>>()), batch(&[noise(20_000)])]
        .to_vec()
}

fn reports() -> Vec<Vec<u8>> {
    let digest = Digest::of(b"x");
    let fault = json!({ "code": "trap", "message": "unreachable", "trap": "unreachable", "seq": 5, "fuel_used": 7, "memory_bytes": 65_536 });
    [
        json!({ "session": "s", "online": true, "agent": "0.1.0", "boot": "b", "since": 1_900_000_000 }),
        json!({ "schema": "sanderling.reported/1", "device": "gw-1", "session": "s",
            "deployment": { "name": "a", "version": 3, "digest": digest, "state": "fetching", "progress": { "held": 1, "total": 2, "pulled": 1 } },
            "metadata": { "root": 1, "timestamp": 2, "snapshot": 2, "targets": 2, "expires": 1_900_000_000 },
            "modules": [ { "name": "m", "artifact": digest, "state": "faulted", "since": 5, "restarts": 1, "frames": 9, "dropped": 0, "fault": fault } ],
            "sensors": [ { "name": "cam0", "frames": 3 } ], "refused": [ { "what": "w", "digest": digest, "why": "y" } ],
            "storage": { "used": 1, "free": 2 }, "outbox": { "records": 0, "bytes": 0, "dropped": 0 }, "stale": 5 }),
        json!({ "at_ms": 1, "event": "rolled_back", "deployment": "a", "digest": digest, "why": "w" }),
        json!({ "at_ms": 1, "event": "fault", "module": "m", "fault": fault, "quarantined": false }),
        json!({ "ok": true, "body": { "a": 1 } }),
    ]
    .map(|report| report.to_string().into_bytes())
    .to_vec()
}

fn topics() -> Vec<Vec<u8>> {
    let digest = Digest::of(b"x");
    ["repo/timestamp", "repo/7.root", "repo/1.a%2Fb%20%2B%23%C3%BC%25", "device/gw-1/data/scratch/defects"]
        .map(|rest| format!("sanderling/v1/{rest}"))
        .into_iter()
        .chain([format!("sanderling/v1/blob/{digest}"), format!("sanderling/v1/chunk/{digest}")])
        .map(String::into_bytes)
        .collect()
}

fn streams() -> Vec<Vec<u8>> {
    let mut up = vec![7];
    let missing = Missing { measure: Measure::Files, why: "no landlock".into() };
    for message in [
        FromWorker::Ready(Ready { module_us: 1, models_us: 2, memory_bytes: 3, unconfined: vec![missing] }),
        FromWorker::Running,
        FromWorker::Emit { seq: 9, channel: "defects", payload: b"{}" },
        FromWorker::Log { level: 2, text: "hello" },
        FromWorker::FrameDone(FrameDone { seq: 9, took_ns: 8, fuel: 7, memory_bytes: 6 }),
        FromWorker::FrameRefused { seq: 10, why: "not a PNG" },
        FromWorker::Denied { function: "emit" },
        FromWorker::StateSet { key: b"count", value: b"7" },
        FromWorker::StateDelete { key: b"count" },
        FromWorker::Metric { name: "seen", metric: Metric::Counter(7.0) },
        FromWorker::Fault(Fault::new(FaultCode::Trap, "unreachable")),
        FromWorker::Stopped,
    ] {
        message.encode(&mut up);
    }
    let start = json!({ "name": "m", "module": { "sha256": Digest::of(b"m"), "length": 1 },
        "models": [ { "name": "n", "blob": { "sha256": Digest::of(b"n"), "length": 1 } } ], "execution": "reactor",
        "inputs": [ { "sensor": "cam0", "decode": "gray8" } ], "config": "{}", "grants": ["infer"], "limits": {} })
    .to_string();
    let mut down = vec![200];
    down.extend_from_slice(&u32::try_from(start.len() + 1).unwrap().to_le_bytes());
    down.push(1);
    down.extend_from_slice(start.as_bytes());
    let state = ToWorker::State { key: b"count".to_vec(), value: b"7".to_vec() };
    for message in [state, ToWorker::Begin, ToWorker::Wake, ToWorker::Stop] {
        message.encode(&mut down);
    }
    vec![up, down]
}

/// A region with a snapshot of a page and a log with an entry of each kind.
fn record() -> Vec<u8> {
    let entry = |kind: u8, parts: &[&[u8]]| {
        let body = parts.concat();
        [&[kind][..], &u32::try_from(body.len()).unwrap().to_le_bytes(), &body].concat()
    };
    let number = |value: u32| value.to_le_bytes();
    let mut snapshot = [&[1][..], &10_u64.to_le_bytes(), &64_u64.to_le_bytes(), &number(1), &number(0), &[1]].concat();
    snapshot.extend_from_slice(&5_u128.to_le_bytes());
    snapshot.extend([&number(1)[..], &65_536_u64.to_le_bytes(), &number(2), &number(1), &[7; PAGE]].concat());
    snapshot.extend(END_OF_PAGES.to_le_bytes());
    let writes = [number(8), number(2), number(u32::MAX)].concat();
    let log = [
        entry(kind::INSTANCE, &[]),
        entry(kind::FRAME, &[&[3; FRAME_HEADER], b"content"]),
        entry(kind::BEGIN, &[&[5], &number(0)]),
        entry(kind::FUNCTION, &[&3_u16.to_le_bytes(), &1_u16.to_le_bytes(), b"mlog"]),
        entry(kind::CALL, &[&3_u16.to_le_bytes(), &5_u64.to_le_bytes()]),
        entry(kind::RETURN, &[&40_u64.to_le_bytes(), &[1], &2_u64.to_le_bytes(), &writes, b"ab"]),
        entry(kind::END, &[&9_u64.to_le_bytes(), &65_536_u64.to_le_bytes()]),
        entry(kind::FAULT, &[br#"{"code":"trap","message":"m"}"#]),
        entry(kind::STATE, &[&1_u64.to_le_bytes()]),
    ]
    .concat();
    let mut bytes = vec![0; HEADER];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    let snapshot_end = HEADER + snapshot.len();
    put(offset::MAGIC, &MAGIC);
    put(offset::BASIS, &number(2));
    put(offset::SNAPSHOT_END, &number(u32::try_from(snapshot_end).unwrap()));
    put(offset::LOG_END, &number(u32::try_from(snapshot_end + log.len()).unwrap()));
    put(offset::FRAME, &number(u32::try_from(snapshot_end + 106).unwrap()));
    put(offset::FRAME_LEN, &number(7));
    [bytes, snapshot, log].concat()
}

fn capsule() -> Vec<u8> {
    let digest = Digest::of(b"x");
    let manifest: Manifest = serde_json::from_value(json!({
        "schema": "sanderling.capsule/1", "device": "gw-1", "at_ms": 5, "agent": "0.1.0", "arch": "x86_64",
        "deployment": { "name": "a", "version": 3, "digest": digest }, "name": "m", "path": "modules/m/1.wasm",
        "module": { "sha256": digest, "length": 9 }, "execution": "reactor", "config": { "a": 1 }, "grants": ["infer"],
        "limits": {}, "fault": { "code": "trap", "message": "unreachable" } }))
    .unwrap();
    manifest.pack(&record())
}
