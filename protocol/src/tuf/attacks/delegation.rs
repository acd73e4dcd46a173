//! Who is asked for a path, and who is not believed.

use super::super::author::Delegate;
use super::super::*;
use super::repository::*;

/// A repository whose targets role delegates to `delegates`, which have the given targets and delegations of their own; all
/// of them signed by key 5.
fn graph(top: &[&str], delegates: Vec<Delegate>, roles: Vec<(&str, &[&str], Vec<Delegate>)>) -> Files {
    let mut files = Files::new();
    files.insert("1.targets".into(), targets(1, LATER, top, delegates, &[4]));
    for (name, paths, delegates) in roles {
        files.insert(format!("1.{name}"), targets(1, LATER, paths, delegates, &[5]));
    }
    relist(&mut files, 1, LATER);
    files
}

fn to(name: &str, paths: &[&str], terminating: bool) -> Delegate {
    delegate(name, &[5], paths, terminating)
}

fn found<'a>(trusted: &'a Trusted, path: &str) -> Option<&'a str> {
    trusted.target(path).unwrap().map(|(_, role)| role)
}

fn asked_for(files: &Files, path: &str) -> Vec<String> {
    let mut refresh = Refresh::start_for(fresh(), path, NOW);
    drive(&mut refresh, files).unwrap().split_off(3)
}

#[test]
fn the_first_role_in_order_speaks_and_a_role_before_its_delegates() {
    let files = graph(
        &["top"],
        vec![to("a", &["*"], false), to("b", &["*"], false)],
        vec![
            ("a", &["top", "x"], vec![to("c", &["*"], false)]),
            ("b", &["x", "y", "z"], vec![]),
            ("c", &["x", "y"], vec![]),
        ],
    );
    let trusted = refreshed(&files);
    let speaks = ["top", "x", "y", "z", "w"].map(|path| found(&trusted, path));
    assert_eq!(speaks, [Some("targets"), Some("a"), Some("c"), Some("b"), None]);
    assert_eq!(asked_for(&files, "x"), ["1.targets", "1.a"]);
    assert_eq!(asked_for(&files, "z"), ["1.targets", "1.a", "1.c", "1.b"]);
}

#[test]
fn a_terminating_delegation_ends_the_search() {
    let files = graph(
        &[],
        vec![to("a", &["x"], true), to("b", &["*"], false)],
        vec![("a", &[], vec![to("c", &["*"], false)]), ("b", &["x", "y"], vec![]), ("c", &[], vec![])],
    );
    let trusted = refreshed(&files);
    assert_eq!(["x", "y"].map(|path| found(&trusted, path)), [None, Some("b")]);
    assert_eq!(asked_for(&files, "x"), ["1.targets", "1.a", "1.c"]);
    // Deep down, it ends what was left to be asked further up too.
    let files = graph(
        &[],
        vec![to("a", &["*"], false), to("b", &["*"], false)],
        vec![("a", &[], vec![to("c", &["*"], true)]), ("b", &["x"], vec![]), ("c", &[], vec![])],
    );
    assert_eq!(found(&refreshed(&files), "x"), None);
}

#[test]
fn a_role_speaks_only_for_paths_that_every_delegation_down_to_it_covers() {
    let files = graph(
        &[],
        vec![to("a", &["modules/*"], false)],
        vec![
            ("a", &["deployments/x"], vec![to("c", &["*", "*/*"], false)]),
            ("c", &["deployments/y", "modules/z"], vec![]),
        ],
    );
    let trusted = refreshed(&files);
    let speaks = ["deployments/x", "deployments/y", "modules/z"].map(|path| found(&trusted, path));
    assert_eq!(speaks, [None, None, Some("c")]);
    let all: Vec<_> = trusted.targets_under("").unwrap().into_iter().map(|target| target.path).collect();
    assert_eq!(all, ["modules/z"]);
}

#[test]
fn cycles_end() {
    let files = graph(
        &[],
        vec![to("a", &["*"], false)],
        vec![
            ("a", &[], vec![to("b", &["*"], false), to("a", &["*"], false)]),
            ("b", &[], vec![to("a", &["*"], false)]),
        ],
    );
    assert_eq!(found(&refreshed(&files), "x"), None);
}

#[test]
fn too_many_visits_are_refused() {
    let chain = |length: usize| {
        let name = |at: usize| format!("r{at}");
        let next = |at: usize| if at < length { vec![to(&name(at + 1), &["*"], false)] } else { vec![] };
        let names: Vec<String> = (1..=length).map(name).collect();
        let roles = names.iter().enumerate().map(|(at, name)| (name.as_str(), &[][..], next(at + 1))).collect();
        graph(&[], next(0), roles)
    };
    assert_eq!(found(&refreshed(&chain(MAX_VISITS)), "x"), None);
    let too_long = chain(MAX_VISITS + 1);
    assert_eq!(refusal(fresh(), &too_long), TrustError::TooManyVisits { limit: MAX_VISITS });
    let mut refresh = Refresh::start_for(fresh(), "x", NOW);
    assert_eq!(drive(&mut refresh, &too_long), Err(TrustError::TooManyVisits { limit: MAX_VISITS }));
}

#[test]
fn a_role_that_the_snapshot_does_not_list_is_refused() {
    let files = graph(&[], vec![to("a", &["*"], false)], vec![]);
    assert_eq!(refusal(fresh(), &files), TrustError::NotListed { role: "a".into() });
}

#[test]
fn a_role_that_nobody_delegates_to_is_refused() {
    let files = graph(&[], vec![to("a", &["*"], false)], vec![("a", &[], vec![]), ("stray", &["x"], vec![])]);
    let mut trusted = fresh();
    trusted.update_timestamp(&files["timestamp"], NOW).unwrap();
    trusted.update_snapshot(&files["1.snapshot"], NOW).unwrap();
    trusted.update_targets(&files["1.targets"], NOW).unwrap();
    let stray = trusted.update_delegated("stray", "targets", &files["1.stray"], NOW);
    assert_eq!(stray, Err(TrustError::NotDelegated { role: "stray".into(), delegator: "targets".into() }));
    assert_eq!(found(&refreshed(&files), "x"), None);
}

#[test]
fn a_delegation_that_changes_keys_revokes_what_the_old_key_signed() {
    let trusted = refreshed(&repository(1));
    let mut files = repository(1);
    let moved = vec![
        delegate("releases", &[9], &["modules/*"], false),
        delegate("deployments", &[6], &["deployments/*"], true),
    ];
    files.insert("2.targets".into(), targets(2, LATER, &[], moved, &[4]));
    let roles = [("targets", unlisted(2)), ("releases", unlisted(1)), ("deployments", unlisted(1))];
    files.insert("2.snapshot".into(), snapshot(2, LATER, &roles, &[3]));
    files.insert("timestamp".into(), timestamp(2, LATER, unlisted(2), &[2]));
    assert_eq!(refusal(trusted, &files), TrustError::Threshold { role: "releases".into(), valid: 0, threshold: 1 });
}

#[test]
fn hash_prefixes_choose_a_bin() {
    let path_in = |digit: char| {
        let paths = (0..).map(|at| format!("models/{at}"));
        paths
            .into_iter()
            .find(|path| crate::digest::Digest::of(path.as_bytes()).to_string().starts_with(digit))
            .unwrap()
    };
    let (low, high) = (path_in('0'), path_in('f'));
    let both: &[&str] = &[&low, &high];
    let mut files = graph(&[], vec![to("a", &[], true)], vec![("a", both, vec![])]);
    let top = resigned(&files["1.targets"], &[4], |signed| {
        let role = signed["delegations"]["roles"][0].as_object_mut().unwrap();
        role.remove("paths");
        role.insert("path_hash_prefixes".into(), serde_json::json!(["0", "1"]));
    });
    files.insert("1.targets".into(), top);
    relist(&mut files, 1, LATER);
    let trusted = refreshed(&files);
    assert_eq!([low, high].map(|path| found(&trusted, &path)), [Some("a"), None]);
}

#[test]
fn malformed_delegations_are_refused() {
    use serde_json::{Value, json};
    let broken: [fn(&mut Value); 6] = [
        |delegations| delegations["roles"][0]["name"] = json!("snapshot"),
        |delegations| delegations["roles"][0]["name"] = json!(""),
        |delegations| delegations["roles"][0]["path_hash_prefixes"] = json!([]),
        |delegations| drop(delegations["roles"][0].as_object_mut().unwrap().remove("paths")),
        |delegations| delegations["roles"][1]["name"] = json!("releases"),
        |delegations| drop(delegations.as_object_mut().unwrap().remove("roles")),
    ];
    for (at, edit) in broken.into_iter().enumerate() {
        let mut files = repository(1);
        let top = resigned(&files["1.targets"], &[4], |signed| edit(&mut signed["delegations"]));
        files.insert("1.targets".into(), top);
        relist(&mut files, 1, LATER);
        let refused = refusal(fresh(), &files);
        assert!(matches!(refused, TrustError::Malformed { .. }), "{at}: {refused}");
    }
}

#[test]
fn a_lookup_among_roles_that_were_not_loaded_has_no_answer() {
    let files = repository(1);
    let mut refresh = Refresh::start_for(fresh(), "modules/a", NOW);
    assert_eq!(drive(&mut refresh, &files).unwrap().split_off(3), ["1.targets", "1.releases"]);
    let trusted = refresh.finish();
    assert_eq!(found(&trusted, "modules/a"), Some("releases"));
    assert_eq!(trusted.target("deployments/line"), Err(TrustError::NotLoaded { role: "deployments".into() }));
    assert_eq!(fresh().target("x"), Err(TrustError::NotLoaded { role: "targets".into() }));
}

#[test]
fn a_top_level_refresh_loads_no_delegated_role_and_seeks_them_when_asked() {
    let files = graph(
        &["top"],
        vec![to("a", &["*"], false), to("gone", &["gone/*"], false), to("b", &["*"], false)],
        vec![("a", &["x"], vec![]), ("b", &["y"], vec![])],
    );
    let mut refresh = Refresh::start_top_level(fresh(), NOW);
    assert_eq!(drive(&mut refresh, &files).unwrap(), ["2.root", "timestamp", "1.snapshot", "1.targets"]);
    assert_eq!(found(refresh.trusted(), "top"), Some("targets"));
    assert_eq!(refresh.trusted().target("x"), Err(TrustError::NotLoaded { role: "a".into() }));
    for (path, asked, role) in
        [("x", &["1.a"][..], Some("a")), ("y", &["1.b"], Some("b")), ("top", &[], Some("targets"))]
    {
        refresh.seek(path).unwrap();
        assert_eq!(drive(&mut refresh, &files).unwrap(), asked, "{path}");
        assert_eq!(found(refresh.trusted(), path), role);
    }
    // A delegation that the snapshot does not list is not even asked for, and another search still succeeds.
    assert_eq!(refresh.seek("gone/z"), Err(TrustError::NotListed { role: "gone".into() }));
    refresh.seek("y").unwrap();
    drive(&mut refresh, &files).unwrap();
    assert_eq!(found(refresh.trusted(), "y"), Some("b"));
}

#[test]
fn a_search_goes_on_to_another_target_when_a_role_does_not_come() {
    let mut files = graph(
        &[],
        vec![to("a", &["x"], false), to("b", &["y"], false)],
        vec![("a", &["x"], vec![]), ("b", &["y"], vec![])],
    );
    files.remove("1.a");
    let mut refresh = Refresh::start_for(fresh(), "x", NOW);
    assert_eq!(drive(&mut refresh, &files), Err(TrustError::Unavailable { role: "a".into(), version: Some(1) }));
    refresh.seek("y").unwrap();
    assert_eq!(drive(&mut refresh, &files).unwrap(), ["1.b"]);
    assert_eq!(found(refresh.trusted(), "y"), Some("b"));
}

#[test]
fn a_role_is_verified_under_each_delegator_that_a_search_comes_by() {
    let files = graph(
        &[],
        vec![to("a", &["a/*"], false), to("b", &["b/*"], false)],
        vec![
            ("a", &[], vec![delegate("shared", &[5], &["a/*"], false)]),
            ("b", &[], vec![delegate("shared", &[7], &["b/*"], false)]),
            ("shared", &["a/good", "b/evil"], vec![]),
        ],
    );
    let mut refresh = Refresh::start_for(fresh(), "a/good", NOW);
    drive(&mut refresh, &files).unwrap();
    assert_eq!(found(refresh.trusted(), "a/good"), Some("shared"));
    refresh.seek("b/evil").unwrap();
    let refused = TrustError::Threshold { role: "shared".into(), valid: 0, threshold: 1 };
    assert_eq!(drive(&mut refresh, &files), Err(refused));
}
