//! From the begin of publishing a new version of 1 MB to its first result at the operator's side.

use anyhow::Result;
use sanderling_tests::{
    PATIENCE, Site,
    guests::{padded, ticks},
    line,
};

use crate::{
    measure::{Moment, median},
    report::{Budget, Row},
};

const LENGTH: u32 = 1_000_000;
const ROUNDS: u8 = 5;

/// Measures the row.
pub(crate) fn measure() -> Result<Vec<Row>> {
    let site = Site::new();
    let device = site.device("bench-1");
    super::pull::quiet(&device);
    device.lay_clock("clock", 100.0);
    let _agent = device.start();
    site.observer.wait_report(&device.id, "a first report", |_| true);
    let mut took = vec![];
    for round in 0..ROUNDS {
        let (tag, path) = (b'a' + round, "modules/ticks/1.wasm");
        site.fleet.add_module(&padded(ticks(tag), LENGTH, round), path);
        let digest = site.fleet.deploy(&line(path));
        site.fleet.sign();
        let began = Moment::now();
        site.fleet.publish(&site.broker);
        let first = site.observer.wait_for("a first result", PATIENCE, |seen| {
            seen.ticks(&device.id, "ticks").iter().any(|tick| tick.tag == tag).then(|| began.past())
        });
        took.push(first * 1e3);
        site.observer.wait_active(&device.id, digest);
    }
    let what = "publishing 1 MB of module until its first result, synced to disk, with 100 frames a second";
    Ok(vec![Row::new("first-result", what, "ms", median(took)).within(Budget::AtMost(300.0))])
}
