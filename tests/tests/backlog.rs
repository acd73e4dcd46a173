//! What waited while the link was down: in batches where the channel says so, beside what is fresh, and none of it lost.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use sanderling_protocol::reported::Outbox;
use sanderling_tests::{
    PATIENCE, Site, Tick, deployment,
    guests::{TICKS, ticks},
    line_module, unix_nanos, until,
};
use serde_json::json;

/// Frames a second, each of which is a record.
const RATE: f64 = 50.0;
/// How long the broker is away, in nanoseconds.
const OUTAGE: i64 = 4_000_000_000;
/// Messages a second of the backlog.
const DRAIN: u64 = 40;

#[test]
fn what_waited_comes_compressed_and_in_order_and_an_event_passes_what_waits() {
    let mut site = Site::new();
    let device = site.device("gw-1");
    device.lay_clock("clock", RATE);
    device.lay("20-drain", &format!("[outbox]\ndrain_per_s = {DRAIN}\n[log]\nlevel = \"info\"\n"));
    let agent = device.start();
    site.fleet.add_module(&ticks(b'a'), "modules/ticks/a.wasm");
    // One module's records go one by one, the other's in batches.
    let modules = [("plain", "none"), ("packed", "zstd")].map(|(name, batch)| {
        let module = line_module("modules/ticks/a.wasm").set("/name", json!(name));
        module.set(&format!("/channels/{TICKS}/batch"), json!(batch))
    });
    let digest = site.fleet.roll_out(&deployment("line", modules), &site.broker);
    site.observer.wait_active(&device.id, digest);
    let first = site.observer.wait_for("ticks", PATIENCE, |seen| seen.ticks(&device.id, "packed").first().copied());

    site.broker.stop();
    let began = unix_nanos();
    let waited = until(PATIENCE, || (unix_nanos() > began + OUTAGE).then_some(()));
    assert!(waited.is_some() && agent.lines().iter().any(|line| line.contains("the link is down")));
    let back = unix_nanos();
    let mark = site.observer.mark();
    site.broker.start_again();

    // All of what waited for one channel is there while the other is still at it.
    let packed = |seen: sanderling_tests::Seen<'_>| -> Vec<Tick> {
        let batches = seen.batches(&device.id, "packed", TICKS);
        batches.iter().flatten().map(|record| Tick::read(&record.payload)).collect()
    };
    let (waited, batches) = site.observer.wait_for("batches", PATIENCE, |seen| {
        let ticks = packed(seen.after(mark));
        let batches = seen.batches(&device.id, "packed", TICKS).len();
        (ticks.iter().filter(|tick| tick.captured < back).count() > 150).then_some((ticks, batches))
    });
    let plain = site.observer.wait_for("", PATIENCE, |seen| Some(seen.after(mark).ticks(&device.id, "plain").len()));
    println!("{} records came in {batches} batches while {plain} came one by one", waited.len());
    assert!(waited.len() / batches > 20 && plain < 100, "{batches} batches, {plain}");

    let ticks = site.observer.wait_for("all records of both", 2 * PATIENCE, |seen| {
        let fresh = |ticks: &[Tick]| ticks.iter().any(|tick| tick.captured > back + 500_000_000);
        let (mut both, plain) = (packed(seen), seen.ticks(&device.id, "plain"));
        both.extend(seen.ticks(&device.id, "packed"));
        (fresh(&both) && fresh(&plain)).then_some([both, plain])
    });
    for mut ticks in ticks {
        ticks.retain(|tick| tick.seq >= first.seq && tick.captured < back);
        let numbers: BTreeSet<u64> = ticks.iter().map(|tick| tick.seq).collect();
        let (least, most) = (*numbers.first().unwrap(), *numbers.last().unwrap());
        assert_eq!(numbers.len() as u64, most - least + 1, "of {least} to {most}");
    }
    let outbox = site.observer.wait_active(&device.id, digest).outbox;
    assert_eq!(Outbox { records: 0, bytes: 0, ..outbox }, Outbox::default(), "nothing was dropped");
}
