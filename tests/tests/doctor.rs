//! What `sanderling-agent doctor` and `check` say of a provisioned device.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{fs, process::Command};

use sanderling_tests::{Device, Site, program};
use serde_json::Value;

fn ask(command: &str, device: &Device) -> (Option<i32>, Value) {
    let mut asked = Command::new(program("sanderling-agent"));
    let output = asked.arg(command).arg("--json").arg("--config").arg(device.configuration()).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

/// Outcome and words of one finding.
#[track_caller]
fn finding(found: &Value, area: &str, check: &str) -> (String, String) {
    let findings = found["findings"].as_array().unwrap();
    let is = |finding: &&Value| finding["area"] == area && finding["check"] == check;
    let finding = findings.iter().find(is).unwrap_or_else(|| panic!("{area} {check} was not looked at: {found}"));
    let text = |key: &str| finding[key].as_str().unwrap().to_owned();
    (text("outcome"), text("says"))
}

#[test]
fn the_doctor_examines_a_device_and_does_not_disturb_its_agent() {
    let mut site = Site::new();
    let device = site.device("gw-1");
    device.lay_clock("clock", 50.0);
    let (_, found) = ask("doctor", &device);
    for (area, check) in [
        ("configuration", "settings"),
        ("configuration", "root"),
        ("configuration", "worker_program"),
        ("certificates", "authority"),
        ("certificates", "certificate"),
        ("certificates", "pair"),
        ("certificates", "key"),
        ("broker", "name"),
        ("broker", "tcp"),
        ("broker", "tls"),
        ("broker", "connect"),
        ("clock", "time"),
        ("disk", "state"),
        ("disk", "database"),
        ("disk", "runtime"),
        ("confinement", "worker"),
        ("sensors", "replay"),
    ] {
        assert_eq!(finding(&found, area, check).0, "good", "{area} {check}: {found}");
    }
    assert!(finding(&found, "broker", "connect").1.contains("the broker takes gw-1"), "{found}");
    assert!(!device.file("../../state/gw-1").exists(), "it makes nothing");

    let agent = device.start();
    let digest = site.roll_out_ticks(b'a');
    site.observer.wait_active(&device.id, digest);
    let session = site.observer.wait_report(&device.id, "a session", |_| true).session;
    let (_, found) = ask("doctor", &device);
    let (outcome, says) = finding(&found, "broker", "connect");
    assert!(outcome == "good" && says.contains("not tried: the agent runs"), "{says}");
    assert!(finding(&found, "disk", "database").1.contains("the agent runs"), "{found}");
    site.observer.wait_ticks(&device.id, "ticks", b'a', 20);
    assert_eq!(site.observer.wait_report(&device.id, "its session", |_| true).session, session, "it goes on");
    drop(agent);

    site.broker.stop();
    fs::remove_file(device.file("device.key")).unwrap();
    let (status, found) = ask("doctor", &device);
    assert_eq!(status, Some(1), "{found}");
    assert_eq!(finding(&found, "broker", "tcp").0, "bad");
    assert_eq!(finding(&found, "certificates", "pair").0, "bad");
    assert_eq!(finding(&found, "confinement", "worker").0, "good", "the rest is examined");
    let (status, checked) = ask("check", &device);
    assert_eq!((status, checked["right"].as_bool()), (Some(78), Some(false)));
    assert!(checked["error"].as_str().unwrap().contains("device.key"), "{checked}");
}
