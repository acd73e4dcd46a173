use std::collections::{BTreeMap, BTreeSet};

use sanderling_protocol::{
    digest::Digest,
    reported::{Damaged, ModuleReport, Outbox, SensorReport, SinkReport, Storage},
    worker::FaultCode,
};

use super::*;
use crate::{
    metrics::{Counts, server::tests::asked},
    workload::{Histogram, ModuleFigures},
};

const OPERATING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operating.md");

fn figures() -> Figures {
    let mut latency = Histogram::default();
    [90_000, 90_000, 3_000_000_000, 60_000_000_000].into_iter().for_each(|nanos| latency.add(nanos));
    let report = ModuleReport {
        name: "scratch".to_owned(),
        artifact: Digest::of(b""),
        state: ModuleState::Running,
        since: 0,
        restarts: 3,
        frames: 1234,
        dropped: 5,
        drops: sanderling_protocol::reported::Drops::default(),
        skipped: 0,
        unreadable: 6,
        frame_us_p50: 0,
        frame_us_p99: 0,
        excess: sanderling_protocol::reported::Excess::default(),
        metrics: [("seen".to_owned(), Metric::Counter(2.5)), ("we\"ird\nname\\".to_owned(), Metric::Gauge(-1.0))]
            .into(),
        denied: Vec::new(),
        pid: Some(std::process::id()),
        next_restart: None,
        unconfined: Vec::new(),
        fault: None,
    };
    let drops = vec![("overtaken", 5), ("oversize", 2)];
    let faults = vec![(FaultCode::Trap, 2), (FaultCode::NativeMemory, 1)];
    Figures {
        modules: vec![ModuleFigures { report, drops, latency, faults, fuel: 77 }],
        sensors: vec![SensorReport { name: "cam0".to_owned(), frames: 9, refused: 0, error: Some("gone".to_owned()) }],
        sinks: vec![SinkReport {
            name: "gate".to_owned(),
            records: 21,
            dropped: [("full".to_owned(), 4)].into(),
            ..SinkReport::default()
        }],
        outbox: Outbox { records: 1, bytes: 2, dropped: 3 },
        storage: Storage { used: 4, free: 5, damaged: Damaged { databases: 1, blobs: 2 } },
        connected: true,
        certificate_expires: Some(1_927_843_200),
        counts: Counts {
            connects: 11,
            link_failures: 12,
            chunks: 13,
            chunk_bytes: 14,
            pull_failures: 15,
            store_failures: 16,
        },
    }
}

/// The families and the samples of a text, which is held to the form of OpenMetrics.
fn read(text: &str) -> (BTreeMap<String, String>, BTreeMap<String, f64>) {
    let (mut families, mut samples) = (BTreeMap::new(), BTreeMap::new());
    let body = text.strip_suffix("# EOF\n").expect("the end is said");
    let mut family = String::new();
    for line in body.lines() {
        if let Some(told) = line.strip_prefix("# TYPE ") {
            let (name, kind) = told.split_once(' ').unwrap();
            assert!(families.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
            family = name.to_owned();
        } else if line.starts_with("# HELP ") || line.starts_with("# UNIT ") {
            assert!(line.len() > "# HELP x ".len());
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            assert!(sample.starts_with(&family), "{sample} in {family}");
            let suffix = sample.strip_prefix(&family).unwrap().split('{').next().unwrap();
            let allowed: &[&str] = match families[&family].as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                "info" => &["_info"],
                "histogram" => &["_bucket", "_sum", "_count"],
                other => unreachable!("{other}"),
            };
            assert!(allowed.contains(&suffix), "{sample} as {}", families[&family]);
            assert!(samples.insert(sample.to_owned(), value.parse().unwrap()).is_none(), "{sample} twice");
        }
    }
    (families, samples)
}

#[test]
fn what_the_driver_knows_is_told() {
    let (_, samples) = read(&text(figures(), &Machine).unwrap());
    for (sample, value) in [
        ("sanderling_frames_total{module=\"scratch\"}", 1234.0),
        ("sanderling_frames_dropped_total{module=\"scratch\",cause=\"overtaken\"}", 5.0),
        ("sanderling_frames_dropped_total{module=\"scratch\",cause=\"oversize\"}", 2.0),
        ("sanderling_faults_total{module=\"scratch\",code=\"native_memory\"}", 1.0),
        ("sanderling_fuel_total{module=\"scratch\"}", 77.0),
        ("sanderling_restarts_total{module=\"scratch\"}", 3.0),
        ("sanderling_module_state{module=\"scratch\",state=\"running\"}", 1.0),
        ("sanderling_module_state{module=\"scratch\",state=\"faulted\"}", 0.0),
        ("sanderling_frame_duration_seconds_bucket{le=\"0.0001\",module=\"scratch\"}", 2.0),
        ("sanderling_frame_duration_seconds_bucket{le=\"5.0\",module=\"scratch\"}", 3.0),
        ("sanderling_frame_duration_seconds_bucket{le=\"+Inf\",module=\"scratch\"}", 4.0),
        ("sanderling_frame_duration_seconds_count{module=\"scratch\"}", 4.0),
        ("sanderling_guest_counter_total{module=\"scratch\",name=\"seen\"}", 2.5),
        ("sanderling_guest_gauge{module=\"scratch\",name=\"we\\\"ird\\nname\\\\\"}", -1.0),
        ("sanderling_sensor_frames_total{sensor=\"cam0\"}", 9.0),
        ("sanderling_sensor_failing{sensor=\"cam0\"}", 1.0),
        ("sanderling_sink_records_total{sink=\"gate\"}", 21.0),
        ("sanderling_sink_dropped_total{sink=\"gate\",cause=\"full\"}", 4.0),
        ("sanderling_outbox_records", 1.0),
        ("sanderling_outbox_size_bytes", 2.0),
        ("sanderling_outbox_dropped_total", 3.0),
        ("sanderling_link_connected", 1.0),
        ("sanderling_link_connects_total", 11.0),
        ("sanderling_link_failures_total", 12.0),
        ("sanderling_certificate_expiry_timestamp_seconds", 1_927_843_200.0),
        ("sanderling_pull_chunks_total", 13.0),
        ("sanderling_pull_bytes_total", 14.0),
        ("sanderling_pull_failures_total", 15.0),
        ("sanderling_store_used_bytes", 4.0),
        ("sanderling_store_free_bytes", 5.0),
        ("sanderling_store_damaged_total{what=\"blob\"}", 2.0),
        ("sanderling_store_failures_total", 16.0),
    ] {
        assert_eq!(samples.get(sample), Some(&value), "{sample} in {samples:#?}");
    }
    let memory = samples.iter().filter(|(name, _)| name.starts_with("sanderling_process_memory_bytes"));
    assert_eq!(memory.filter(|(_, bytes)| **bytes > 0.0).count(), 2, "the agent and a worker");
}

#[tokio::test]
async fn the_list_in_the_documents_and_a_scrape_are_the_same() {
    let documents = std::fs::read_to_string(OPERATING).unwrap();
    let listed: BTreeSet<(String, String)> = documents
        .lines()
        .filter_map(|line| line.strip_prefix("| `sanderling_"))
        .map(|rest| {
            let (name, rest) = rest.split_once('`').unwrap();
            let kind = rest.split('|').nth(1).unwrap().trim();
            (format!("sanderling_{}", name.split('{').next().unwrap()), kind.to_owned())
        })
        .collect();
    // A device that has nothing to tell yet tells of every family all the same.
    for figures in [figures(), Figures::default()] {
        let answer = asked(figures, &["GET /metrics"]).await.remove(0);
        let (_, text) = answer.split_once("\r\n\r\n").unwrap();
        let (families, _) = read(text);
        let with_suffix = |(name, kind): (String, String)| match kind.as_str() {
            "counter" => (format!("{name}_total"), kind),
            "info" => (format!("{name}_info"), kind),
            _ => (name, kind),
        };
        let scraped: BTreeSet<_> = families.into_iter().map(with_suffix).collect();
        assert_eq!(scraped, listed);
    }
}
