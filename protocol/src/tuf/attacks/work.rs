//! Metadata that is signed as it must be, and made to keep a client busy.

use super::super::*;
use super::repository::*;

/// A repository whose deployments role, the thief's, delegates to a role of its own.
fn thieves(pattern: &str, paths: &[&str]) -> Files {
    let mut files = repository(1);
    let further = vec![delegate("further", &[6], &[pattern], false)];
    files.insert("1.deployments".into(), targets(1, LATER, &["deployments/line"], further, &[6]));
    files.insert("1.further".into(), targets(1, LATER, paths, Vec::new(), &[6]));
    relist(&mut files, 1, LATER);
    files
}

#[test]
fn patterns_and_paths_that_never_end_are_refused() {
    let pattern = format!("deployments/*{}b", "a".repeat(50_000));
    let path = format!("deployments/{}", "a".repeat(60_000));
    let trusted = refreshed(&thieves(&pattern, &[&path]));
    let refused = TrustError::TooMuchWork { limit: 1 << 24 };
    assert_eq!(trusted.targets_under("deployments/").unwrap_err(), refused);
    assert_eq!(trusted.target(&path).unwrap_err(), refused);
    assert!(trusted.target("deployments/line").unwrap().is_some(), "what is honest is found");
    assert!(trusted.target("modules/a").unwrap().is_some());
}

#[test]
fn many_patterns_and_many_paths_are_refused_too() {
    let patterns: Vec<String> = (0..4000).map(|at| format!("deployments/*{at}b")).collect();
    let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
    let paths: Vec<String> = (0..800).map(|at| format!("deployments/{at}-{}", "7".repeat(12))).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let mut files = thieves("deployments/*", &paths);
    let further = vec![delegate("further", &[6], &patterns, false)];
    files.insert("1.deployments".into(), targets(1, LATER, &["deployments/line"], further, &[6]));
    relist(&mut files, 1, LATER);
    let trusted = refreshed(&files);
    let refused = TrustError::TooMuchWork { limit: 1 << 24 };
    assert_eq!(trusted.targets_under("deployments/").unwrap_err(), refused);
    assert!(trusted.target("deployments/line").unwrap().is_some());
}

#[test]
fn the_largest_honest_fleet_takes_a_fraction_of_the_work() {
    let paths: Vec<String> = (0..900).map(|at| format!("deployments/site-{at}.json")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let trusted = refreshed(&thieves("deployments/site-*.json", &paths));
    assert_eq!(trusted.targets_under("").unwrap().len(), 902);
}
