//! Metadata: as an attacker sends it, and as one signs it who holds the keys.

use std::sync::LazyLock;

use sanderling_protocol::tuf::{
    Root, Signed, Snapshot, Step, Targets, Timestamp, TrustError, Trusted,
    author::{AuthorError, add_signatures, read, sign},
};
use serde_json::{Value, json};

use crate::{
    Mutant, Verdict, Walk, judge,
    keys::{holder, signers},
    repository::WITHOUT_DIGESTS,
    walks,
};

static WALKS: LazyLock<Vec<Walk>> = LazyLock::new(walks);

/// The messages of all refreshes: numbers of refresh and message.
static PLACES: LazyLock<Vec<(usize, usize)>> = LazyLock::new(|| {
    let of = |(walk, found): (usize, &Walk)| -> Vec<(usize, usize)> {
        let messages = found.places.iter().enumerate().filter(|(_, place)| place.message.is_some());
        messages.map(|(place, _)| (walk, place)).collect()
    };
    WALKS.iter().enumerate().flat_map(of).collect()
});

/// The number of a message among those of all refreshes, then what comes in its place.
///
/// No client takes it, unless it says what was signed. Read without its signatures it is written as it was read.
pub fn metadata(bytes: &[u8]) {
    let Some((number, bytes)) = bytes.split_first() else { return };
    let (walk, place) = PLACES[usize::from(*number) % PLACES.len()];
    if let Verdict::Fooled(why) = judge(&WALKS, &Mutant { walk, place, message: bytes.to_vec() }) {
        panic!("{}, {}: {why}", WALKS[walk].name, WALKS[walk].places[place].role);
    }
    again::<Root>(bytes);
    again::<Timestamp>(bytes);
    again::<Snapshot>(bytes);
    again::<Targets>(bytes);
}

fn again<T: Signed + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let Ok(metadata) = read::<T>(bytes) else { return };
    match sign(&metadata, &[]) {
        Ok(written) => assert_eq!(read::<T>(&written).expect("what was written"), metadata),
        Err(AuthorError::Metadata(TrustError::TooLong { .. })) => {}
        Err(error) => panic!("what was read is not written: {error}"),
    }
}

/// A place among the messages of a refresh, then what the keys of its role sign.
///
/// Whatever is signed, the client comes to an end, answers questions, and trusts after a restart what it trusted before, or says what it does not.
pub fn content(bytes: &[u8]) {
    let Some((at, text)) = bytes.split_first() else { return };
    let Ok(signed) = serde_json::from_slice::<Value>(text) else { return };
    let walk = &WALKS[WITHOUT_DIGESTS];
    let place = &walk.places[usize::from(*at) % walk.places.len()];
    let all: Vec<usize> = (0..*holder::NOBODY.first().unwrap()).collect();
    let unsigned = serde_json::to_vec(&json!({ "signed": signed, "signatures": [] })).unwrap();
    let Ok(message) = add_signatures(&unsigned, &signers(&all)) else { return };
    let mut refresh = place.before.clone();
    if refresh.supply(&message).is_err() {
        return;
    }
    for _ in 0..64 {
        let Step::Fetch(spec) = refresh.next() else { break };
        let honest = walk.places.iter().find(|place| place.role == spec.role).and_then(|place| place.message.clone());
        let next = honest.unwrap_or_else(|| message.clone());
        if refresh.supply(&next).is_err() {
            break;
        }
    }
    let trusted = refresh.finish();
    if let Ok(targets) = trusted.targets_under("") {
        for target in targets.into_iter().take(64) {
            assert_eq!(trusted.target(target.path), Ok(Some((target.file, target.role))));
        }
    }
    let files = trusted.files().map(|(role, bytes)| (role.to_owned(), bytes.to_vec())).collect();
    let shipped = walk.others.iter().find(|message| Trusted::from_root(message).is_ok()).expect("a root");
    let restored = Trusted::restore(shipped, &files).expect("the root of the image");
    // A root may change who signs so that what was trusted before it no longer verifies: that is left out, and named.
    for role in ["root", "timestamp", "snapshot", "targets"] {
        let (before, after) = (trusted.version(role), restored.trusted.version(role));
        let is_named = restored.refused.iter().any(|(refused, _)| refused == role);
        assert!(after == before || after.is_none() && is_named, "{role}: {before:?}, then {after:?}");
    }
}
