//! What is trusted, and what is refused.

use std::collections::BTreeSet;

use sanderling_protocol::{
    blob,
    digest::Digest,
    reported::{EventKind, Handover},
    topics::Published,
};

use super::{
    repository::{Repository, content, meta},
    world::{Device, EXPIRES, START},
};
use crate::sync::{Capacity, Effect, Event, Message, SyncError};

fn repository() -> Repository {
    let mut repository = Repository::new();
    repository.module("modules/a/1.wasm", &content(1, 200_000));
    repository.deploy("line", "modules/a/1.wasm");
    repository.publish();
    repository
}

#[test]
fn asks_for_the_next_root_before_the_timestamp() {
    let repository = repository();
    let mut device = Device::new(&repository);
    device.broker.clear();
    let effects = device.sync.handle(Event::LinkUp(Capacity::default()), device.now).unwrap();
    assert_eq!(effects, [Effect::Subscribe(vec![meta(2, "root"), Published::Timestamp])]);
}

#[test]
fn follows_the_metadata_to_the_deployment() {
    let mut device = Device::new(&repository());
    device.up();
    let report = device.report();
    assert_eq!((report.metadata.root, report.metadata.timestamp, report.metadata.snapshot), (1, 1, 1));
    assert_eq!(report.refused, []);
    assert_eq!(device.runs(), Some("line"));
    assert_eq!(device.errors, []);
}

#[test]
fn follows_every_root_in_turn() {
    let mut repository = repository();
    repository.rotate_root();
    repository.rotate_root();
    let mut device = Device::new(&repository);
    device.up();
    assert_eq!(device.report().metadata.root, 3);
    assert_eq!(device.runs(), Some("line"));
    repository.rotate_root();
    device.publish(&repository);
    assert_eq!(device.report().metadata.root, 4, "a root that comes later is taken too");
    repository.rotate_root();
    device.publish(&repository);
    assert_eq!(device.report().metadata.root, 5);
    assert_eq!(device.refusals(), []);
}

#[test]
fn refuses_metadata_that_is_not_signed_and_takes_the_honest_one_later() {
    let mut repository = repository();
    let mut device = Device::new(&repository);
    device.up();
    repository.module("modules/a/2.wasm", &content(2, 100_000));
    repository.deploy("line2", "modules/a/2.wasm");
    repository.publish();
    for what in [meta(2, "snapshot"), meta(2, "targets"), meta(2, "deployments")] {
        let mut hostile = repository.clone();
        let bytes = hostile.retained.get_mut(&what).unwrap();
        *bytes = String::from_utf8(bytes.clone()).unwrap().replace("\"version\":2", "\"version\":3").into_bytes();
        device.publish(&hostile);
        device.pass(60_000);
        let Published::Metadata { role, .. } = &what else { panic!() };
        assert!(device.refusals().iter().any(|(topic, _)| *topic == format!("repo/2.{role}")), "{role}");
        assert_eq!(device.runs(), Some("line"), "what runs goes on running");
    }
    device.publish(&repository);
    device.pass(600_000);
    assert_eq!(device.runs(), Some("line2"));
}

#[test]
fn refuses_a_timestamp_that_is_older_than_the_trusted_one() {
    let mut repository = repository();
    let old = repository.retained[&Published::Timestamp].clone();
    repository.publish();
    let mut device = Device::new(&repository);
    device.up();
    device.retain(Published::Timestamp, old);
    device.run();
    let refusals = device.refusals();
    assert_eq!(refusals.len(), 1);
    assert!(refusals[0].1.contains("older"), "{refusals:?}");
    let told = device.told.iter().filter(|told| matches!(told, EventKind::Refused(_))).count();
    device.pass(3_600_000);
    assert_eq!(device.refusals().len(), 1, "the same refusal is listed once");
    assert_eq!(told, 1);
}

#[test]
fn a_power_cut_within_a_refresh_keeps_the_floor_that_it_reached() {
    let mut repository = repository();
    let old = repository.retained[&Published::Timestamp].clone();
    repository.publish();
    let mut device = Device::new(&repository);
    device.broker.remove(&meta(2, "snapshot"));
    device.up();
    assert_eq!(device.runs(), None, "the refresh waits for the snapshot");
    let mut device = device.reboot(&repository);
    device.broker.insert(Published::Timestamp, old);
    device.up();
    assert!(device.refusals().iter().any(|(_, why)| why.contains("older")), "{:?}", device.refusals());
    assert_eq!(device.runs(), None, "nothing follows from a timestamp that is older than one that was seen");
}

#[test]
fn expired_metadata_is_not_newly_accepted_and_what_runs_goes_on() {
    let repository = repository();
    let mut device = Device::new(&repository);
    device.up();
    assert_eq!(device.report().stale, None);
    device.down();
    device.pass(u64::try_from(EXPIRES - START).unwrap() * 1000);
    assert_eq!(device.report().stale, Some(EXPIRES));
    let mut device = device;
    device.up();
    assert!(device.refusals().iter().any(|(_, why)| why.contains("expired")), "{:?}", device.refusals());
    assert_eq!(device.runs(), Some("line"));
}

#[test]
fn reports_a_role_that_the_broker_does_not_have_and_asks_again() {
    let repository = repository();
    let mut device = Device::new(&repository);
    let missing = device.broker.remove(&meta(1, "releases")).unwrap();
    device.up();
    device.pass(60_000);
    assert!(device.refusals().iter().any(|(what, why)| what == "repo/1.releases" && why.contains("did not send")));
    assert_eq!(device.runs(), None);
    device.broker.insert(meta(1, "releases"), missing);
    device.pass(400_000);
    assert_eq!(device.runs(), Some("line"));
    assert_eq!(device.refusals(), [], "it is missing no longer");
}

#[test]
fn reports_an_empty_broker() {
    let mut device = Device::new(&repository());
    device.broker.clear();
    device.up();
    device.pass(29_000);
    assert_eq!(device.refusals(), []);
    device.pass(2_000);
    assert_eq!(device.refusals()[0].0, "repo/timestamp");
}

#[test]
fn a_wrong_chunk_is_refused_and_asked_for_again() {
    let mut repository = repository();
    let content = content(1, 200_000);
    let (_, chunks) = blob::cut(&content).unwrap();
    let what = Published::Chunk(Digest::of(chunks[1]));
    let honest = repository.retained.insert(what.clone(), b"\0not it".to_vec()).unwrap();
    let mut device = Device::new(&repository);
    device.up();
    device.pass(10_000);
    assert_eq!(device.runs(), None);
    assert!(device.refusals().iter().any(|(topic, _)| topic.starts_with("chunk/")));
    device.broker.insert(what, honest);
    device.pass(60_000);
    assert_eq!(device.runs(), Some("line"));
}

#[test]
fn an_index_that_lies_costs_a_download_and_is_replaced() {
    let mut repository = repository();
    let (honest, other) = (content(1, 200_000), content(9, 200_000));
    let (lie, chunks) = blob::cut(&other).unwrap();
    for chunk in chunks {
        repository.retained.insert(Published::Chunk(Digest::of(chunk)), blob::encode_chunk(chunk));
    }
    let what = Published::Index(Digest::of(&honest));
    let truth = repository.retained.insert(what.clone(), lie.encode()).unwrap();
    let mut device = Device::new(&repository);
    device.up();
    assert!(device.refusals().iter().any(|(topic, why)| topic.starts_with("blob/") && why.contains("wrong")));
    assert_eq!(device.runs(), None, "nothing unsigned is staged");
    device.broker.insert(what, truth);
    device.pass(60_000);
    assert_eq!(device.runs(), Some("line"));
}

#[test]
fn another_broker_is_asked_at_once_for_the_index_that_an_earlier_one_lied_about() {
    let mut repository = repository();
    let honest = Digest::of(&content(1, 200_000));
    let what = Published::Index(honest);
    // Right in length, of chunks that nobody has.
    let (lie, _) = blob::cut(&content(9, 200_000)).unwrap();
    let truth = repository.retained.insert(what.clone(), lie.encode()).unwrap();
    let mut device = Device::new(&repository);
    device.up();
    assert_eq!(device.runs(), None);
    device.down();
    device.broker.insert(what, truth);
    device.up();
    assert_eq!(device.runs(), Some("line"), "no wait is over yet: {:?}", device.refusals());
    assert_eq!(device.errors, []);
}

#[test]
fn an_index_that_is_the_same_on_the_next_connection_costs_no_chunk_again() {
    let repository = repository();
    let mut device = Device::new(&repository);
    let (index, _) = blob::cut(&content(1, 200_000)).unwrap();
    let last = Published::Chunk(index.chunks().last().unwrap().digest);
    let missing = device.broker.remove(&last).unwrap();
    device.up();
    device.down();
    device.broker.insert(last, missing);
    device.up();
    assert_eq!(device.runs(), Some("line"));
    let pulled: BTreeSet<_> = device.pulled.iter().collect();
    assert_eq!(pulled.len(), device.pulled.len(), "a chunk came twice");
}

#[test]
fn a_message_that_was_not_asked_for_changes_nothing() {
    let repository = repository();
    let mut device = Device::new(&repository);
    let message = Message { what: Published::Timestamp, payload: Vec::new().into() };
    assert_eq!(device.sync.handle(Event::Message(message), device.now), Err(SyncError::LinkDown));
    device.up();
    let before = device.report();
    for what in [meta(7, "snapshot"), Published::Chunk(Digest::of(b"x")), Published::Index(Digest::of(b"x"))] {
        device.handle(Event::Message(Message { what, payload: vec![0; 9].into() }));
    }
    assert_eq!(device.report(), before);
    let digest = Digest::of(b"x");
    for answer in [
        Event::Surveyed { number: 99, held: vec![], taken: 0, free: 0 },
        Event::Begun { digest, missing: Ok(vec![0]) },
        Event::Wrote { blob: digest, index: 0, chunk: digest, result: Ok(()) },
        Event::Finished { digest, result: Ok(()) },
        Event::Document { digest, content: Ok(vec![]) },
        Event::Staged { generation: 99, handover: Handover::MakeBeforeBreak },
        Event::Damaged { generation: 99 },
        Event::Running { generation: 99, module: "m".into() },
        Event::Counted { generation: 99, frames: vec![] },
    ] {
        assert!(device.sync.handle(answer.clone(), device.now).is_err(), "{answer:?}");
    }
    assert_eq!(device.report(), before);
}
