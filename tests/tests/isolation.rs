//! The access list that the operator's tool generates, on a real Mosquitto; birth and will; commands.

#![allow(clippy::unwrap_used, clippy::panic)]

use sanderling_protocol::{command::Answer, topics::DeviceId};
use sanderling_tests::{Broker, Device, PATIENCE, Peer, Site};
use serde_json::Value;

fn wait_online(site: &Site, device: &DeviceId, online: bool) -> String {
    site.observer.wait_for(&format!("{device} online: {online}"), PATIENCE, |seen| {
        seen.status(device).filter(|status| status.online == online).map(|status| status.session)
    })
}

fn intruder(site: &Site, device: &Device) -> Peer {
    let everything = ["sanderling/v1/#".to_owned(), "$SYS/#".to_owned()];
    Peer::connect(&site.broker, &device.credentials(), "an-intruder", &everything).unwrap()
}

#[test]
fn a_device_neither_reads_nor_writes_what_belongs_to_another() {
    let site = Site::new();
    let (victim, thief) = (site.device("gw-a"), site.device("gw-b"));
    site.fleet.sign();
    site.fleet.publish(&site.broker);
    let thieving = intruder(&site, &thief);
    let _agent = victim.start();
    wait_online(&site, &victim.id, true);

    // What the thief may do is seen at the end, so that what it may not do cannot merely be late.
    for topic in ["status", "reported", "event", "log", "data/scratch/defects", "answer/x", "cmd/ping", "else"] {
        let topic = format!("sanderling/v1/device/gw-a/{topic}");
        let refused = thieving.publish(&topic, b"forged", true).unwrap_err();
        assert!(refused.contains("NotAuthorized"), "{topic}: {refused}");
    }
    let digest = "0".repeat(64);
    for topic in ["repo/timestamp", "repo/2.root", &format!("blob/{digest}"), &format!("chunk/{digest}")] {
        let refused = thieving.publish(&format!("sanderling/v1/{topic}"), b"forged", true).unwrap_err();
        assert!(refused.contains("NotAuthorized"), "{topic}: {refused}");
    }
    let mark = site.observer.mark();
    site.observer.request(&victim.id, "ping", b"");
    thieving.publish("sanderling/v1/device/gw-b/event", b"mine", false).unwrap();
    site.observer.wait_for("the thief's own event", PATIENCE, |seen| seen.of(&thief.id, "event").next().map(|_| ()));
    site.observer.wait_for("nothing forged", PATIENCE, |seen| {
        let forged = seen.on("gw-a").iter().filter(|message| message.payload == b"forged").count();
        assert_eq!(forged, 0, "a forged message reached the operator");
        Some(())
    });
    site.observer.publish("sanderling/v1/device/gw-b/cmd/fence", b"", false);
    let read = thieving.wait(PATIENCE, |messages| {
        messages.iter().any(|message| message.topic.ends_with("gw-b/cmd/fence")).then(|| messages.to_vec())
    });
    let topics: Vec<String> = read.unwrap().into_iter().map(|message| message.topic).collect();
    assert!(site.observer.mark() > mark, "the victim did nothing that could have been read");
    assert!(
        topics.iter().any(|topic| topic == "sanderling/v1/repo/timestamp"),
        "a device reads the repository: {topics:?}"
    );
    assert!(!topics.iter().any(|topic| topic.contains("gw-a") || topic.starts_with("$SYS")), "{topics:?}");
}

#[test]
fn status_tells_of_birth_and_of_death_and_commands_are_answered() {
    let site = Site::new();
    let device = site.device("gw-1");
    let mut agent = device.start();
    let first = wait_online(&site, &device.id, true);

    let pong: Answer = site.observer.request(&device.id, "ping", b"");
    let agent_version = pong.body.as_ref().and_then(|body| body["agent"].as_str()).map(str::to_owned);
    assert!(pong.ok && agent_version.is_some(), "{pong:?}");
    let report = site.observer.request(&device.id, "report", b"");
    let body = report.body.unwrap_or(Value::Null);
    assert_eq!((report.ok, body["device"].as_str()), (true, Some("gw-1")), "{body}");
    assert!(site.observer.request(&device.id, "refresh", b"").ok);
    let unknown = site.observer.request(&device.id, "run-this", b"rm -rf /");
    assert!(!unknown.ok && unknown.error.is_some_and(|error| error.contains("run-this") && error.contains("ping")));

    let port = site.broker.port().to_string();
    let watch = ["--json", "watch", "--host", Broker::HOST, "--port", &port, "--device", "gw-1", "--count", "2"];
    let watched: Vec<Value> = site.fleet.run(watch).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kept = |what: &str| watched.iter().find(|line| line["what"] == what && line["device"] == "gw-1").unwrap();
    assert_eq!(kept("status")["body"]["session"].as_str(), Some(&*first), "{watched:?}");
    assert_eq!(kept("reported")["body"]["schema"], "sanderling.reported/1", "{watched:?}");

    agent.kill();
    let died = wait_online(&site, &device.id, false);
    assert_eq!(died, first, "birth and will carry one session");
    // Whoever comes later learns it too.
    let filter = "sanderling/v1/device/+/status".to_owned();
    let late = Peer::connect(&site.broker, &site.fleet.operator(), "late", &[filter]).unwrap();
    let kept = late.wait(PATIENCE, |messages| messages.first().cloned()).unwrap();
    let status: Value = serde_json::from_slice(&kept.payload).unwrap();
    assert_eq!(
        (kept.retained, &status["online"], status["session"].as_str()),
        (true, &Value::Bool(false), Some(&*first))
    );

    let mut agent = device.start();
    let second = wait_online(&site, &device.id, true);
    assert_ne!(first, second);
    let ended = agent.terminate(PATIENCE);
    assert!(ended.success(), "SIGTERM ends the agent with status 0, not {ended}");
    assert_eq!(wait_online(&site, &device.id, false), second, "a goodbye says offline as well");
}
