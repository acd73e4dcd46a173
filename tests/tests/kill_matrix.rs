//! kill -9 at every system call of an update that writes, syncs, renames or sends: the old version or the new one runs
//! afterwards, never neither, and the update ends without pulling again what was there.
//!
//! The short form kills at one call of each kind and at others spread over the update; the long form at as many as
//! `SANDERLING_PROOF_CASES` says: as many as there are, and more, and each of them is gone through.

#![cfg(all(target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")))]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use sanderling_tests::{
    Ground, PATIENCE, Tick,
    lanes::{go_through, spread},
    proof,
    tracer::{At, Plan, Point, Traced},
    unix_nanos, until,
};

/// Cases of the short form.
const SHORT: u64 = 24;
/// An update has at least so many points.
const LEAST_POINTS: usize = 200;
/// Records of the new version at the end.
const AFTER: usize = 3;

/// Where to kill.
#[derive(Clone, Debug)]
struct Case {
    at: At,
    after: bool,
}

#[test]
fn a_kill_at_any_call_of_an_update_leaves_a_version_running_and_ends_in_the_new_one() {
    let ground = Ground::new();
    let points = points(&ground);
    assert!(points.len() >= LEAST_POINTS, "an update has {} points only: the proof wants a larger one", points.len());
    let cases = choose(&points, usize::try_from(proof::cases(SHORT)).unwrap());
    let (cuts, failed) = go_through(&ground, &cases, cut);
    let (mut struck, mut ran) = (BTreeMap::<String, usize>::new(), BTreeMap::<char, usize>::new());
    for cut in &cuts {
        if let Some(point) = &cut.struck {
            *struck.entry(point.kind()).or_default() += 1;
            *ran.entry(cut.ran).or_default() += 1;
        }
    }
    struck.iter().for_each(|(kind, times)| println!("killed {times} times at {kind}"));
    let late = cuts.iter().filter(|cut| cut.struck.is_none()).count();
    println!("{late} cases ended before their call came; what ran first after a kill: {ran:?}");
    let note = format!("{} points found, {} kinds of them struck", points.len(), struck.len());
    proof::found("kill-matrix", cases.len() as u64, failed.len() as u64, &note);
    assert_eq!(failed, Vec::<String>::new());
    assert!(late * 4 <= cases.len(), "{late} cases were not cut");
}

/// The calls of an update that nothing cuts, until what it replaced is removed.
fn points(ground: &Ground) -> Vec<Point> {
    let (agent, mark, started) = Traced::on(ground);
    agent.arm(Plan::Count);
    ground.publish(&ground.b);
    ground.wait_runs(&ground.b, mark, started, AFTER);
    ground.wait_collected();
    let points = agent.points();
    agent.kill();
    let kinds: BTreeSet<String> = points.iter().map(Point::kind).collect();
    assert!(kinds.iter().any(|kind| kind.starts_with("unlink")), "what B replaces is removed: {kinds:?}");
    points
}

fn choose(points: &[Point], count: usize) -> Vec<Case> {
    let all = points.len();
    if count >= all {
        let before = (1..=all).map(|number| Case { at: At::Any(number), after: false });
        let after = spread(all, count - all).map(|number| Case { at: At::Any(number), after: true });
        return before.chain(after).collect();
    }
    let kinds: BTreeSet<String> = points.iter().map(Point::kind).collect();
    // The first of each kind, the kinds that are rare before those that spreading meets anyway.
    let mut kinds: Vec<String> = kinds.into_iter().collect();
    kinds.sort_by_key(|kind| points.iter().filter(|point| point.kind() == *kind).count());
    let of_kinds: Vec<At> = kinds.into_iter().take(count * 2 / 3).map(|kind| At::Kind(kind, 1)).collect();
    let others = spread(all, count - of_kinds.len()).map(At::Any);
    let all = of_kinds.into_iter().chain(others).enumerate();
    all.map(|(number, at)| Case { at, after: number % 3 == 2 }).collect()
}

struct Cut {
    struck: Option<Point>,
    /// The version that ran first afterwards.
    ran: char,
}

fn cut(ground: &Ground, case: &Case) -> Cut {
    let observer = &ground.site.observer;
    let (agent, mark, started) = Traced::on(ground);
    agent.arm(Plan::Kill { at: case.at.clone(), after: case.after });
    ground.publish(&ground.b);
    let committed = || observer.wait_for("", PATIENCE, |seen| Some(ground.is_committed(&ground.b, seen.after(mark))));
    let over = until(PATIENCE, || (agent.ended().is_some() || committed() && ground.is_collected()).then_some(()));
    assert!(over.is_some(), "neither killed nor committed");
    let struck = agent.kill().pop();
    let held = ground.held();

    let (second_mark, restarted) = (observer.mark(), unix_nanos());
    let mut agent = ground.device.start();
    let first = observer.wait_for("a record after the kill", PATIENCE, |seen| {
        ground.ticks(seen.after(second_mark)).into_iter().find(|tick| tick.captured > restarted)
    });
    assert!([b'a', b'b'].contains(&first.tag));
    ground.wait_runs(&ground.b, second_mark, restarted, AFTER);
    assert!(agent.is_running(), "the agent ended");

    let pulled = ground.pulled();
    let again: Vec<_> =
        pulled.blobs.intersection(&held.blobs).chain(pulled.chunks.intersection(&held.chunks)).collect();
    assert!(again.is_empty(), "{again:?} were held at the cut and are pulled again");
    observer.wait_for("", PATIENCE, |seen| {
        let report = seen.reported(&ground.device.id).unwrap();
        assert_eq!((report.refused, report.outbox.dropped), (Vec::new(), 0));
        let ticks = ground.ticks(seen.after(mark));
        let (before, after): (Vec<_>, Vec<_>) =
            ticks.into_iter().filter(|tick| tick.captured > started).partition(|tick| tick.captured < restarted);
        assert_contiguous("before", &before);
        assert_contiguous("after", &after);
        Some(())
    });
    agent.kill();
    Cut { struck, ran: char::from(first.tag) }
}

/// From the first frame to the last that came, none is missing: what was not sent at the cut was on disk.
#[track_caller]
fn assert_contiguous(when: &str, ticks: &[Tick]) {
    let seqs: BTreeSet<u64> = ticks.iter().map(|tick| tick.seq).collect();
    let last = seqs.last().copied().unwrap_or(0);
    let missing: Vec<u64> = (1..=last).filter(|seq| !seqs.contains(seq)).collect();
    assert!(missing.is_empty(), "of the frames {when} the cut, 1 to {last}, these are missing: {missing:?}");
}
