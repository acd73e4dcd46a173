//! From a signed deployment to what guests find: images, series and frames of local programs.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    os::unix::net::UnixStream,
    path::Path,
};

use sanderling_guest::frame::FrameHeader;
use sanderling_protocol::reported::ModuleState;
use sanderling_tests::{
    Module, PATIENCE, Site, defects, deployment, guest,
    guests::{TICKS, ticks},
    source, until,
};
use serde_json::Value;

/// The files of a table with a title line, by their first column.
fn table(path: &Path) -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    rows.map(|mut row| (row.remove(0), row)).collect()
}

#[test]
fn finds_the_defects_of_the_held_out_images_and_no_others() {
    const THRESHOLD: f64 = 0.9;
    // The expected scores are of another image library, which rounds pixels differently.
    const SAME_IMAGE: f64 = 1e-2;
    let folder = source().join("modules/surface-defect");
    let images = folder.join("images/held-out");
    let expected: Vec<(String, f64)> = table(&folder.join("model/expected-scores.csv"))
        .into_iter()
        .map(|(file, scores)| (file, scores[0].parse().unwrap()))
        .collect();
    let labels = table(&images.join("labels.csv"));

    let site = Site::new();
    let device = site.device("gw-1");
    device.lay("cam0", &format!("[sensor.cam0]\nkind = 'replay'\npath = {images:?}\nrate = 40\nloop = true\n"));
    let _agent = device.start();
    site.fleet.add_module(&std::fs::read(guest("surface-defect")).unwrap(), "modules/surface-defect/1.0.0.wasm");
    site.fleet
        .add_model(&std::fs::read(folder.join("model/surface-defect.onnx")).unwrap(), "models/surface-defect/1.onnx");
    let module = defects("cam0", "modules/surface-defect/1.0.0.wasm", "models/surface-defect/1.onnx");
    let digest = site.fleet.roll_out(&deployment("line", [module]), &site.broker);

    // A record of the second pass says that the first is complete.
    let count = expected.len() as u64;
    let records = site.observer.wait_for("defects of a whole pass", PATIENCE, |seen| {
        let records = seen.records(&device.id, "scratch", "defects");
        records.last().is_some_and(|last| last["seq"].as_u64() > Some(count)).then_some(records)
    });
    let report = site.observer.wait_active(&device.id, digest);
    assert_eq!((report.modules[0].dropped, report.modules[0].unreadable), (0, 0), "{:?}", report.modules);
    assert_eq!(report.modules[0].state, ModuleState::Running);

    let mut found = BTreeSet::new();
    for record in records.iter().filter(|record| record["seq"].as_u64() <= Some(count)) {
        let at = record["seq"].as_u64().unwrap() as usize - 1;
        let (file, score) = &expected[at];
        assert!((record["score"].as_f64().unwrap() - score).abs() < SAME_IMAGE, "{file}: {record}, expected {score}");
        assert_eq!((record["defect"].as_bool(), record["box"].is_array()), (Some(true), true), "{file}: {record}");
        found.insert(file.clone());
    }
    let wanted: BTreeSet<String> =
        expected.iter().filter(|(_, score)| *score >= THRESHOLD).map(|(file, _)| file.clone()).collect();
    assert_eq!(found, wanted);
    let defective = |file: &&String| labels[*file][0] == "1";
    let right = found.iter().filter(defective).count() as f64;
    let (precision, recall) = (right / found.len() as f64, right / labels.keys().filter(defective).count() as f64);
    println!("precision {precision:.3}, recall {recall:.3}");
    // As the model card says.
    assert!(precision >= 0.99 && recall >= 0.86, "precision {precision}, recall {recall}");
}

#[test]
fn gives_series_to_a_guest_in_c_and_frames_of_local_programs_to_another() {
    let site = Site::new();
    let device = site.device("gw-1");
    for series in ["healthy", "faulty"] {
        let file = source().join(format!("modules/vibration/data/{series}.csv"));
        device.lay(
            series,
            &format!(
                "[sensor.{series}]\nkind = 'replay'\nfiles = [{file:?}]\nrate = 10\nloop = true\n\
                 csv = {{ window = 512, rate_hz = 3200 }}\n"
            ),
        );
    }
    device.lay("local", "[sensor.local]\nkind = 'socket'\npath = 'local.sock'\nmax_frame = 65536\n");
    let _agent = device.start();
    site.fleet.add_module(&std::fs::read(guest("vibration")).unwrap(), "modules/vibration/1.wasm");
    site.fleet.add_module(&ticks(b's'), "modules/ticks/s.wasm");
    let vibration = |name: &str| Module::new(name, "modules/vibration/1.wasm").sensor(name).emits("vibration");
    let local = Module::new("local", "modules/ticks/s.wasm").sensor("local").emits(TICKS);
    let local = local.set("/probation/frames", 0.into());
    let document = deployment("machine", [vibration("healthy"), vibration("faulty"), local]);
    let digest = site.fleet.roll_out(&document, &site.broker);
    site.observer.wait_active(&device.id, digest);

    // The figures that the data's own README states, by window of 512.
    for (series, alarm, kurtosis) in [("healthy", false, 2.30..2.53), ("faulty", true, 7.62..11.69)] {
        let records = site.observer.wait_for(&format!("all windows of {series}"), PATIENCE, |seen| {
            let records = seen.records(&device.id, series, "vibration");
            (records.len() >= 8).then_some(records)
        });
        for record in &records[..8] {
            assert_eq!(record["alarm"], Value::Bool(alarm), "{series}: {record}");
            assert!(kurtosis.contains(&record["kurtosis"].as_f64().unwrap()), "{series}: {record}");
        }
    }

    let socket = device.runtime("local.sock");
    let connect = || until(PATIENCE, || UnixStream::connect(&socket).ok()).unwrap();
    let mut hostile = connect();
    hostile.write_all(&[0xff; 256]).unwrap();
    let mut honest = connect();
    for number in 0..20_u32 {
        let content = number.to_le_bytes();
        let mut frame = u32::try_from(96 + content.len()).unwrap().to_le_bytes().to_vec();
        frame.extend_from_slice(&FrameHeader::new("", 0).to_bytes());
        frame.extend_from_slice(&content);
        honest.write_all(&frame).unwrap();
    }
    let seen = site.observer.wait_for("20 frames of a local program", PATIENCE, |seen| {
        let ticks = seen.ticks(&device.id, "local");
        (ticks.len() >= 20).then_some(ticks)
    });
    assert_eq!(seen.iter().map(|tick| tick.seq).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
    let report = site.observer.request(&device.id, "report", b"").body.unwrap();
    let sensors = report["sensors"].as_array().unwrap();
    let local = sensors.iter().find(|sensor| sensor["name"] == "local").unwrap();
    assert_eq!(local["frames"], 20, "{local}");
    assert!(
        local["error"].as_str().is_some_and(|error| error.contains("max_frame")),
        "the hostile writer is reported: {local}"
    );
}
