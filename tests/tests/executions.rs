//! The ways to run a module, from a signed deployment on a real agent: a fresh instance for each frame, and a plain program for each.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{io::Write, os::unix::net::UnixStream};

use sanderling_guest::frame::FrameHeader;
use sanderling_protocol::{reported::ModuleState, worker::FaultCode};
use sanderling_tests::{Device, Module, PATIENCE, Site, deployment, guest, guests, until};
use serde_json::{Value, json};

/// A sensor that local programs write to.
fn lay_socket(device: &Device, name: &str) {
    device.lay(name, &format!("[sensor.{name}]\nkind = 'socket'\npath = '{name}.sock'\nmax_frame = 65536\n"));
}

/// Sends frames to such a sensor.
fn send(device: &Device, name: &str, frames: &[&str]) {
    let socket = device.runtime(&format!("{name}.sock"));
    let mut stream = until(PATIENCE, || UnixStream::connect(&socket).ok()).unwrap();
    for content in frames {
        let mut frame = u32::try_from(96 + content.len()).unwrap().to_le_bytes().to_vec();
        frame.extend_from_slice(&FrameHeader::new("", 0).to_bytes());
        frame.extend_from_slice(content.as_bytes());
        stream.write_all(&frame).unwrap();
    }
}

fn records(site: &Site, device: &Device, module: &str, channel: &str, count: usize) -> Vec<Value> {
    site.observer.wait_for(&format!("{count} records of {module}"), PATIENCE, |seen| {
        let records = seen.records(&device.id, module, channel);
        (records.len() >= count).then_some(records)
    })
}

fn payment(id: &str, amount: u32, country: &str) -> String {
    json!({ "id": id, "amount": amount, "currency": "EUR", "country": country, "merchant": "m", "at": 1_780_315_200 })
        .to_string()
}

#[test]
fn judges_each_payment_in_an_instance_of_its_own() {
    let site = Site::new();
    let device = site.device("gw-1");
    lay_socket(&device, "till");
    let _agent = device.start();
    site.fleet.add_module(&std::fs::read(guest("fraud-rule")).unwrap(), "modules/fraud-rule/1.wasm");
    site.fleet.add_module(&guests::hoards(), "modules/hoards/1.wasm");
    let isolated = |name: &str, path: &str, channel: &str| {
        let module = Module::new(name, path).sensor("till").emits(channel);
        module.set("/execution", json!("isolated")).set("/probation/frames", 0.into())
    };
    let rules = json!({
        "review": 20, "decline": 50, "amounts": { "EUR": [ { "over": 10_000, "score": 20 } ] },
        "countries": { "home": ["DE"], "elsewhere": 30 },
    });
    let judge = isolated("judge", "modules/fraud-rule/1.wasm", "verdicts").config(rules);
    let hoarder = isolated("hoarder", "modules/hoards/1.wasm", "found");
    let digest = site.fleet.roll_out(&deployment("tills", [judge, hoarder]), &site.broker);
    site.observer.wait_active(&device.id, digest);

    let payments =
        [payment("a", 999, "DE"), payment("b", 10_001, "DE"), "{ no payment }".to_owned(), payment("c", 10_001, "FR")];
    send(&device, "till", &payments.each_ref().map(String::as_str));
    let verdicts = records(&site, &device, "judge", "verdicts", 4);
    let seen: Vec<_> = verdicts.iter().map(|verdict| (&verdict["id"], &verdict["verdict"])).collect();
    let wanted = [json!("a"), json!("b"), Value::Null, json!("c")];
    let words = ["accept", "review", "review", "decline"].map(Value::from);
    assert_eq!(seen, wanted.iter().zip(&words).collect::<Vec<_>>());
    // A guest beside it that keeps what it gets finds nothing of it in the next instance.
    let found = records(&site, &device, "hoarder", "found", 4);
    assert!(found.iter().all(|record| record["found"] == 0), "{found:?}");
}

#[test]
fn runs_a_plain_program_for_each_frame_and_reports_the_status_that_it_ends_with() {
    let site = Site::new();
    let device = site.device("gw-1");
    lay_socket(&device, "tables");
    let _agent = device.start();
    site.fleet.add_module(&std::fs::read(guest("csv-filter")).unwrap(), "modules/csv-filter/1.wasm");
    let module = Module::new("hot", "modules/csv-filter/1.wasm").sensor("tables").emits("stdout");
    let module = module.set("/execution", json!("command")).set("/probation/frames", 0.into());
    let module = module.config(json!({ "args": ["-w", "temp > 80", "-s", "temp"] }));
    let digest = site.fleet.roll_out(&deployment("ovens", [module]), &site.broker);
    site.observer.wait_active(&device.id, digest);

    send(&device, "tables", &["oven,temp\n1,79\n2,81\n3,85.5\n", "oven,temp\n4,20\n"]);
    let lines = records(&site, &device, "hot", "stdout", 4);
    assert_eq!(
        lines,
        [
            json!({ "oven": "2", "temp": "81" }),
            json!({ "oven": "3", "temp": "85.5" }),
            json!({ "column": "temp", "count": 2, "min": 81, "max": 85.5, "mean": 83.25, "stddev": 3.18198051534 }),
            json!({ "column": "temp", "count": 0 }),
        ]
    );

    // A table without that column.
    send(&device, "tables", &["oven,pressure\n1,5\n"]);
    let report = site.observer.wait_report(&device.id, "the program's status", |report| {
        report.modules.first().is_some_and(|module| module.fault.is_some())
    });
    let fault = report.modules[0].fault.as_ref().unwrap();
    assert_eq!((fault.code, fault.guest_code, fault.export.as_deref()), (FaultCode::Guest, Some(2), Some("_start")));
    site.observer.wait_report(&device.id, "it runs again", |report| {
        report.modules.first().is_some_and(|module| module.restarts == 1 && module.state == ModuleState::Running)
    });
    send(&device, "tables", &["oven,temp\n5,99\n"]);
    assert_eq!(records(&site, &device, "hot", "stdout", 6)[4], json!({ "oven": "5", "temp": "99" }));
}
