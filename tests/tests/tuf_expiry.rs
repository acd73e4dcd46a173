//! Metadata that expires: it is never newly accepted, what runs goes on running, and the device says since when it is stale.
//!
//! The clock is the machine's; what is moved is what is signed, by the fleet's own timestamp key.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{fs, num::NonZeroU64};

use ring::rand::SystemRandom;
use sanderling_protocol::{
    topics::Published,
    tuf::{
        Root, Timestamp, UnixTime,
        author::{KeyPair, read, sign},
    },
};
use sanderling_tests::{Fleet, Publication, Site, guests::TICKS, unix_nanos};

/// The last second that fits 32 bits, 2038-01-19T03:14:07Z, and one more.
const PAST_2038: i64 = 1 << 31;
const YEAR: i64 = 31_556_952;

fn now() -> i64 {
    unix_nanos().div_euclid(1_000_000_000)
}

/// The fleet's timestamp, with another version and expiry, signed anew.
fn timestamp(fleet: &Fleet, version: u64, expires: i64) -> Publication {
    let held = fs::read(fleet.path("repo/metadata/timestamp.json")).unwrap();
    let mut timestamp: Timestamp = read(&held).unwrap();
    timestamp.version = NonZeroU64::new(version).unwrap();
    timestamp.expires = UnixTime(expires);
    let mut publication = Publication::default();
    publication.put(Published::Timestamp, sign(&timestamp, &[&timestamp_key(fleet)]).unwrap());
    publication
}

/// The key among the fleet's that its root names for the timestamp.
fn timestamp_key(fleet: &Fleet) -> KeyPair {
    let root: Root = read(&fs::read(fleet.path("repo/metadata/1.root.json")).unwrap()).unwrap();
    let files = fs::read_dir(fleet.path("keys")).unwrap().map(|entry| entry.unwrap().path());
    let pems = files.filter_map(|file| fs::read_to_string(file).ok());
    let mut keys = pems.filter_map(|pem| KeyPair::from_pem(&pem, &SystemRandom::new()).ok());
    keys.find(|key| root.roles.timestamp.keyids.contains(&key.key_id().unwrap())).unwrap()
}

#[test]
fn expired_metadata_is_never_newly_accepted_and_what_runs_goes_on() {
    let site = Site::new();
    let (device, _agent, digest) = site.ticking("gw-1", 20.0);
    let report = site.observer.wait_active(&device.id, digest);
    let (first, valid) = (report.metadata.timestamp, report.metadata.expires);
    assert_eq!(report.stale, None);

    // Each of these expired before it came: a second, ten years ago, in 1970.
    for (number, expires) in (1..).zip([now() - 1, now() - 10 * YEAR, 1]) {
        site.observer.publish_all(&timestamp(&site.fleet, first + number, expires));
        let said = format!("expired at {expires}");
        site.observer.wait_report(&device.id, &said, |report| {
            report.refused.iter().any(|refused| refused.what == "repo/timestamp" && refused.why.contains(&said))
        });
    }
    let report =
        site.observer.wait_report(&device.id, "the old timestamp", |report| report.metadata.timestamp == first);
    assert_eq!((report.metadata.expires, report.stale), (valid, None));

    // This one is taken, and expires while it is trusted.
    let soon = now() + 3;
    site.observer.publish_all(&timestamp(&site.fleet, first + 4, soon));
    let report = site.observer.wait_report(&device.id, "staleness", |report| report.stale.is_some());
    assert_eq!((report.stale, report.metadata.timestamp), (Some(soon), first + 4));
    site.observer.wait_ticks(&device.id, TICKS, b'a', 3);
    assert_eq!(site.observer.wait_active(&device.id, digest).deployment.unwrap().digest, digest);

    // A device that comes new to the fleet now believes nothing of it, and says why.
    let late = site.device("gw-2");
    late.lay_clock("clock", 20.0);
    let _late_agent = late.start();
    let report = site.observer.wait_report(&late.id, "a refusal", |report| !report.refused.is_empty());
    assert!(report.refused.iter().any(|refused| refused.why.contains("expired")), "{report:?}");
    assert!(report.deployment.is_none() && report.modules.is_empty(), "{report:?}");

    // What is signed beyond 2038 is taken by both, and what ran before still runs.
    site.observer.publish_all(&timestamp(&site.fleet, first + 5, PAST_2038));
    for device in [&device, &late] {
        site.observer.wait_active(&device.id, digest);
        let report =
            site.observer.wait_report(&device.id, "freshness", |report| report.metadata.timestamp == first + 5);
        assert_eq!(report.stale, None, "{report:?}");
        site.observer.wait_ticks(&device.id, TICKS, b'a', 3);
    }
}
