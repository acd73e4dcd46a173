//! Indexes are not signed: what one says of its chunks may be false, and must not hold up the honest one that comes later.

use sanderling_protocol::{
    blob::{self, BlobIndex, ChunkRef},
    digest::Digest,
    topics::Published,
};

use super::{
    repository::{Repository, content},
    world::Device,
};

const LENGTH: usize = 200_000;

/// A repository of one deployment whose module is this long, and the topic of the module's index.
fn repository() -> (Repository, Published) {
    let mut repository = Repository::new();
    repository.module("modules/a/1.wasm", &content(1, LENGTH));
    repository.deploy("line", "modules/a/1.wasm");
    repository.publish();
    (repository, Published::Index(Digest::of(&content(1, LENGTH))))
}

/// The index of the module, with its chunks changed.
fn index(change: impl FnOnce(&mut Vec<ChunkRef>)) -> Vec<u8> {
    let (index, _) = blob::cut(&content(1, LENGTH)).unwrap();
    let mut chunks = index.chunks().to_vec();
    change(&mut chunks);
    BlobIndex::new(LENGTH as u64, chunks).unwrap().encode()
}

/// The broker has `lie` for the index until the device has seen through it; then the honest one.
fn recovers_from(lie: Vec<u8>) {
    let (mut repository, what) = repository();
    let truth = repository.retained.insert(what.clone(), lie).unwrap();
    let mut device = Device::new(&repository);
    device.up();
    device.pass(120_000);
    assert_eq!(device.runs(), None);
    assert!(!device.refusals().is_empty(), "it says what it waits for");
    device.broker.insert(what, truth);
    device.pass(1_200_000);
    assert_eq!(device.runs(), Some("line"), "{:?}", device.refusals());
    assert_eq!(device.errors, []);
}

#[test]
fn an_index_of_chunks_that_nobody_has_is_replaced_by_the_honest_one() {
    recovers_from(index(|chunks| chunks[1].digest = Digest::of(b"nobody has it")));
}

#[test]
fn an_index_that_lists_a_chunk_with_a_false_length_is_replaced_by_the_honest_one() {
    recovers_from(index(|chunks| {
        // The sum stays, so that only the chunks give it away.
        chunks[0].length += 1;
        chunks[1].length -= 1;
    }));
}

#[test]
fn a_lie_about_one_blob_does_not_hold_up_another_that_shares_its_chunks() {
    let (mut repository, what) = repository();
    let more = [content(1, LENGTH), content(5, 40_000)].concat();
    repository.module("modules/b/1.wasm", &more);
    let mut both = super::repository::document("both", "modules/a/1.wasm", serde_json::json!({}));
    let second = serde_json::json!({ "name": "n", "module": "modules/b/1.wasm", "input": [ { "sensor": "cam0" } ] });
    both["modules"].as_array_mut().unwrap().push(second);
    repository.deploy_document("both", &both);
    repository.publish();
    let truth = repository.retained.insert(
        what.clone(),
        index(|chunks| {
            chunks[0].length += 1;
            chunks[1].length -= 1;
        }),
    );
    let mut device = Device::new(&repository);
    device.up();
    device.pass(120_000);
    assert_eq!(device.runs(), None);
    device.broker.insert(what, truth.unwrap());
    device.pass(1_200_000);
    assert_eq!(device.runs(), Some("both"), "{:?}", device.refusals());
}
