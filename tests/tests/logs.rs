//! What modules log, sent to whoever asks for it and for as long as was asked.

#![allow(clippy::unwrap_used, clippy::panic)]

use sanderling_protocol::command::{LogLevel, LogLine};
use sanderling_tests::{Broker, Device, PATIENCE, Process, Site, until};
use serde_json::{Value, json};

/// Starts the module anew, upon which it logs `first frame` at its first frame.
fn make_it_log(site: &Site, device: &Device) {
    assert!(site.observer.request(&device.id, "restart", br#"{"module":"ticks"}"#).ok);
}

fn ask(site: &Site, device: &Device, request: &Value) -> Value {
    let answer = site.observer.request(&device.id, "logs", request.to_string().as_bytes());
    assert!(answer.ok, "{answer:?}");
    answer.body.unwrap()
}

fn lines(site: &Site, device: &Device, mark: usize) -> Vec<LogLine> {
    let look = |seen: sanderling_tests::Seen<'_>| {
        let read = |message: &sanderling_tests::Message| serde_json::from_slice(&message.payload).unwrap();
        Some(seen.after(mark).of(&device.id, "log").map(read).collect())
    };
    site.observer.wait_for("lines", PATIENCE, look)
}

/// Waits for a restart that was asked for before, and for a record of the new worker: what it logged came before that.
fn wait_restarts(site: &Site, device: &Device, restarts: u64) {
    site.observer.wait_report(&device.id, "started anew", |report| report.modules[0].restarts == restarts);
    site.observer.wait_ticks(&device.id, "ticks", b'a', 5);
}

#[test]
fn lines_come_while_the_lease_runs_and_at_no_other_time() {
    let site = Site::new();
    let (device, _agent, _) = site.ticking("gw-1", 50.0);
    make_it_log(&site, &device);
    wait_restarts(&site, &device, 1);
    assert_eq!(lines(&site, &device, 0), [], "nobody asked for them");

    let leased = ask(&site, &device, &json!({ "lease_s": 600, "level": "info", "module": "ticks" }));
    assert_eq!((&leased["lease_s"], &leased["lines_per_s"]), (&json!(600), &json!(20)));
    make_it_log(&site, &device);
    wait_restarts(&site, &device, 2);
    let got = lines(&site, &device, 0);
    assert_eq!(got.len(), 1, "{got:?}");
    assert_eq!((got[0].module.as_str(), got[0].level, got[0].text.as_str()), ("ticks", LogLevel::Info, "first frame"));

    for other in [json!({ "level": "warn" }), json!({ "module": "another" }), json!({ "lease_s": 0 })] {
        let mark = site.observer.mark();
        ask(&site, &device, &other);
        let restarts = site.observer.wait_report(&device.id, "a report", |_| true).modules[0].restarts;
        make_it_log(&site, &device);
        wait_restarts(&site, &device, restarts + 1);
        assert_eq!(lines(&site, &device, mark), [], "{other}");
    }
}

#[test]
fn the_operators_tool_shows_them_and_ends_with_the_lease() {
    let site = Site::new();
    let (device, _agent, _) = site.ticking("gw-1", 50.0);
    let port = site.broker.port().to_string();
    let at = ["--host", Broker::HOST, "--port", &port];
    let mut command = site.fleet.command();
    command.args(["logs", "gw-1", "--module", "ticks", "--count", "1"]).args(at);
    let mut shows = Process::start("sanderling logs", &mut command);
    // Again and again: nobody is told when the tool has its lease.
    let shown = until(PATIENCE, || {
        make_it_log(&site, &device);
        site.observer.wait_ticks(&device.id, "ticks", b'a', 5);
        (!shows.is_running()).then(|| shows.lines())
    });
    let shown = shown.unwrap();
    assert!(shown.len() == 1 && shown[0].ends_with("ticks info  first frame"), "{shown:?}");
    // Nothing is logged, and the lease ends by itself.
    site.fleet.run(["logs", "gw-1", "--lease", "1", "--level", "error"].iter().chain(&at));
    let refused = site.fleet.try_run(["logs", "gw-9"].iter().chain(&at)).unwrap_err();
    assert!(refused.contains("gw-9 is not connected"), "{refused}");
}
