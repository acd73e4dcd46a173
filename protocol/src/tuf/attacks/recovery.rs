//! Rotation of keys, recovery, and what stays after a refresh that failed.

use std::collections::BTreeMap;

use super::super::author::RootKeys;
use super::super::*;
use super::repository::*;

fn stored(trusted: &Trusted) -> BTreeMap<String, Vec<u8>> {
    trusted.files().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect()
}

#[test]
fn a_new_root_is_signed_by_the_old_and_by_itself() {
    let rotated = || RootKeys { root: keys(&[8, 9], 2), ..root_keys() };
    let mut trusted = fresh();
    let threshold = |valid| Err(TrustError::Threshold { role: "root".into(), valid, threshold: 2 });
    assert_eq!(trusted.update_root(&root(2, LATER, rotated(), &[8, 9])), threshold(0));
    assert_eq!(trusted.update_root(&root(2, LATER, rotated(), &[0, 1, 8])), threshold(1));
    assert_eq!(trusted.update_root(&root(2, LATER, rotated(), &[0, 8, 9])), threshold(1));
    trusted.update_root(&root(2, LATER, rotated(), &[0, 1, 8, 9])).unwrap();
    assert_eq!(trusted.update_root(&root(3, LATER, root_keys(), &[0, 1])), threshold(0));
}

#[test]
fn roots_follow_each_other_without_a_gap() {
    let mut trusted = fresh();
    for version in [1, 3, u64::MAX] {
        let wrong = TrustError::NotNextRoot { expected: 2, found: version };
        assert_eq!(trusted.update_root(&root(version, LATER, root_keys(), &[0, 1])), Err(wrong));
    }
    trusted.update_root(&root(2, LATER, root_keys(), &[0, 1])).unwrap();
    assert_eq!(trusted.version("root"), Some(2));
}

#[test]
fn one_refresh_follows_256_roots_and_the_next_goes_on() {
    let mut files = repository(1);
    for version in 2..=260 {
        files.insert(format!("{version}.root"), root(version, LATER, root_keys(), &[0, 1]));
    }
    let trusted = refreshed(&files);
    assert_eq!(trusted.version("root"), Some(257));
    let (trusted, result) = refresh(trusted, &files);
    result.unwrap();
    assert_eq!(trusted.version("root"), Some(260));
}

/// Signs everything low again after versions ran away, with `by` for timestamp and snapshot.
fn recovered(version: u64, keys: RootKeys, by: [usize; 2]) -> super::repository::Files {
    let mut files = repository(1);
    files.insert(format!("{version}.root"), root(version, LATER, keys, &[0, 1]));
    let roles = ["targets", "releases", "deployments"].map(|role| (role, listed(1, &files[&format!("1.{role}")])));
    let bytes = snapshot(1, LATER, &roles, &[by[1]]);
    files.insert("timestamp".into(), timestamp(1, LATER, listed(1, &bytes), &[by[0]]));
    files.insert("1.snapshot".into(), bytes);
    files
}

#[test]
fn a_fleet_recovers_from_fast_forward_by_rotating_timestamp_or_snapshot_keys() {
    let ahead = refreshed(&repository(1_000_000));
    for (rotated, by) in [
        (RootKeys { timestamp: keys(&[10], 1), ..root_keys() }, [10, 3]),
        (RootKeys { snapshot: keys(&[10], 1), ..root_keys() }, [2, 10]),
    ] {
        let (trusted, result) = refresh(ahead.clone(), &recovered(2, rotated, by));
        result.unwrap();
        assert_eq!(["timestamp", "snapshot", "releases"].map(|role| trusted.version(role)), [Some(1); 3]);
    }
}

#[test]
fn a_key_that_is_only_added_leaves_the_floors() {
    let ahead = refreshed(&repository(7));
    let added = RootKeys { timestamp: keys(&[2, 10], 1), snapshot: keys(&[3, 10], 1), ..root_keys() };
    let rollback = TrustError::Rollback { role: "timestamp".into(), floor: 7, found: 1 };
    assert_eq!(refusal(ahead, &recovered(2, added, [10, 10])), rollback);
}

#[test]
fn a_rotated_key_signs_nothing_any_more() {
    let mut files = repository(1);
    files.insert("2.root".into(), root(2, LATER, RootKeys { timestamp: keys(&[10], 1), ..root_keys() }, &[0, 1]));
    let refused = TrustError::Threshold { role: "timestamp".into(), valid: 0, threshold: 1 };
    assert_eq!(refusal(refreshed(&repository(1)), &files), refused);
}

#[test]
fn targets_of_a_revoked_key_are_not_used_any_more() {
    let mut trusted = refreshed(&repository(1));
    trusted.update_root(&root(2, LATER, RootKeys { targets: keys(&[10], 1), ..root_keys() }, &[0, 1])).unwrap();
    assert_eq!(trusted.target("modules/a"), Err(TrustError::NotLoaded { role: "targets".into() }));
    assert!(trusted.targets_under("").is_err());
}

#[test]
fn a_refresh_that_fails_keeps_the_old_targets_and_the_new_floors() {
    let mut files = repository(2);
    files.insert("2.deployments".into(), targets(2, LATER, &[], Vec::new(), &[5]));
    relist(&mut files, 2, LATER);
    let (trusted, result) = refresh(refreshed(&repository(1)), &files);
    assert!(matches!(result, Err(TrustError::Threshold { .. })));
    assert!(!trusted.is_current());
    assert_eq!(["timestamp", "snapshot", "targets"].map(|role| trusted.version(role)), [Some(2), Some(2), Some(1)]);
    assert!(trusted.target("deployments/line").unwrap().is_some());
    assert!(matches!(refusal(trusted.clone(), &repository(1)), TrustError::Rollback { .. }));
    let (trusted, result) = refresh(trusted, &repository(3));
    result.unwrap();
    assert!(trusted.is_current());
}

#[test]
fn an_honest_copy_is_taken_after_any_number_of_false_ones() {
    let files = repository(1);
    let mut refresh = Refresh::start(fresh(), NOW);
    while let Step::Fetch(spec) = refresh.next() {
        for false_copy in [&b""[..], b"{}", &files["1.deployments"][1..]] {
            let before = refresh.next();
            refresh.supply(false_copy).unwrap_err();
            assert_eq!(refresh.next(), before);
        }
        let name = spec.version.map_or(spec.role.clone(), |version| format!("{version}.{}", spec.role));
        match files.get(&name) {
            Some(bytes) => refresh.supply(bytes).unwrap(),
            None => refresh.absent().unwrap(),
        }
    }
    assert!(refresh.finish().is_current());
}

#[test]
fn floors_survive_a_restart_long_after_expiry() {
    let trusted = refreshed(&repository(2));
    let shipped = root(1, LATER, root_keys(), &[0, 1]);
    let restored = Trusted::restore(&shipped, &stored(&trusted)).unwrap();
    assert_eq!(restored.refused, []);
    assert_eq!(stored(&restored.trusted), stored(&trusted));
    let mut files = repository(1);
    files.insert("2.root".into(), root(2, LATER * 2, root_keys(), &[0, 1]));
    let mut refresh = Refresh::start(restored.trusted, LATER + 1);
    let rollback = TrustError::Rollback { role: "timestamp".into(), floor: 2, found: 1 };
    assert_eq!(drive(&mut refresh, &files), Err(rollback));
    assert!(refresh.finish().target("modules/a").unwrap().is_some());
}

#[test]
fn a_damaged_store_is_rebuilt_from_what_is_sound() {
    let repository = repository(2);
    let trusted = refreshed(&repository);
    let shipped = root(1, LATER, root_keys(), &[0, 1]);
    for damaged in ["root", "timestamp", "snapshot", "targets", "releases", "deployments"] {
        let mut files = stored(&trusted);
        files.get_mut(damaged).unwrap()[200] ^= 1;
        let restored = Trusted::restore(&shipped, &files).unwrap();
        assert_eq!(restored.refused.len(), 1, "{damaged}");
        assert_eq!(restored.refused[0].0, damaged);
        let (trusted, result) = refresh(restored.trusted, &repository);
        result.unwrap();
        assert_eq!(trusted.targets_under("").unwrap().len(), 2);
    }
    assert!(Trusted::restore(b"{}", &stored(&trusted)).is_err());
}

#[test]
fn a_newer_image_brings_its_root_with_it() {
    let trusted = refreshed(&repository(1));
    let shipped = root(4, LATER, RootKeys { timestamp: keys(&[10], 1), ..root_keys() }, &[0, 1]);
    let restored = Trusted::restore(&shipped, &stored(&trusted)).unwrap();
    assert_eq!(restored.trusted.version("root"), Some(4));
    assert_eq!(restored.trusted.version("timestamp"), None);
    assert!(matches!(restored.refused[..], [(ref name, TrustError::Threshold { .. })] if name == "timestamp"));
}

#[test]
fn says_what_expires_first() {
    let mut files = repository(1);
    assert_eq!(refreshed(&files).first_expiry().1, LATER);
    files.insert("1.releases".into(), targets(1, LATER - 5, &[], Vec::new(), &[5]));
    relist(&mut files, 1, LATER);
    assert_eq!(refreshed(&files).first_expiry(), ("releases", LATER - 5));
}
