//! A root is signed by several, in any order, and nothing but that root.

#![allow(clippy::unwrap_used)]

use std::num::{NonZeroU32, NonZeroU64};

use ring::rand::SystemRandom;
use serde_json::Value;

use super::*;
use crate::tuf::schema::Root;

fn pair() -> KeyPair {
    KeyPair::generate(KeyKind::Ed25519, &SystemRandom::new()).unwrap()
}

fn signed_root(keys: &[&KeyPair], threshold: u32, online: &KeyPair) -> Vec<u8> {
    let role = |keys: &[&KeyPair], threshold| RoleKeys {
        keys: keys.iter().map(|key| key.key()).collect(),
        threshold: NonZeroU32::new(threshold).unwrap(),
    };
    let one = || role(&[online], 1);
    let keys_of = RootKeys { root: role(keys, threshold), timestamp: one(), snapshot: one(), targets: one() };
    let sealed = Sealed { version: NonZeroU64::MIN, expires: 4_000_000_000 };
    let signers: Vec<&dyn Signer> = keys.iter().map(|key| *key as &dyn Signer).collect();
    sign(&root(sealed, keys_of).unwrap(), &signers).unwrap()
}

fn next(current: &[u8], changes: Vec<KeyChange>) -> Root {
    let mut root: Root = read(current).unwrap();
    root.version = root.version.checked_add(1).unwrap();
    changes.into_iter().for_each(|change| change_root(&mut root, "root", change).unwrap());
    root
}

/// Two of three keys hold the root; one of them is replaced.
struct Ceremony {
    old: [KeyPair; 3],
    new: KeyPair,
    current: Vec<u8>,
    signing: RootSigning,
}

fn ceremony() -> Ceremony {
    let old = [pair(), pair(), pair()];
    let (new, online) = (pair(), pair());
    let current = signed_root(&[&old[0], &old[1], &old[2]], 2, &online);
    let replace = KeyChange::Replace { old: old[0].key_id().unwrap(), new: new.key() };
    let signing = RootSigning::new(&current, &next(&current, vec![replace])).unwrap();
    Ceremony { old, new, current, signing }
}

fn edited(file: &[u8], edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value = serde_json::from_slice(file).unwrap();
    edit(&mut value);
    serde_json::to_vec(&value).unwrap()
}

#[test]
fn signatures_are_gathered_in_any_order_until_both_thresholds_are_met() {
    let Ceremony { old, new, current, signing } = ceremony();
    let export = signing.to_file().unwrap();
    let signed_by = |key: &KeyPair| {
        let mut copy = RootSigning::parse(&export).unwrap();
        copy.sign(key).unwrap();
        RootSigning::parse(&copy.to_file().unwrap()).unwrap()
    };
    let copies = [signed_by(&old[1]), signed_by(&new), signed_by(&old[0])];
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        let mut gathered = signing.clone();
        for at in order {
            assert!(matches!(gathered.finish(), Err(CeremonyError::Incomplete(_))));
            assert_eq!(gathered.merge(&copies[at]).unwrap().len(), 1);
            assert_eq!(gathered.merge(&copies[at]).unwrap().len(), 0, "twice is once");
        }
        let bytes = gathered.finish().unwrap();
        let mut trusted = crate::tuf::Trusted::from_root(&current).unwrap();
        trusted.update_root(&bytes).unwrap();
        assert_eq!(trusted.version("root"), Some(2));
    }
}

#[test]
fn one_after_the_other_signs_the_same_file() {
    let Ceremony { old, mut signing, .. } = ceremony();
    for key in &old {
        assert!(signing.shortfall().is_some());
        signing.sign(key).unwrap();
        signing = RootSigning::parse(&signing.to_file().unwrap()).unwrap();
    }
    // The second and third key stand in both roots: two signatures that count for both.
    assert_eq!(signing.shortfall(), None);
    signing.finish().unwrap();
}

#[test]
fn says_how_many_of_which_keys_are_missing() {
    let Ceremony { old, new, mut signing, .. } = ceremony();
    signing.sign(&old[0]).unwrap();
    let missing = signing.shortfall().unwrap();
    assert_eq!((missing.old.count, missing.new.count), (1, 2));
    assert!(missing.new.keys.contains(&new.key_id().unwrap()));
    assert!(missing.to_string().contains("1 more of the root keys of version 1"), "{missing}");
}

#[test]
fn a_key_of_nobody_signs_nothing() {
    let Ceremony { mut signing, .. } = ceremony();
    let stranger = pair();
    assert!(matches!(signing.sign(&stranger), Err(CeremonyError::WrongKey { .. })));
    let file = edited(&signing.to_file().unwrap(), |file| {
        file["signatures"][stranger.key_id().unwrap()] = "00".repeat(64).into();
    });
    assert!(matches!(RootSigning::parse(&file), Err(CeremonyError::WrongKey { .. })));
}

#[test]
fn a_changed_file_is_refused_wherever_it_was_changed() {
    let Ceremony { old, mut signing, .. } = ceremony();
    signing.sign(&old[1]).unwrap();
    let file = signing.to_file().unwrap();
    let refused = |edit: fn(&mut Value)| RootSigning::parse(&edited(&file, edit)).unwrap_err();
    assert!(matches!(refused(|file| file["summary"][2] = "expires never".into()), CeremonyError::Changed("summary")));
    let threshold = |file: &mut Value| file["signed"]["roles"]["root"]["threshold"] = 1.into();
    assert!(matches!(refused(threshold), CeremonyError::Changed("canonical form")));
    assert!(matches!(refused(|file| file["schema"] = "x/2".into()), CeremonyError::NotAnExport(_)));
    assert!(matches!(refused(|file| file["more"] = 1.into()), CeremonyError::NotAnExport(_)));
    assert!(matches!(refused(|file| file["signed"]["version"] = 3.into()), CeremonyError::Refused(_)));
    let swap = |file: &mut Value| {
        let signatures = file["signatures"].as_object_mut().unwrap();
        signatures.values_mut().for_each(|signature| *signature = "ab".repeat(64).into());
    };
    assert!(matches!(refused(swap), CeremonyError::BadSignature(_)));
    assert!(matches!(RootSigning::parse(b"{}"), Err(CeremonyError::NotAnExport(_))));
    assert!(matches!(RootSigning::parse(&vec![b' '; MAX_FILE_LEN + 1]), Err(CeremonyError::NotAnExport(_))));
}

#[test]
fn another_root_or_another_start_is_not_merged() {
    let Ceremony { old, new, current, mut signing } = ceremony();
    let mut other = RootSigning::new(&current, &next(&current, vec![KeyChange::Add(pair().key())])).unwrap();
    other.sign(&old[0]).unwrap();
    assert!(matches!(signing.merge(&other), Err(CeremonyError::OtherContent { .. })));

    [&old[0], &old[1], &new].iter().for_each(|key| drop(signing.sign(*key).unwrap()));
    let installed = signing.finish().unwrap();
    let later = RootSigning::new(&installed, &next(&installed, vec![KeyChange::Add(pair().key())])).unwrap();
    assert!(matches!(signing.replaces(&installed), Err(CeremonyError::Stale { version: 2, found_version: 1, .. })));
    assert!(matches!(later.clone().merge(&signing), Err(CeremonyError::Stale { .. })));
    later.replaces(&installed).unwrap();
}

#[test]
fn the_summary_tells_versions_expiry_keys_thresholds_and_changes() {
    let Ceremony { old, new, signing, .. } = ceremony();
    let text = signing.summary().join("\n");
    for words in [
        "root version 2, to replace version 1".to_owned(),
        "expires 2096-10-02T07:06:40Z".to_owned(),
        "root: 2 of 3 keys must sign".to_owned(),
        format!("change: root gains key {}", new.key_id().unwrap()),
        format!("change: root loses key {}", old[0].key_id().unwrap()),
    ] {
        assert!(text.contains(&words), "{words}\n{text}");
    }
    assert_eq!(text.matches("change:").count(), 2, "{text}");
}
