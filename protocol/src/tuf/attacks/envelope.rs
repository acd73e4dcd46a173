//! Messages that are wrong in themselves.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::author::{self, AuthorError, Signer as _};
use super::super::*;
use super::repository::*;

fn initial(bytes: &[u8]) -> TrustError {
    Trusted::from_root(bytes).unwrap_err()
}

fn good_root() -> Vec<u8> {
    root(1, LATER, root_keys(), &[0, 1])
}

#[test]
fn endless_data_is_refused_before_it_is_parsed() {
    let mut bytes = good_root();
    bytes.resize(MAX_METADATA_LEN as usize, b' ');
    assert!(Trusted::from_root(&bytes).is_ok());
    bytes.push(b' ');
    assert_eq!(
        initial(&bytes),
        TrustError::TooLong { role: "root".into(), limit: MAX_METADATA_LEN, found: MAX_METADATA_LEN + 1 }
    );
}

#[test]
fn what_is_not_metadata_is_refused() {
    for bytes in [&b""[..], b"{", b"{}x", b"\xff"] {
        assert!(matches!(initial(bytes), TrustError::NotJson { .. }));
    }
    for bytes in [&b"[]"[..], b"{}", b"{\"signed\":{}}", b"{\"signed\":{},\"signatures\":[1]}", b"{\"signatures\":[]}"]
    {
        assert!(matches!(initial(bytes), TrustError::Malformed { .. }));
    }
}

#[test]
fn a_field_that_stands_twice_is_refused() {
    let text = String::from_utf8(good_root()).unwrap().replacen("\"version\":1", "\"version\":1,\"version\":1", 1);
    assert_eq!(initial(text.as_bytes()), TrustError::DuplicateField { role: "root".into(), field: "version".into() });
}

#[test]
fn a_number_without_canonical_form_is_refused() {
    let bytes = edited(&good_root(), |root| root["signed"]["x"] = json!(1.5));
    assert_eq!(initial(&bytes), TrustError::NotCanonical { role: "root".into() });
}

#[test]
fn two_signatures_of_one_key_id_are_refused() {
    let bytes = edited(&good_root(), |root| {
        let first = root["signatures"][0].clone();
        root["signatures"].as_array_mut().unwrap().push(first);
    });
    assert!(matches!(initial(&bytes), TrustError::DuplicateSignature { .. }));
}

#[test]
fn every_changed_field_of_the_signed_part_costs_the_signatures() {
    for (field, value) in [("version", json!(2)), ("expires", json!("2090-01-01T00:00:00Z")), ("x", json!(null))] {
        let bytes = edited(&good_root(), |root| root["signed"][field] = value);
        assert_eq!(initial(&bytes), TrustError::Threshold { role: "root".into(), valid: 0, threshold: 2 });
    }
}

#[test]
fn too_few_signatures_are_refused() {
    let one = root(1, LATER, root_keys(), &[0]);
    assert_eq!(initial(&one), TrustError::Threshold { role: "root".into(), valid: 1, threshold: 2 });
    let foreign = root(1, LATER, root_keys(), &[0, 7]);
    assert_eq!(initial(&foreign), TrustError::Threshold { role: "root".into(), valid: 1, threshold: 2 });
    let both = author::add_signatures(&one, &signers(&[1])).unwrap();
    assert!(Trusted::from_root(&both).is_ok());
}

#[test]
fn one_key_under_two_ids_counts_once() {
    let key = serde_json::to_value(KEYS[1].key()).unwrap();
    let id = KEYS[1].key_id().unwrap();
    let unsigned = resigned(&good_root(), &[1], |signed| {
        signed["keys"]["another"] = key;
        signed["roles"]["root"]["keyids"] = json!([id, "another"]);
    });
    let bytes = edited(&unsigned, |root| {
        let mut copy = root["signatures"][0].clone();
        copy["keyid"] = json!("another");
        root["signatures"].as_array_mut().unwrap().push(copy);
    });
    assert_eq!(initial(&bytes), TrustError::Threshold { role: "root".into(), valid: 1, threshold: 2 });
}

#[test]
fn key_ids_are_opaque_and_unknown_keys_do_not_harm() {
    let rename = |signed: &mut Value, old: &str, new: &str| {
        let key = signed["keys"].as_object_mut().unwrap().remove(old).unwrap();
        signed["keys"][new] = key;
    };
    let ids = [KEYS[0].key_id().unwrap(), KEYS[1].key_id().unwrap()];
    let bytes = resigned(&good_root(), &[0, 1], |signed| {
        rename(signed, &ids[0], "first");
        signed["keys"]["post-quantum"] = json!({"keytype": "x", "scheme": "y", "keyval": [1, "z"]});
        signed["roles"]["root"]["keyids"] = json!(["post-quantum", "absent", "first", ids[1]]);
    });
    let bytes = edited(&bytes, |root| {
        for signature in root["signatures"].as_array_mut().unwrap() {
            if signature["keyid"] == json!(ids[0]) {
                signature["keyid"] = json!("first");
            }
        }
        let unknown = json!({"keyid": "post-quantum", "sig": "not hexadecimal", "more": true});
        root["signatures"].as_array_mut().unwrap().push(unknown);
    });
    assert!(Trusted::from_root(&bytes).is_ok());
}

#[test]
fn malformed_roots_are_refused() {
    let broken: [fn(&mut Value); 9] = [
        |signed| signed["version"] = json!(0),
        |signed| signed["version"] = json!("1"),
        |signed| signed["expires"] = json!("soon"),
        |signed| signed["roles"]["root"]["threshold"] = json!(0),
        |signed| signed["roles"]["root"]["threshold"] = json!(-1),
        |signed| {
            let id = signed["roles"]["timestamp"]["keyids"][0].clone();
            signed["roles"]["timestamp"]["keyids"] = json!([id, id]);
        },
        |signed| drop(signed["roles"].as_object_mut().unwrap().remove("snapshot")),
        |signed| drop(signed.as_object_mut().unwrap().remove("keys")),
        |signed| signed["consistent_snapshot"] = json!("yes"),
    ];
    for (at, edit) in broken.into_iter().enumerate() {
        let refused = initial(&resigned(&good_root(), &[0, 1], edit));
        assert!(matches!(refused, TrustError::Malformed { .. }), "{at}: {refused}");
    }
}

#[test]
fn other_specifications_are_refused() {
    for version in ["2.0.0", "0.9", "1", "1.0.0.0", "1.x", "", "1..0"] {
        let bytes = resigned(&good_root(), &[0, 1], |signed| signed["spec_version"] = json!(version));
        assert_eq!(initial(&bytes), TrustError::UnknownSpecVersion { role: "root".into(), found: version.into() });
    }
    for version in ["1.0", "1.0.0", "1.9.99"] {
        let bytes = resigned(&good_root(), &[0, 1], |signed| signed["spec_version"] = json!(version));
        assert!(Trusted::from_root(&bytes).is_ok(), "{version}");
    }
}

#[test]
fn unknown_fields_are_kept_through_reading_and_signing_again() {
    let bytes = resigned(&good_root(), &[0, 1], |signed| {
        signed["x-fleet"] = json!({"deep": ["é", 1]});
        signed["roles"]["root"]["x"] = json!(1);
    });
    let before = Trusted::from_root(&bytes).unwrap();
    let again: Root = author::read(&bytes).unwrap();
    let again = author::sign(&again, &signers(&[0, 1])).unwrap();
    assert_eq!(before.root(), Trusted::from_root(&again).unwrap().root());
    assert_eq!(before.root().other["x-fleet"], json!({"deep": ["é", 1]}));
}

#[test]
fn what_stands_beside_the_signed_part_survives_another_signature() {
    let first = edited(&root(1, LATER, root_keys(), &[0]), |root| {
        root["x-note"] = json!("unsigned");
        root["signatures"][0]["x-by"] = json!({"name": "é"});
        root["signed"]["roles"]["mirrors"] = json!({"keyids": [], "threshold": 1});
    });
    let both: Value = serde_json::from_slice(&author::add_signatures(&first, &signers(&[1])).unwrap()).unwrap();
    assert_eq!(both["x-note"], "unsigned");
    let noted = |signature: &&Value| signature["x-by"]["name"] == "é";
    assert_eq!(both["signatures"].as_array().unwrap().iter().filter(noted).count(), 1);
    assert_eq!(both["signatures"].as_array().unwrap().len(), 2);
    let read: Root = author::read(&first).unwrap();
    let again = author::sign(&read, &signers(&[0])).unwrap();
    let again: Value = serde_json::from_slice(&again).unwrap();
    assert_eq!(again["signed"]["roles"]["mirrors"]["threshold"], 1);
}

#[test]
fn the_author_refuses_what_no_client_would_take() {
    let alone = RootKeysWithThreshold(3).build();
    assert!(matches!(author::root(sealed(1, LATER), alone), Err(AuthorError::Unsound(_))));
    let paths: Vec<String> = (0..2000).map(|at| format!("modules/{at}/a-rather-long-name.wasm")).collect();
    let files = paths.iter().map(|path| (path.clone(), author::target(b"", None))).collect();
    let long = author::sign(&author::targets(sealed(1, LATER), files, None), &signers(&[5]));
    assert!(matches!(long, Err(AuthorError::Metadata(TrustError::TooLong { .. }))));
    let custom = author::target(b"", Some(json!({"score": 0.5})));
    let fraction = author::targets(sealed(1, LATER), [("a".to_owned(), custom)].into(), None);
    assert!(matches!(author::sign(&fraction, &[]), Err(AuthorError::Unwritable(_))));
    let never = author::targets(sealed(1, i64::MAX), Default::default(), None);
    assert!(matches!(author::sign(&never, &[]), Err(AuthorError::Unwritable(_))));
}

struct RootKeysWithThreshold(u32);

impl RootKeysWithThreshold {
    fn build(&self) -> author::RootKeys {
        author::RootKeys { root: keys(&[0, 1], self.0), ..root_keys() }
    }
}

proptest! {
    #[test]
    fn random_bytes_are_refused_without_a_panic(bytes: Vec<u8>, text: String) {
        prop_assert!(Trusted::from_root(&bytes).is_err());
        prop_assert!(Trusted::from_root(text.as_bytes()).is_err());
        let trusted = refreshed(&repository(1));
        for offered in [&bytes[..], text.as_bytes()] {
            let mut copy = trusted.clone();
            prop_assert!(copy.update_root(offered).is_err());
            prop_assert!(copy.update_timestamp(offered, NOW).is_err());
            prop_assert!(copy.update_snapshot(offered, NOW).is_err());
            prop_assert!(copy.update_targets(offered, NOW).is_err());
        }
    }

    #[test]
    fn a_mutated_message_is_refused_or_means_the_same(
        name in 0..6_usize,
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..4),
    ) {
        let mut files = repository(1);
        let name = ["1.root", "timestamp", "1.snapshot", "1.targets", "1.releases", "1.deployments"][name];
        let honest = refreshed(&files);
        let bytes = files.get_mut(name).unwrap();
        for (at, flip) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        let Ok(trusted) = Trusted::from_root(&files["1.root"]) else { return Ok(()) };
        let (trusted, result) = refresh(trusted, &files);
        if result.is_ok() {
            prop_assert_eq!(trusted.targets_under("").unwrap(), honest.targets_under("").unwrap());
            prop_assert_eq!(trusted.root(), honest.root());
        }
    }
}
