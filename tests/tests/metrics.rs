//! What a real agent tells a scraper, while it works.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use sanderling_tests::{PATIENCE, Site, until};

/// A scrape over the Unix socket, by sample; `None` where nobody answers yet.
fn scrape(path: &Path) -> Option<BTreeMap<String, f64>> {
    let mut stream = UnixStream::connect(path).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, text) = answer.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 200 OK") && text.ends_with("# EOF\n"), "{answer}");
    let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap());
    Some(samples.map(|(sample, value)| (sample.to_owned(), value.parse().unwrap())).collect())
}

#[test]
fn a_scraper_sees_frames_times_fuel_memory_link_and_pulls_of_an_agent_that_works() {
    let site = Site::new();
    let device = site.device("gw-1");
    device.lay("metrics", "[metrics]\npath = 'metrics.sock'\n");
    device.lay_clock("clock", 50.0);
    let _agent = device.start();
    let socket = device.runtime("metrics.sock");
    let idle = until(PATIENCE, || scrape(&socket)).expect("nobody answers");
    assert!(!idle.keys().any(|sample| sample.contains("module=")), "{idle:?}");
    let digest = site.roll_out_ticks(b'a');
    site.observer.wait_active(&device.id, digest);
    site.observer.wait_ticks(&device.id, "ticks", b'a', 20);
    let samples = scrape(&socket).unwrap();
    let value = |sample: &str| *samples.get(sample).unwrap_or_else(|| panic!("no {sample} in {samples:#?}"));
    let frames = value("sanderling_frames_total{module=\"ticks\"}");
    assert!(frames >= 20.0);
    assert_eq!(value("sanderling_frame_duration_seconds_count{module=\"ticks\"}"), frames);
    assert_eq!(value("sanderling_frame_duration_seconds_bucket{le=\"+Inf\",module=\"ticks\"}"), frames);
    assert!(value("sanderling_frame_duration_seconds_sum{module=\"ticks\"}") > 0.0);
    assert!(value("sanderling_fuel_total{module=\"ticks\"}") > frames);
    assert!(value("sanderling_sensor_frames_total{sensor=\"clock\"}") >= frames);
    assert_eq!(value("sanderling_module_state{module=\"ticks\",state=\"running\"}"), 1.0);
    for process in ["agent", "ticks"] {
        let of = format!("sanderling_process_memory_bytes{{process=\"{process}\"");
        let held = samples.iter().find(|(sample, _)| sample.starts_with(&of)).unwrap_or_else(|| panic!("no {of}"));
        assert!(*held.1 > 100_000.0, "{held:?}");
    }
    assert_eq!((value("sanderling_link_connected"), value("sanderling_link_connects_total")), (1.0, 1.0));
    assert!(value("sanderling_pull_chunks_total") >= 1.0 && value("sanderling_pull_bytes_total") > 100.0);
    assert!(
        value("sanderling_store_free_bytes") > 0.0 && value("sanderling_certificate_expiry_timestamp_seconds") > 0.0
    );
    assert_eq!(value("sanderling_pull_failures_total"), 0.0);
}
