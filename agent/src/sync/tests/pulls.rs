//! What is pulled, what is not pulled again, and what there is room for.

use std::collections::BTreeSet;

use sanderling_protocol::{
    blob,
    digest::Digest,
    reported::DeploymentState::{Active, Refused},
    topics::Published,
};
use serde_json::json;

use super::{
    repository::{A, B, Repository, content, document, of_two},
    world::{Device, committed_of_two},
};
use crate::sync::{Capacity, Effect, Event};

const LENGTH: usize = 400_000;

fn published() -> Repository {
    of_two(LENGTH)
}

fn committed() -> (Device, Repository) {
    committed_of_two(LENGTH)
}

fn once(pulled: &[Digest]) -> bool {
    pulled.iter().collect::<BTreeSet<_>>().len() == pulled.len()
}

#[test]
fn no_chunk_is_pulled_twice_through_power_cuts() {
    let (mut device, repository) = committed();
    let mut pulled = Vec::new();
    for _ in 0..200 {
        device.offer(&repository);
        for _ in 0..25 {
            device.step();
        }
        // What came and was not written is asked for again, and only that.
        let written = device.disk.held_chunks();
        pulled.extend(device.pulled.drain(..).filter(|chunk| written.contains(chunk)));
        if device.runs() == Some("b") {
            break;
        }
        device = device.cut(&repository);
        device.link = true;
        device.events.push_back(Event::LinkUp(Capacity::default()));
    }
    assert_eq!(device.runs(), Some("b"));
    assert!(pulled.len() > 10 && once(&pulled), "{} chunks", pulled.len());
}

#[test]
fn blobs_outlive_the_records_about_them() {
    let mut repository = published();
    let mut device = Device::new(&repository);
    device.up();
    device.pass(11_000);
    assert_eq!(device.committed(), Some("a"));
    device.disk.forget_records();
    // The device wakes up while another deployment is meant for it, which shares content with what it had.
    repository.module(B, &[content(1, LENGTH), content(2, 1000)].concat());
    repository.deploy("b", B);
    repository.publish();
    device.pulled.clear();
    let mut device = device.reboot(&repository);
    device.up();
    device.pass(11_000);
    assert_eq!(device.committed(), Some("b"));
    let pulled = device.pulled.len();
    assert!(pulled <= 4, "{pulled} chunks: the document, and what is new at the end");
}

#[test]
fn space_that_returns_is_noticed_without_being_told() {
    let (mut device, repository) = committed();
    device.free = 300_500;
    device.publish(&repository);
    assert_eq!(device.state(), Some(Refused));
    let told = device.told.len();
    device.pass(3_600_000);
    assert_eq!((device.state(), device.told.len()), (Some(Refused), told), "it is told once");
    assert!(device.refusals().iter().any(|(what, why)| what == "deployments/b" && why.contains("free space")));
    assert_eq!(device.pulled.len(), 1, "the document alone was pulled");
    device.free = 1 << 30;
    device.pass(200_000);
    assert_eq!(device.runs(), Some("b"));
    assert_eq!(device.refusals(), [], "nothing is lacking any more");
}

#[test]
fn the_deployment_before_the_committed_one_makes_room() {
    let (mut device, mut repository) = committed();
    device.publish(&repository);
    device.pass(11_000);
    assert_eq!(device.disk.slots.previous.as_ref().map(|slot| slot.name.as_str()), Some("a"));
    repository.module("modules/c/1.wasm", &content(3, LENGTH));
    repository.deploy("c", "modules/c/1.wasm");
    repository.publish();
    // Room for one more, once `a` is gone.
    device.total(3 * LENGTH as u64 - 100_000);
    device.publish(&repository);
    assert_eq!((device.runs(), device.committed()), (Some("c"), Some("b")), "{:?}", device.refusals());
    assert_eq!(device.disk.slots.previous, None);
}

#[test]
fn what_a_part_takes_already_is_not_asked_for_again() {
    let (mut device, repository) = committed();
    let (index, _) = blob::cut(&content(2, LENGTH)).unwrap();
    let withheld: Vec<_> = index.chunks().iter().skip(5).map(|chunk| Published::Chunk(chunk.digest)).collect();
    let mut partial = repository.clone();
    partial.retained.retain(|what, _| !withheld.contains(what));
    device.broker.retain(|what, _| !withheld.contains(what));
    device.total(2 * LENGTH as u64 + 2_000);
    device.publish(&partial);
    assert_ne!(device.runs(), Some("b"));
    // The part fills the disk, and has all the room that it needs.
    device.broker = repository.retained.clone();
    let mut device = device.cut(&repository);
    device.total(2 * LENGTH as u64 + 2_000);
    device.run();
    device.up();
    assert_eq!(device.runs(), Some("b"), "{:?}", device.refusals());
}

#[test]
fn a_part_that_is_lost_is_begun_anew() {
    let (mut device, repository) = committed();
    device.offer(&repository);
    while device.sync.pull.phase(&Digest::of(&content(2, LENGTH))) != "writing" {
        assert!(device.step());
    }
    device.disk.lose_parts();
    device.pass(60_000);
    assert_eq!(device.runs(), Some("b"));
}

#[test]
fn what_is_wanted_is_pulled_beside_what_is_mended() {
    for lacking in [A, B] {
        let (mut device, repository) = committed();
        device.damage(0);
        let mut device = device.cut(&repository);
        device.run();
        assert_eq!(device.runs(), None, "it is damaged, and there is no network");
        device.broker = repository.retained.clone();
        let lost = content(if lacking == A { 1 } else { 2 }, LENGTH);
        device.broker.remove(&Published::Index(Digest::of(&lost)));
        device.up();
        device.pass(60_000);
        let wanted = if lacking == A { "b" } else { "a" };
        assert_eq!(device.runs(), Some(wanted), "the broker has lost {lacking}");
        device.publish(&repository);
        device.pass(400_000);
        assert_eq!((device.runs(), device.committed()), (Some("b"), Some("b")));
    }
}

#[test]
fn damage_on_trial_takes_the_committed_one_back_without_a_network() {
    let (mut device, repository) = committed();
    device.publish(&repository);
    assert_eq!(device.disk.slots.trial.as_ref().map(|trial| trial.slot.name.as_str()), Some("b"));
    let b = Digest::of(&content(2, LENGTH));
    device.disk.blobs.remove(&b);
    let mut device = device.reboot(&repository);
    assert_eq!((device.runs(), device.disk.slots.trial.as_ref()), (Some("a"), None));
    device.up();
    device.pass(11_000);
    assert_eq!(
        (device.committed(), device.state()),
        (Some("b"), Some(Active)),
        "pulled again, it is no worse than before"
    );
}

#[test]
fn the_document_is_not_collected_while_it_is_pulled() {
    let (mut device, mut repository) = committed();
    device.publish(&repository);
    repository.deploy_document("c", &document("c", B, json!(3)));
    repository.publish();
    device.offer(&repository);
    while device.sync.lifecycle.phase() != "document" {
        assert!(device.step());
    }
    // The one on probation faults, and everything that is not needed is collected.
    let generation = device.routed.unwrap();
    device.fault(generation, "m".into());
    device.run();
    device.pass(11_000);
    assert_eq!(device.committed(), Some("c"));
}

#[test]
fn no_more_topics_are_asked_for_than_the_broker_says() {
    let (mut device, repository) = committed();
    device.down();
    device.capacity = Capacity { messages: 2, ..Capacity::default() };
    device.publish(&repository);
    let effects = device.sync.handle(Event::LinkUp(device.capacity), device.now).unwrap();
    device.link = true;
    device.events.clear();
    let mut most = 0;
    let mut count = |effects: &[Effect]| {
        for effect in effects {
            if let Effect::Subscribe(topics) = effect {
                most = most.max(topics.iter().filter(|what| matches!(what, Published::Chunk(_))).count());
            }
        }
    };
    count(&effects);
    device.give(effects);
    while let Some(effects) = device.next_effects() {
        count(&effects);
    }
    assert_eq!((device.runs(), most), (Some("b"), 2));
}

#[test]
fn a_broker_that_takes_no_chunk_is_reported() {
    let mut device = Device::new(&published());
    device.capacity = Capacity { packet: 16_384, ..Capacity::default() };
    device.up();
    assert!(
        device.refusals().iter().any(|(what, why)| what == "broker" && why.contains("16384") && why.contains("raise"))
    );
    device.down();
    assert_eq!(device.refusals(), []);
}
