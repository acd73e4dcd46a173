//! Clocks that are wrong: in 1970, past 2038, ten years back, ten years ahead.
//!
//! [`START`] stands for the build time. The device judges expiry as the driver does: by the latest of the system's clock, the build
//! and the time last saved.

use sanderling_protocol::topics::Published;

use super::{
    repository::{Repository, content, meta},
    world::{Device, EXPIRES, START},
};

const DAY: i64 = 86_400;
const TEN_YEARS: i64 = 315_569_520;
/// The first second that a signed number of 32 bits cannot count.
const PAST_2038: i64 = 1 << 31;
/// The last second of the year 9999, when the root expires here.
const END: i64 = 253_402_300_799;
/// How far a clock is off that says 1970.
const IN_1970: i64 = -START;

fn repository(expires: i64) -> Repository {
    let mut repository = Repository::new();
    repository.module("modules/a/1.wasm", &content(1, 20_000));
    repository.deploy("line", "modules/a/1.wasm");
    repository.expires = END;
    repository.rotate_root();
    repository.expires = expires;
    repository.publish();
    repository
}

/// Signs a second deployment over the first.
fn publish_next(repository: &mut Repository, expires: i64) {
    repository.deploy("next", "modules/a/1.wasm");
    repository.expires = expires;
    repository.publish();
}

fn says_expired(device: &Device) -> bool {
    let refusals = device.refusals();
    let expired = refusals.iter().filter(|(what, why)| what.starts_with("repo/") && why.contains("expired"));
    // However often it is asked again, it is listed once.
    expired.count() == 1
}

fn settle(device: &mut Device) {
    device.pass(600_000);
}

#[test]
fn a_clock_that_is_behind_does_not_make_expired_metadata_fresh() {
    for off in [IN_1970, -TEN_YEARS] {
        let mut repository = repository(START - 1);
        let mut device = Device::new(&repository);
        device.set_clock(off);
        device.up();
        settle(&mut device);
        assert!(says_expired(&device), "{off}: {:?}", device.refusals());
        assert_eq!(device.runs(), None, "{off}: it expired before the agent was built");
        publish_next(&mut repository, EXPIRES);
        device.publish(&repository);
        settle(&mut device);
        assert_eq!((device.runs(), device.report().stale), (Some("next"), None), "{off}: what is fresh is taken");
    }
}

#[test]
fn the_time_that_was_reached_outlives_a_clock_that_falls_back_to_1970() {
    let mut repository = repository(START + 40 * DAY);
    let mut device = Device::new(&repository);
    device.set_clock(20 * DAY);
    device.up();
    settle(&mut device);
    assert_eq!(device.runs(), Some("line"));
    let mut device = device.cut(&repository);
    device.set_clock(IN_1970);
    device.up();
    // Signed later than what is trusted, but it has expired since: a broker that withheld it may not bring it now.
    publish_next(&mut repository, START + 10 * DAY);
    device.publish(&repository);
    settle(&mut device);
    assert!(says_expired(&device), "{:?}", device.refusals());
    assert_eq!(device.runs(), Some("line"));
    publish_next(&mut repository, START + 50 * DAY);
    device.publish(&repository);
    settle(&mut device);
    assert_eq!(device.runs(), Some("next"));
}

#[test]
fn a_clock_that_is_ahead_stops_updates_but_nothing_that_runs_and_does_no_harm_once_it_is_right() {
    for off in [TEN_YEARS, PAST_2038 - START, END - START] {
        let mut repository = repository(EXPIRES);
        let mut device = Device::new(&repository);
        device.up();
        settle(&mut device);
        device.set_clock(off);
        assert_eq!(device.report().stale, Some(EXPIRES), "{off}");
        publish_next(&mut repository, EXPIRES + DAY);
        device.publish(&repository);
        settle(&mut device);
        assert!(says_expired(&device), "{off}: {:?}", device.refusals());
        assert_eq!(device.runs(), Some("line"), "{off}: what runs goes on running");
        // A power cut while the clock is wrong, and again once it is right.
        let mut device = device.cut(&repository);
        device.up();
        settle(&mut device);
        assert_eq!((device.runs(), device.report().stale), (Some("line"), Some(EXPIRES)), "{off}");
        let mut device = device.cut(&repository);
        device.set_clock(0);
        device.up();
        settle(&mut device);
        assert_eq!((device.runs(), device.report().stale), (Some("next"), None), "{off}: {:?}", device.refusals());
    }
}

#[test]
fn a_clock_that_starts_ahead_takes_what_is_valid_then() {
    let repository = repository(START + TEN_YEARS + DAY);
    let mut device = Device::new(&repository);
    device.set_clock(TEN_YEARS);
    device.up();
    settle(&mut device);
    assert_eq!((device.runs(), device.report().stale), (Some("line"), None));
    device.set_clock(TEN_YEARS + 2 * DAY);
    assert_eq!(device.report().stale, Some(START + TEN_YEARS + DAY));
}

#[test]
fn seconds_are_counted_on_past_2038() {
    let mut repository = repository(PAST_2038 + DAY);
    let mut device = Device::new(&repository);
    device.set_clock(PAST_2038 - START - 60);
    device.up();
    settle(&mut device);
    assert!(device.now.unix >= PAST_2038, "it passed while the device ran");
    assert_eq!((device.runs(), device.report().stale), (Some("line"), None));
    assert_eq!(device.report().metadata.expires, PAST_2038 + DAY);
    publish_next(&mut repository, PAST_2038 + 2 * DAY);
    device.publish(&repository);
    settle(&mut device);
    assert_eq!(device.runs(), Some("next"));
    device.set_clock(PAST_2038 - START + 3 * DAY);
    assert_eq!(device.report().stale, Some(PAST_2038 + 2 * DAY));
    device.retain(Published::Timestamp, b"{}".to_vec());
    settle(&mut device);
    assert_eq!(device.runs(), Some("next"));
}

#[test]
fn a_refresh_that_waits_for_a_role_does_not_take_what_expires_meanwhile() {
    let mut repository = repository(EXPIRES);
    let mut device = Device::new(&repository);
    let withheld = device.broker.remove(&meta(1, "releases")).unwrap();
    device.up();
    device.pass(u64::try_from(EXPIRES - START + DAY).unwrap() * 1000);
    device.retain(meta(1, "releases"), withheld);
    settle(&mut device);
    assert!(says_expired(&device), "{:?}", device.refusals());
    assert_eq!(device.runs(), None);
    publish_next(&mut repository, EXPIRES + 2 * DAY);
    device.publish(&repository);
    settle(&mut device);
    assert_eq!(device.runs(), Some("next"));
}
