//! Attacks on the chain from root to targets.

use super::super::author::RootKeys;
use super::super::*;
use super::repository::*;

#[test]
fn the_order_of_the_workflow_is_kept() {
    let files = repository(1);
    let (trusted, asked) = refresh(fresh(), &files);
    assert_eq!(asked.unwrap(), ["2.root", "timestamp", "1.snapshot", "1.targets", "1.releases", "1.deployments"]);
    assert!(trusted.is_current());
    assert_eq!(trusted.targets_under("").unwrap().len(), 2);
    let mut early = fresh();
    let needs = |role: &str, needs: &str| TrustError::OutOfOrder { role: role.into(), needs: needs.into() };
    assert_eq!(early.update_snapshot(&files["1.snapshot"], NOW), Err(needs("snapshot", "timestamp")));
    early.update_timestamp(&files["timestamp"], NOW).unwrap();
    assert_eq!(early.update_targets(&files["1.targets"], NOW), Err(needs("targets", "snapshot")));
    early.update_snapshot(&files["1.snapshot"], NOW).unwrap();
    assert_eq!(
        early.update_delegated("releases", "targets", &files["1.releases"], NOW),
        Err(needs("releases", "targets"))
    );
    early.update_targets(&files["1.targets"], NOW).unwrap();
    early.update_delegated("releases", "targets", &files["1.releases"], NOW).unwrap();
}

#[test]
fn only_what_changed_is_fetched() {
    let trusted = refreshed(&repository(1));
    let mut files = repository(1);
    files.insert("2.deployments".into(), targets(2, LATER, &["deployments/new"], Vec::new(), &[6]));
    let roles = [("targets", 1), ("releases", 1), ("deployments", 2)];
    let roles = roles.map(|(role, version)| (role, unlisted(version)));
    let bytes = snapshot(2, LATER, &roles, &[3]);
    files.insert("timestamp".into(), timestamp(2, LATER, listed(2, &bytes), &[2]));
    files.insert("2.snapshot".into(), bytes);
    let (trusted, asked) = refresh(trusted, &files);
    assert_eq!(asked.unwrap(), ["2.root", "timestamp", "2.snapshot", "2.deployments"]);
    assert!(trusted.target("deployments/new").unwrap().is_some());
    assert!(trusted.target("modules/a").unwrap().is_some());
    assert!(trusted.target("deployments/line").unwrap().is_none());
}

#[test]
fn metadata_of_another_role_is_refused() {
    let files = repository(1);
    // One key for two roles, so that only the type tells them apart.
    let shared = RootKeys { timestamp: keys(&[3], 1), ..root_keys() };
    let mut trusted = Trusted::from_root(&root(1, LATER, shared, &[0, 1])).unwrap();
    let wrong =
        TrustError::WrongType { role: "timestamp".into(), expected: "timestamp".into(), found: "snapshot".into() };
    assert_eq!(trusted.update_timestamp(&files["1.snapshot"], NOW), Err(wrong));
}

#[test]
fn a_signature_by_a_key_of_another_role_is_refused() {
    let files = repository(1);
    let threshold = |role: &str| TrustError::Threshold { role: role.into(), valid: 0, threshold: 1 };
    let with = |name: &str, bytes: Vec<u8>| {
        let mut files = files.clone();
        files.insert(name.into(), bytes);
        files
    };
    let stamp = timestamp(1, LATER, listed(1, &files["1.snapshot"]), &[3]);
    assert_eq!(refusal(fresh(), &with("timestamp", stamp)), threshold("timestamp"));
    let snap = snapshot(1, LATER, &[("targets", unlisted(1))], &[2]);
    let mut swapped = with("timestamp", timestamp(1, LATER, unlisted(1), &[2]));
    swapped.insert("1.snapshot".into(), snap);
    assert_eq!(refusal(fresh(), &swapped), threshold("snapshot"));
    for (role, by) in [("targets", 5), ("releases", 6), ("deployments", 5)] {
        let mut files = with(&format!("1.{role}"), targets(1, LATER, &[], fleet_delegates(), &[by]));
        relist(&mut files, 1, LATER);
        assert_eq!(refusal(fresh(), &files), threshold(role));
    }
}

#[test]
fn a_rolled_back_timestamp_is_refused() {
    let trusted = refreshed(&repository(2));
    let old = repository(1);
    let rollback = TrustError::Rollback { role: "timestamp".into(), floor: 2, found: 1 };
    assert_eq!(refusal(trusted.clone(), &old), rollback);
    let same = timestamp(2, LATER + 1, unlisted(9), &[2]);
    assert_eq!(trusted.clone().update_timestamp(&same, NOW), Ok(Update::Unchanged));
    let lower = timestamp(3, LATER, unlisted(1), &[2]);
    let listed = TrustError::ListedRollback { lister: "timestamp".into(), role: "snapshot".into(), floor: 2, found: 1 };
    assert_eq!(trusted.clone().update_timestamp(&lower, NOW), Err(listed));
}

#[test]
fn a_snapshot_that_lists_less_is_refused() {
    let trusted = refreshed(&repository(2));
    let offer = |roles: &[(&str, MetaFile)]| {
        let bytes = snapshot(3, LATER, roles, &[3]);
        let stamp = timestamp(3, LATER, listed(3, &bytes), &[2]);
        let files = [("timestamp".to_owned(), stamp), ("3.snapshot".to_owned(), bytes)].into();
        refusal(trusted.clone(), &files)
    };
    let all = [("targets", unlisted(2)), ("releases", unlisted(2)), ("deployments", unlisted(1))];
    let rollback =
        TrustError::ListedRollback { lister: "snapshot".into(), role: "deployments".into(), floor: 2, found: 1 };
    assert_eq!(offer(&all), rollback);
    assert_eq!(offer(&all[..2]), TrustError::Unlisted { role: "deployments".into() });
}

#[test]
fn expired_metadata_is_never_newly_accepted() {
    let expired = |role: &str| TrustError::Expired { role: role.into(), expires: PAST, now: NOW };
    let mut files = repository(1);
    let fleet = files.clone();
    let trusted = Trusted::from_root(&root(1, PAST, root_keys(), &[0, 1])).unwrap();
    assert_eq!(refusal(trusted.clone(), &files), expired("root"));
    assert_eq!(trusted.clone().update_timestamp(&files["timestamp"], NOW), Err(expired("root")));
    files.insert("timestamp".into(), timestamp(1, PAST, listed(1, &files["1.snapshot"]), &[2]));
    assert_eq!(refusal(fresh(), &files), expired("timestamp"));
    let mut files = fleet.clone();
    relist(&mut files, 1, PAST);
    let (after, refused) = refresh(fresh(), &files);
    assert_eq!((refused, after.version("snapshot")), (Err(expired("snapshot")), None), "nor is it stored");
    for (role, by) in [("targets", 4), ("releases", 5), ("deployments", 6)] {
        let mut files = fleet.clone();
        files.insert(format!("1.{role}"), targets(1, PAST, &[], fleet_delegates(), &[by]));
        relist(&mut files, 1, LATER);
        assert_eq!(refusal(fresh(), &files), expired(role));
    }
}

#[test]
fn an_expired_root_on_the_way_does_not_matter() {
    let mut files = repository(1);
    files.insert("2.root".into(), root(2, PAST, root_keys(), &[0, 1]));
    files.insert("3.root".into(), root(3, LATER, root_keys(), &[0, 1]));
    assert_eq!(refreshed(&files).version("root"), Some(3));
}

#[test]
fn a_timestamp_that_expires_while_trusted_is_a_freeze() {
    let files = repository(1);
    let trusted = refreshed(&files);
    let mut refresh = Refresh::start(trusted, LATER);
    let frozen = drive(&mut refresh, &files).unwrap_err();
    assert_eq!(frozen, TrustError::Expired { role: "root".into(), expires: LATER, now: LATER });
    let mut files = files;
    files.insert("2.root".into(), root(2, LATER + 9, root_keys(), &[0, 1]));
    let frozen = drive(&mut Refresh::start(fresh(), LATER), &files).unwrap_err();
    assert_eq!(frozen, TrustError::Expired { role: "timestamp".into(), expires: LATER, now: LATER });
}

#[test]
fn mixed_and_matched_metadata_is_refused() {
    let good = repository(1);
    let other = repository(2);
    // Another version, or another content of the same length, in the place of the listed one.
    for role in ["snapshot", "targets", "releases", "deployments"] {
        let name = format!("1.{role}");
        let mut files = good.clone();
        files.insert(name.clone(), other[&format!("2.{role}")].clone());
        let refused = refusal(fresh(), &files);
        let digest = TrustError::WrongDigest { role: role.into(), algorithm: "sha256".into() };
        assert!(
            refused == digest || matches!(refused, TrustError::WrongLength { .. } | TrustError::TooLong { .. }),
            "{refused}"
        );
        let mut files = good.clone();
        files.get_mut(&name).unwrap().pop();
        assert!(matches!(refusal(fresh(), &files), TrustError::WrongLength { .. }));
        files.get_mut(&name).unwrap().push(b' ');
        assert_eq!(refusal(fresh(), &files), digest);
        files.get_mut(&name).unwrap().push(b' ');
        assert!(matches!(refusal(fresh(), &files), TrustError::TooLong { .. }));
    }
}

#[test]
fn another_version_than_the_listed_is_refused_without_digests_too() {
    let mut files = repository(1);
    files.insert("timestamp".into(), timestamp(1, LATER, unlisted(5), &[2]));
    files.insert("5.snapshot".into(), files["1.snapshot"].clone());
    assert_eq!(refusal(fresh(), &files), TrustError::MixAndMatch { role: "snapshot".into(), expected: 5, found: 1 });
    let roles = [("targets", unlisted(5))];
    files.insert("5.snapshot".into(), snapshot(5, LATER, &roles, &[3]));
    files.insert("5.targets".into(), files["1.targets"].clone());
    assert_eq!(refusal(fresh(), &files), TrustError::MixAndMatch { role: "targets".into(), expected: 5, found: 1 });
}

#[test]
fn digests_that_cannot_be_checked_are_refused() {
    let mut file = listed(1, b"");
    file.length = None;
    file.hashes = Some(Hashes([("blake9".to_owned(), "00".to_owned())].into()));
    let files =
        [("timestamp".to_owned(), timestamp(1, LATER, file.clone(), &[2])), ("1.snapshot".into(), b"x".to_vec())];
    assert_eq!(refusal(fresh(), &files.into()), TrustError::UnknownDigest { role: "snapshot".into() });
    let target = TargetFile { length: 1, hashes: Hashes::default(), custom: None, other: Default::default() };
    assert_eq!(target.verify("t", b"a"), Err(TrustError::UnknownDigest { role: "t".into() }));
    assert_eq!(target.verify("t", b"ab"), Err(TrustError::WrongLength { role: "t".into(), expected: 1, found: 2 }));
}

#[test]
fn what_the_repository_lacks_is_named() {
    for name in ["timestamp", "1.snapshot", "1.targets", "1.releases"] {
        let mut files = repository(1);
        files.remove(name);
        let role = name.trim_start_matches("1.");
        let version = (role != "timestamp").then_some(1);
        assert_eq!(refusal(fresh(), &files), TrustError::Unavailable { role: role.into(), version });
    }
    let mut refresh = Refresh::start(fresh(), NOW);
    drive(&mut refresh, &repository(1)).unwrap();
    assert_eq!(refresh.next(), Step::Done);
    assert_eq!(refresh.supply(b"{}"), Err(TrustError::NothingAwaited));
    assert_eq!(refresh.absent(), Err(TrustError::NothingAwaited));
}

#[test]
fn without_consistent_snapshots_only_roots_are_asked_for_by_version() {
    let files = repository(1);
    let plain = resigned(&root(1, LATER, root_keys(), &[0, 1]), &[0, 1], |signed| {
        signed["consistent_snapshot"] = false.into();
    });
    let bare = files.into_iter().map(|(name, bytes)| (name.trim_start_matches("1.").to_owned(), bytes)).collect();
    let (_, asked) = refresh(Trusted::from_root(&plain).unwrap(), &bare);
    assert_eq!(asked.unwrap(), ["2.root", "timestamp", "snapshot", "targets", "releases", "deployments"]);
}
