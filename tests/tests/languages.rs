//! Guests in AssemblyScript, Zig, Go and C++, from a signed deployment to their records, in confined workers.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{io::Write, os::unix::net::UnixStream};

use sanderling_guest::frame::FrameHeader;
use sanderling_protocol::reported::ModuleState;
use sanderling_tests::{Module, PATIENCE, Site, deployment, guest, source, until};
use serde_json::json;

#[test]
fn guests_in_four_languages_run_beside_each_other() {
    let site = Site::new();
    let device = site.device("gw-1");
    let series = source().join("modules/vibration/data/healthy.csv");
    device.lay(
        "machine",
        &format!(
            "[sensor.machine]\nkind = 'replay'\nfiles = [{series:?}]\nrate = 10\nloop = true\n\
             csv = {{ window = 512, rate_hz = 3200 }}\n"
        ),
    );
    let images = source().join("modules/surface-defect/images/held-out");
    device.lay("camera", &format!("[sensor.camera]\nkind = 'replay'\npath = {images:?}\nrate = 20\nloop = true\n"));
    device.lay("scale", "[sensor.scale]\nkind = 'socket'\npath = 'scale.sock'\nmax_frame = 4096\n");
    let _agent = device.start();
    for name in ["deadband", "aggregate", "text-match", "motion"] {
        site.fleet.add_module(&std::fs::read(guest(name)).unwrap(), &format!("modules/{name}/1.wasm"));
    }
    let pattern = json!({ "name": "weight", "match": "^(?P<kg>[0-9.]+) kg$", "numbers": ["kg"] });
    let modules = [
        Module::new("deadband", "modules/deadband/1.wasm")
            .sensor("machine")
            .emits("changes")
            .config(json!({ "band": 1e6, "max_interval_s": 0.25 })),
        Module::new("aggregate", "modules/aggregate/1.wasm").sensor("machine").emits("aggregates").config(
            json!({ "window_samples": 4096, "functions": ["count", "stddev", "p50"], "names": ["acceleration"] }),
        ),
        Module::new("text-match", "modules/text-match/1.wasm")
            .sensor("scale")
            .emits("matches")
            .config(json!({ "patterns": [pattern] }))
            .set("/probation/frames", 0.into()),
        Module::new("motion", "modules/motion/1.wasm").decoded("camera", "gray8").emits("motion"),
    ];
    let digest = site.fleet.roll_out(&deployment("line", modules), &site.broker);
    let report = site.observer.wait_active(&device.id, digest);
    assert!(report.modules.iter().all(|module| module.state == ModuleState::Running), "{:?}", report.modules);

    let records = |module: &'static str, channel: &'static str, count: usize| {
        site.observer.wait_for(&format!("{count} records of {module}"), PATIENCE, |seen| {
            let records = seen.records(&device.id, module, channel);
            (records.len() >= count).then_some(records)
        })
    };
    let changes = records("deadband", "changes", 3);
    assert_eq!(changes[0]["cause"], "first", "{changes:?}");
    assert!(changes[1..].iter().all(|change| change["cause"] == "interval"), "nothing leaves such a band: {changes:?}");
    // What the data's own README says of all its samples, whichever it begins with.
    for window in records("aggregate", "aggregates", 2) {
        assert_eq!((&window["count"], &window["name"]), (&json!(4096), &json!("acceleration")), "{window}");
        assert!((window["stddev"].as_f64().unwrap() - 0.2591).abs() < 0.0002, "{window}");
    }
    // The images show other surfaces each time, which no background is like.
    assert!(records("motion", "motion", 1)[0]["area"].as_f64().unwrap() > 0.0);

    let socket = device.runtime("scale.sock");
    let mut scale = until(PATIENCE, || UnixStream::connect(&socket).ok()).unwrap();
    for text in ["12.", "5 kg\n13 ", "kg\r\n"] {
        let mut frame = u32::try_from(96 + text.len()).unwrap().to_le_bytes().to_vec();
        frame.extend_from_slice(&FrameHeader::new("", 0).to_bytes());
        frame.extend_from_slice(text.as_bytes());
        scale.write_all(&frame).unwrap();
    }
    let weights: Vec<f64> =
        records("text-match", "matches", 2).iter().map(|weight| weight["kg"].as_f64().unwrap()).collect();
    assert_eq!(weights, [12.5, 13.0]);
}
