//! What Home Assistant finds at the broker, read with the certificate that the operator's tool makes for it.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    io::Write,
    process::{Command, Stdio},
};

use sanderling_tests::{
    Broker, Credentials, Message, Module, PATIENCE, Peer, Site, deployment,
    guests::{TICKS, ticks},
    python, source,
};
use serde_json::{Value, json};

const PATH: &str = "modules/ticks/a.wasm";
const LEFT: &str = "homeassistant/device/gw-1/module_left/config";

fn module(name: &str) -> Module {
    Module::new(name, PATH).sensor("clock").emits(TICKS)
}

/// The last message of a topic below the device's; `None` where it was taken back, or never came.
fn last(messages: &[Message], name: &str) -> Option<Value> {
    let topic = format!("homeassistant/device/gw-1/{name}/config");
    let message = messages.iter().rev().find(|message| message.topic == topic)?;
    serde_json::from_slice(&message.payload).ok()
}

/// The values that Home Assistant would show, by unique id.
fn rendered(asked: &Value) -> Value {
    let mut command = Command::new(python());
    command.arg(source().join("tests/python/home_assistant.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(asked.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "a template that Home Assistant would warn of, or a value of the wrong kind");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn home_assistant_finds_a_device_and_its_modules_and_forgets_those_that_go() {
    let mut site = Site::new();
    site.broker.stop();
    let port = site.broker.port().to_string();
    site.fleet.run(["provision", "broker", "--host", Broker::HOST, "--port", &port, "--home-assistant"]);
    site.broker.start_again();
    let file = |name: &str| site.fleet.path("broker").join(name);
    let who = Credentials { ca: file("ca.pem"), cert: file("home-assistant.pem"), key: file("home-assistant.key") };
    let filters = ["homeassistant/#", "sanderling/v1/device/+/status", "sanderling/v1/device/+/reported"];
    let home = Peer::connect(&site.broker, &who, "home-assistant", &filters.map(str::to_owned)).unwrap();
    home.publish(LEFT, b"{}", true).unwrap();

    let device = site.device("gw-1");
    device.lay_clock("clock", 50.0);
    device.lay("publish", "[publish.home_assistant]\nchannels = ['a/ticks']\n");
    let _agent = device.start();
    site.fleet.add_module(&ticks(b'a'), PATH);
    let digest = site.fleet.roll_out(&deployment("line", [module("a"), module("b")]), &site.broker);
    site.observer.wait_active(&device.id, digest);
    let (gateway, config, status, reported) = home
        .wait(PATIENCE, |messages| {
            let newest = |topic: &str| {
                let message = messages.iter().rev().find(|message| message.topic == topic)?;
                serde_json::from_slice::<Value>(&message.payload).ok()
            };
            let config = last(messages, "module_a")?;
            last(messages, "module_b")?;
            let status = newest(config["avty"][0]["t"].as_str()?)?;
            let reported = newest(config["cmps"]["state"]["stat_t"].as_str()?)?;
            let runs = |module: &Value| module["name"] == "a" && module["frames"].as_u64() > Some(0);
            reported["modules"].as_array()?.iter().any(runs).then_some(())?;
            Some((last(messages, "gateway")?, config, status, reported))
        })
        .expect("a device and two modules");
    assert_eq!(gateway["dev"]["name"], "gw-1");
    assert_eq!(config["dev"]["via_device"], gateway["dev"]["ids"]);
    assert!(config["cmps"]["frames"]["uniq_id"].is_string(), "{config}");
    assert_eq!(config["cmps"]["channel_ticks"]["stat_t"], "sanderling/v1/device/gw-1/data/a/ticks");
    assert_eq!(status["online"], true, "what availability is told by");
    let data = "sanderling/v1/device/gw-1/data/a/ticks";
    let topics = json!({
        "sanderling/v1/device/gw-1/status": status.to_string(), "sanderling/v1/device/gw-1/reported": reported.to_string(),
        data: r#"{"label":"scratch"}"#,
    });
    let values = rendered(&json!({ "configs": [gateway, config], "topics": topics }));
    let value = |name: &str| values[format!("sanderling_gw-1_{name}")].as_str().unwrap().to_owned();
    assert_eq!(value("deployment"), "line");
    assert_eq!([value("module_a_state"), value("module_a_fault")], ["running", "OFF"]);
    assert_eq!([value("sensor_clock"), value("module_a_channel_ticks")], ["OFF", r#"{"label":"scratch"}"#]);
    assert!(value("module_a_frames").parse::<u64>().unwrap() > 0, "{values}");
    let taken_back = home.wait(PATIENCE, |messages| {
        let mut of = messages.iter().filter(|message| message.topic == LEFT);
        of.next_back().filter(|message| message.payload.is_empty()).map(drop)
    });
    assert!(taken_back.is_some(), "what nobody runs any more is taken back");

    let digest = site.fleet.roll_out(&deployment("line", [module("a")]), &site.broker);
    site.observer.wait_active(&device.id, digest);
    let gone = home.wait(PATIENCE, |messages| last(messages, "module_b").is_none().then_some(()));
    assert!(gone.is_some(), "a module that goes is taken back");
    home.wait(PATIENCE, |messages| last(messages, "module_a").map(drop)).expect("the other stays");
}
