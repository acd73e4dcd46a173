//! Who gets which frames, from a signed deployment on a real agent: records of one module as frames of another, samples, and windows of a series.

#![allow(clippy::unwrap_used, clippy::panic)]

use sanderling_protocol::reported::Drops;
use sanderling_tests::{
    Module, Site, deployment,
    guests::{TICKS, ticks},
};
use serde_json::json;

#[test]
fn records_of_a_module_are_frames_of_the_next_and_circles_are_refused() {
    let site = Site::new();
    let device = site.device("gw-1");
    device.lay_clock("clock", 200.0);
    let _agent = device.start();
    site.fleet.add_module(&ticks(b'a'), "modules/ticks/a.wasm");
    let module = |name: &str| Module::new(name, "modules/ticks/a.wasm").emits(TICKS);
    let queued = |module: &str| json!([{ "module": module, "channel": TICKS, "policy": { "queue": 1024 } }]);
    let first = module("first").sensor("clock").set(&format!("/channels/{TICKS}/sink"), json!([]));
    let second = module("second").set("/input", queued("first"));
    let third = module("third").set("/input", queued("second"));
    let sampled = json!([{ "sensor": "clock", "policy": { "sample": { "every": 10 } } }]);
    let sampled = module("sampled").set("/input", sampled).set("/probation/frames", 1.into());
    let modules = [first.clone(), second, third, sampled];
    let digest = site.fleet.roll_out(&deployment("chain", modules), &site.broker);
    site.observer.wait_active(&device.id, digest);

    let handled = site.observer.wait_ticks(&device.id, "third", b'a', 100);
    let seqs: Vec<u64> = handled.iter().map(|tick| tick.seq).collect();
    assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "each record of the module before, in order: {seqs:?}");
    let sampled = site.observer.wait_ticks(&device.id, "sampled", b'a', 10);
    let seqs: Vec<u64> = sampled.iter().map(|tick| tick.seq).collect();
    assert!(seqs.windows(2).all(|pair| (pair[1] - pair[0]) % 10 == 0), "{seqs:?}");
    let report = site.observer.wait_report(&device.id, "what was left out", |report| {
        report.modules.iter().any(|module| module.name == "sampled" && module.skipped > 50)
    });
    for module in &report.modules {
        assert_eq!((module.dropped, module.drops), (0, Drops::default()), "{}", module.name);
    }
    let none = site.observer.try_wait(std::time::Duration::ZERO, |seen| seen.ticks(&device.id, "first").pop());
    assert!(none.is_none(), "what only feeds another module does not leave the device");

    // The tool holds a document to what the device does (`Deployment::parse`), before anything is signed.
    let circle = [module("first").set("/input", queued("second")), module("second").set("/input", queued("first"))];
    let file = site.fleet.path("circle.json");
    std::fs::write(&file, deployment("chain", circle).to_string()).unwrap();
    let refused = site.fleet.try_run(["repo".as_ref(), "deploy".as_ref(), file.as_os_str()]).unwrap_err();
    assert!(refused.contains("first -> second -> first"), "{refused}");
}

#[test]
fn a_series_is_cut_into_the_windows_that_a_module_asks_for() {
    let site = Site::new();
    let device = site.device("gw-1");
    let rows: String = (0..64).map(|row| format!("{row},{}\n", -row)).collect();
    std::fs::write(device.file("vibration.csv"), rows).unwrap();
    let path = device.file("vibration.csv");
    let table = "kind = 'replay'\nrate = 100\ncsv = { window = 8, rate_hz = 800.0 }";
    device.lay("vibration", &format!("[sensor.vibration]\n{table}\npath = {path:?}\n"));
    let _agent = device.start();
    site.fleet.add_module(&ticks(b'a'), "modules/ticks/a.wasm");
    let module = |name: &str, policy| {
        let input = json!([{ "sensor": "vibration", "policy": policy }]);
        Module::new(name, "modules/ticks/a.wasm").emits(TICKS).set("/input", input)
    };
    let whole = module("whole", json!({ "queue": 100 }));
    let windows = module("windows", json!({ "window": { "samples": 32, "hop": 16, "queue": 100 } }));
    let digest = site.fleet.roll_out(&deployment("line", [whole, windows]), &site.broker);
    site.observer.wait_active(&device.id, digest);
    let windows = site.observer.wait_ticks(&device.id, "windows", b'a', 20);
    let seqs: Vec<u64> = windows.iter().map(|tick| tick.seq).collect();
    assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seqs:?}");
    // A window of 32 samples is full with the fourth frame of eight, and then with every second one.
    let report = site.observer.wait_report(&device.id, "both modules far enough", |report| {
        report.modules.iter().all(|module| module.frames > 50)
    });
    let frames = |name: &str| report.modules.iter().find(|module| module.name == name).unwrap().frames;
    let (frames, windows) = (frames("whole"), frames("windows"));
    assert!(windows.abs_diff(frames / 2) <= 8, "{windows} windows of {frames} frames");
    assert!(report.modules.iter().all(|module| module.dropped == 0), "{:?}", report.modules);
}
