//! An agent with sensors of the kinds http, modbus, mqtt, process and serial, each before a real peer and feeding a module.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::pty::OpenptFlags;
use sanderling_tests::{
    Module, PATIENCE, Process, Site, deployment,
    guests::{TICKS, ticks},
    python, source, until,
};
use serde_json::Value;

const KINDS: [&str; 5] = ["http", "modbus", "mqtt", "process", "serial"];

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn modbus_device(port: u16) -> Process {
    let mut command = Command::new(python());
    command.arg(source().join("tests/python/modbus_server.py")).args(["tcp", &port.to_string()]);
    let device = Process::start("modbus", &mut command);
    device.wait_for_line(PATIENCE, &["ready"]);
    device
}

/// The device's end of a serial line, and the port at the other.
fn serial_device() -> (File, PathBuf) {
    let device = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    rustix::pty::grantpt(&device).unwrap();
    rustix::pty::unlockpt(&device).unwrap();
    let name = rustix::pty::ptsname(&device, Vec::new()).unwrap();
    (File::from(device), PathBuf::from(name.to_str().unwrap()))
}

/// Posts a frame; the status of the answer.
fn post(port: u16, token: &str, body: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let length = body.len();
    let head = format!(
        "POST /frames HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

fn sensor<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["sensors"].as_array().unwrap().iter().find(|sensor| sensor["name"] == name).unwrap()
}

#[test]
fn what_serial_ports_buses_brokers_programs_and_commands_give_reaches_modules() {
    let site = Site::new();
    let device = site.device("gw-1");
    let (modbus, http) = (free_port(), free_port());
    let mut plc = modbus_device(modbus);
    let (mut scale, port) = serial_device();
    let topic = format!("{}/blob/press", site.fleet.topics().prefix());
    let (token, pid) = (device.runtime("token"), device.runtime("pid"));
    fs::write(&token, "secret").unwrap();
    let script = format!("echo $$ >{}; while :; do echo '{{\"a\":1}}'; sleep 0.1; done", pid.display());
    device.lay("http", &format!("[sensor.http]\nkind = 'http'\nlisten = '127.0.0.1:{http}'\ntoken_file = {token:?}\n"));
    device.lay(
        "modbus",
        &format!(
            "[sensor.modbus]\nkind = 'modbus'\naddress = '127.0.0.1:{modbus}'\ninterval_s = 0.1\n\
             [[sensor.modbus.point]]\nname = 'words'\naddress = 0\ncount = 10\n"
        ),
    );
    device.lay("mqtt", &format!("[sensor.mqtt]\nkind = 'mqtt'\nbroker = 'same'\ntopic = '{topic}'\n"));
    device.lay(
        "process",
        &format!("[sensor.process]\nkind = 'process'\ncommand = ['/bin/sh', '-c', {script:?}]\nformat = 'json'\n"),
    );
    device.lay("serial", &format!("[sensor.serial]\nkind = 'serial'\ndevice = {port:?}\nformat = 'csv'\n"));
    let mut agent = device.start();
    assert!(!pid.exists(), "nobody wants the command's frames yet");

    site.fleet.add_module(&ticks(b's'), "modules/ticks/s.wasm");
    let module = |name: &str| {
        let module = Module::new(name, "modules/ticks/s.wasm").sensor(name).emits(TICKS);
        module.set("/probation/frames", 0.into())
    };
    let digest = site.fleet.roll_out(&deployment("all", KINDS.map(module)), &site.broker);
    site.observer.wait_active(&device.id, digest);
    // Who writes goes on until all have arrived; what comes before a sensor listens is lost.
    let all = until(PATIENCE, || {
        scale.write_all(b"1.5,2.5\n").unwrap();
        site.observer.publish(&topic, b"pressed", false);
        post(http, "secret", "{\"a\":1}");
        let enough = |name: &&str| {
            site.observer
                .try_wait(Duration::from_millis(20), |seen| (seen.ticks(&device.id, name).len() >= 3).then_some(()))
        };
        KINDS.iter().all(|name| enough(name).is_some()).then_some(())
    });
    let report = site.observer.request(&device.id, "report", b"").body.unwrap();
    assert!(all.is_some(), "{}", report["sensors"]);
    for name in KINDS {
        assert_eq!(sensor(&report, name)["error"], Value::Null, "{name}: {}", sensor(&report, name));
        assert!(sensor(&report, name)["frames"].as_u64() >= Some(3), "{name}");
    }

    assert_eq!(post(http, "wrong", "{}"), Some(401));
    plc.kill();
    let says = |name: &str, words: &str| {
        site.observer.wait_report(&device.id, words, |report| {
            let sensor = report.sensors.iter().find(|sensor| sensor.name == name);
            sensor.is_some_and(|sensor| sensor.error.as_ref().is_some_and(|error| error.contains(words)))
        });
    };
    says("modbus", "no Modbus device answers");
    let _plc = modbus_device(modbus);
    site.observer.wait_report(&device.id, "the device is back", |report| {
        report.sensors.iter().any(|sensor| sensor.name == "modbus" && sensor.error.is_none())
    });

    let command = fs::read_to_string(&pid).unwrap();
    let runs = Path::new("/proc").join(command.trim());
    assert!(runs.exists());
    assert!(agent.terminate(PATIENCE).success());
    assert!(until(PATIENCE, || (!runs.exists()).then_some(())).is_some(), "the command outlives the agent");
}
