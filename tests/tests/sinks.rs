//! One channel to the broker, a file and local readers at once; another to a file alone; and a deployment for a sink that the device lacks.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use sanderling_protocol::reported::DeploymentState;
use sanderling_tests::{
    Module, PATIENCE, Site, deployment,
    guests::{TICKS, ticks},
    until,
};
use serde_json::{Value, json};

const PATH: &str = "modules/ticks/a.wasm";
/// So many records are looked at.
const COUNT: usize = 120;

fn module(name: &str, sinks: Value) -> Module {
    Module::new(name, PATH).sensor("clock").emits(TICKS).set(&format!("/channels/{TICKS}/sink"), sinks)
}

/// The numbers of the frames of a module's records, line by line.
fn seqs<'a>(lines: impl Iterator<Item = &'a str>, module: &str) -> Vec<u64> {
    let lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}")));
    let ours = lines.filter(|line| line["module"] == module);
    let checked = ours.inspect(|line| {
        assert_eq!(line["channel"], TICKS, "{line}");
        assert!(line["at_ms"].as_i64().unwrap() > 1_600_000_000_000, "{line}");
        assert!(line["base64"].is_string(), "what these guests emit is no text: {line}");
    });
    checked.map(|line| line["seq"].as_u64().unwrap()).collect()
}

/// All that is in a rotated file and in the file, in this order.
fn log(path: &Path) -> String {
    let old = fs::read_to_string(path.with_extension("jsonl.1")).unwrap_or_default();
    old + &fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn records_reach_every_sink_of_their_channel_and_a_deployment_for_another_is_refused() {
    let site = Site::new();
    let device = site.device("gw-1");
    device.lay_clock("clock", 100.0);
    let (path, socket) = (device.runtime("log.jsonl"), device.runtime("live.sock"));
    device.lay(
        "sinks",
        &format!(
            "[sink.log]\nkind = 'file'\npath = {path:?}\nmax_bytes = 65536\nkeep = 1\n\
             [sink.live]\nkind = 'socket'\npath = 'live.sock'\n"
        ),
    );
    let _agent = device.start();
    let live = until(PATIENCE, || UnixStream::connect(&socket).ok()).unwrap();
    live.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    site.fleet.add_module(&ticks(b'a'), PATH);
    let modules = [module("all", json!(["mqtt", "log", "live"])), module("quiet", json!("log"))];
    let digest = site.fleet.roll_out(&deployment("line", modules), &site.broker);
    site.observer.wait_active(&device.id, digest);

    let lines: Vec<String> = BufReader::new(&live).lines().take(COUNT).map(Result::unwrap).collect();
    let live = seqs(lines.iter().map(String::as_str), "all");
    assert_eq!(live.len(), COUNT, "this channel alone goes there");
    assert!(live.windows(2).all(|pair| pair[1] == pair[0] + 1), "each once, in order: {live:?}");
    let published = site.observer.wait_for("the same records at the broker", PATIENCE, |seen| {
        let ticks = seen.ticks(&device.id, "all");
        (ticks.last()?.seq >= *live.last()?).then(|| ticks.into_iter().map(|tick| tick.seq).collect::<Vec<_>>())
    });
    assert!(live.iter().all(|seq| published.contains(seq)), "{published:?}");
    let written = until(PATIENCE, || {
        let log = log(&path);
        let of = |module| seqs(log.lines(), module);
        let last = live.last().copied();
        (of("all").last().copied() >= last && of("quiet").last().copied() >= last).then(|| (of("all"), of("quiet")))
    });
    let (all, quiet) = written.unwrap();
    assert!(live.iter().all(|seq| all.contains(seq) && quiet.contains(seq)));
    site.observer.wait_for("nothing of the quiet one", PATIENCE, |seen| {
        assert_eq!(seen.of(&device.id, &format!("data/quiet/{TICKS}")).count(), 0, "it goes to a file alone");
        Some(())
    });

    let rotated = until(PATIENCE, || {
        let old = fs::read(path.with_extension("jsonl.1")).ok()?;
        let new = fs::read(&path).ok()?;
        assert!(old.len() <= 65_536 && new.len() <= 65_536);
        (!new.is_empty()).then_some(())
    });
    assert!(rotated.is_some(), "a full file is kept beside the new one");
    site.observer.wait_report(&device.id, "both sinks", |report| {
        let well = |name| report.sinks.iter().any(|sink| sink.name == name && sink.records > 0 && sink.error.is_none());
        well("log") && well("live") && report.sinks.iter().all(|sink| sink.dropped.is_empty())
    });

    let digest = site.fleet.roll_out(&deployment("line", [module("all", json!(["log", "gate"]))]), &site.broker);
    let report = site.observer.wait_state(&device.id, digest, DeploymentState::Refused);
    let why = report.deployment.unwrap().why.unwrap();
    assert!(
        why.contains("module all, channel ticks: there is no sink \"gate\"")
            && why.contains("(there are: mqtt, live, log)"),
        "{why}"
    );
    site.observer.wait_ticks(&device.id, "all", b'a', 10);
}
