//! How much a device pulls of a next version: a set of models of 1 MB whose last layer was trained further.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, path::Path};

use sanderling_protocol::{
    blob::{cut, encode_chunk},
    digest::Digest,
};

/// So many models are in the set; one alone has 228 KB.
const COPIES: u8 = 5;
/// The most that version B may pull of what a full pull is, in parts of a hundred.
const LIMIT: usize = 35;

/// The model of the fleet's first guest, and the same with its last layer trained further. Each copy is bytewise another one, as
/// models of several lines are: copies that were the same would share all their chunks.
fn set(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../modules/surface-defect/model");
    let model = std::fs::read(folder.join(name)).unwrap();
    (0..COPIES).map(|copy| model.iter().map(|byte| byte ^ copy).collect()).collect()
}

/// The bytes of the messages that a device pulls which has these chunks; those chunks are added to it.
fn pull(set: &[Vec<u8>], held: &mut BTreeSet<Digest>) -> usize {
    let mut bytes = 0;
    for blob in set {
        let (index, chunks) = cut(blob).unwrap();
        bytes += index.encode().len();
        let missing = chunks.into_iter().filter(|chunk| held.insert(Digest::of(chunk)));
        bytes += missing.map(|chunk| encode_chunk(chunk).len()).sum::<usize>();
    }
    bytes
}

#[test]
fn a_changed_layer_pulls_a_third_of_the_set_at_most() {
    let (a, b) = (set("surface-defect.onnx"), set("surface-defect-2.onnx"));
    let content: usize = b.iter().map(Vec::len).sum();
    assert!(content >= 1_000_000, "{content} bytes");
    assert!(a.iter().zip(&b).all(|(a, b)| a != b), "every model changed");
    let full = pull(&b, &mut BTreeSet::new());
    let mut held = BTreeSet::new();
    pull(&a, &mut held);
    let delta = pull(&b, &mut held);
    let failures = usize::from(delta * 100 > full * LIMIT);
    println!(
        "proof: delta | {COPIES} cases | {failures} failures | {delta} of {full} bytes ({:.1} %) of a set of {content} bytes, at most {LIMIT} %",
        delta as f64 / full as f64 * 100.0
    );
    assert_eq!(failures, 0, "{delta} of {full} bytes");
    let indexes: usize = b.iter().map(|blob| cut(blob).unwrap().0.encode().len()).sum();
    assert_eq!(pull(&b, &mut held), indexes, "chunks that are held are never pulled");
}
