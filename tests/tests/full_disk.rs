//! A disk that is full, read-only or broken, at each call of an update and of the outbox that writes: it is told, the agent and
//! its modules go on, nothing is lost, and the update ends when the disk works again.
//!
//! Every call is made to fail once, or from there on until the disk is mended; the error is ENOSPC, EROFS and EIO in turn.

#![cfg(all(target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")))]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sanderling_tests::{
    Ground, PATIENCE, Seen,
    lanes::{go_through, spread},
    proof,
    tracer::{At, Ended, Errno, Plan, Point, Traced},
    unix_nanos, until,
};

/// Cases of the short form, of an update and of a start.
const SHORT: u64 = 18;
const SHORT_STARTS: usize = 6;
/// Records that show that a version runs.
const TICKS: usize = 3;
const ERRORS: [Errno; 3] = [Errno::ENOSPC, Errno::EROFS, Errno::EIO];

#[derive(Clone, Debug)]
struct Case {
    at: At,
    errno: Errno,
    held: bool,
}

/// What a case showed.
struct Found {
    struck: Option<Point>,
    /// Whether the reported state or an event told of it, beside the log.
    reported: bool,
    dropped: u64,
}

#[test]
fn a_disk_that_fails_at_any_call_of_an_update_is_told_and_holds_it_up_only_while_it_fails() {
    let ground = Ground::new();
    let (agent, mark, started) = Traced::on(&ground);
    agent.arm(Plan::Count);
    ground.publish(&ground.b);
    ground.wait_runs(&ground.b, mark, started, TICKS);
    ground.wait_collected();
    let points: Vec<Point> = agent.points().into_iter().filter(Point::is_disk).collect();
    agent.kill();
    let cases = choose(&points, usize::try_from(proof::cases(SHORT)).unwrap());
    let (found, failed) = go_through(&ground, &cases, update);
    summarise("disk-faults-agent", &points, cases.len(), &found, &failed);
}

#[test]
fn a_disk_that_fails_while_the_agent_starts_is_told_and_the_start_after_it_is_whole() {
    let ground = Ground::new();
    ground.reset();
    let (mark, started) = (ground.site.observer.mark(), unix_nanos());
    let agent = Traced::start(&ground.device, ground.state(), Some(Plan::Count));
    ground.wait_runs(&ground.a, mark, started, TICKS);
    let points: Vec<Point> = agent.points().into_iter().filter(Point::is_disk).collect();
    agent.kill();
    let count = usize::try_from(proof::cases(0)).unwrap().min(points.len() * 2).max(SHORT_STARTS);
    let cases = choose(&points, count);
    let (found, failed) = go_through(&ground, &cases, start);
    summarise("disk-faults-start", &points, cases.len(), &found, &failed);
}

fn summarise(name: &str, points: &[Point], cases: usize, found: &[Found], failed: &[String]) {
    let mut struck = BTreeMap::<String, [usize; 2]>::new();
    for one in found {
        if let Some(point) = &one.struck {
            let [all, reported] = struck.entry(point.kind()).or_default();
            *all += 1;
            *reported += usize::from(one.reported);
        }
    }
    for (kind, [all, reported]) in &struck {
        println!("failed {all} times at {kind}, {reported} times in the reported state or an event too");
    }
    let late = found.iter().filter(|one| one.struck.is_none()).count();
    let dropped: u64 = found.iter().map(|one| one.dropped).sum();
    let note = format!(
        "{} points found, {} kinds of them struck, {late} not reached, {dropped} records dropped and counted",
        points.len(),
        struck.len()
    );
    proof::found(name, cases as u64, failed.len() as u64, &note);
    assert_eq!(failed, Vec::<String>::new());
    assert!(late * 2 <= cases, "{late} cases saw no error");
}

fn choose(points: &[Point], count: usize) -> Vec<Case> {
    let all = points.len();
    let kinds: BTreeSet<String> = points.iter().map(Point::kind).collect();
    let mut kinds: Vec<String> = kinds.into_iter().collect();
    kinds.sort_by_key(|kind| points.iter().filter(|point| point.kind() == *kind).count());
    let of_kinds: Vec<At> = kinds.into_iter().take(count * 2 / 3).map(|kind| At::Kind(kind, 1)).collect();
    // More cases than points: each point comes again, with another error and the other way.
    let rest = count - of_kinds.len();
    let others: Vec<At> = if rest <= all {
        spread(all, rest).map(At::Disk).collect()
    } else {
        (0..rest).map(|n| At::Disk(1 + n % all)).collect()
    };
    let rounds = of_kinds.into_iter().chain(others).enumerate();
    rounds
        .map(|(n, at)| Case { at, errno: ERRORS[(n + n / all) % 3], held: (n / 3 + n / all).is_multiple_of(2) })
        .collect()
}

impl Case {
    fn plan(&self) -> Plan {
        Plan::Fail { at: self.at.clone(), errno: self.errno, held: self.held }
    }

    /// How the system words the error.
    fn words(&self) -> String {
        format!("(os error {})", self.errno as i32)
    }
}

fn update(ground: &Ground, case: &Case) -> Found {
    let observer = &ground.site.observer;
    let (agent, mark, started) = Traced::on(ground);
    agent.arm(case.plan());
    ground.publish(&ground.b);
    let committed = |seen: Seen<'_>| Some(ground.is_committed(&ground.b, seen.after(mark)));
    let over = until(PATIENCE, || {
        assert_eq!(agent.ended(), None, "the agent ended");
        let over = observer.wait_for("", Duration::ZERO, committed);
        (over || case.held && !agent.struck().is_empty()).then_some(())
    });
    assert!(over.is_some(), "neither struck nor committed");
    let struck = agent.struck().first().cloned();
    if struck.is_some() {
        wait_told(&agent, case);
        if case.held {
            // What runs goes on, and so do its records, as long as the disk fails.
            let since = unix_nanos();
            observer.wait_for("records while the disk fails", PATIENCE, |seen| {
                let ticks = ground.ticks(seen.after(mark)).into_iter();
                (ticks.filter(|tick| tick.captured > since).count() >= TICKS).then_some(())
            });
            agent.release();
        }
    }
    ground.wait_runs(&ground.b, mark, started, TICKS);
    let mended = unix_nanos();
    ground.wait_runs(&ground.b, mark, mended, TICKS);
    assert_eq!(agent.ended(), None, "the agent ended");
    let found = finish(ground, case, mark, started, struck);
    agent.kill();
    found
}

fn start(ground: &Ground, case: &Case) -> Found {
    ground.reset();
    let (mark, mut started) = (ground.site.observer.mark(), unix_nanos());
    let agent = Traced::start(&ground.device, ground.state(), Some(case.plan()));
    let runs = |seen: Seen<'_>| Some(ground.is_committed(&ground.a, seen.after(mark)));
    let over = until(PATIENCE, || {
        let over = ground.site.observer.wait_for("", Duration::ZERO, runs);
        (over || agent.ended().is_some() || case.held && !agent.struck().is_empty()).then_some(())
    });
    assert!(over.is_some(), "neither struck nor running");
    let struck = agent.struck().first().cloned();
    if struck.is_some() {
        wait_told(&agent, case);
    }
    // It runs A all the same; where it cannot, it says so and ends, and systemd starts it again until the disk works.
    let mut again = None;
    if case.held {
        let over = until(PATIENCE, || {
            let over = ground.site.observer.wait_for("", Duration::ZERO, runs);
            (over || agent.ended().is_some()).then_some(())
        });
        assert!(over.is_some(), "neither ended nor running while the disk fails");
        agent.release();
    }
    let ended = until(Duration::from_secs(1), || agent.ended());
    if let Some(ended) = ended {
        assert_eq!(ended, Ended::Status(1), "an end that systemd answers with a start");
        started = unix_nanos();
        again = Some(ground.device.start());
    }
    ground.wait_runs(&ground.a, mark, started, TICKS);
    ground.publish(&ground.b);
    ground.wait_runs(&ground.b, mark, started, TICKS);
    let found = finish(ground, case, mark, started, struck);
    drop(again);
    agent.kill();
    found
}

/// The log tells the error.
fn wait_told(agent: &Traced, case: &Case) {
    let words = case.words();
    let told = until(PATIENCE, || agent.log().contains(&words).then_some(()));
    assert!(told.is_some(), "the log does not tell {words}");
}

/// What was told and what was lost, at the end.
fn finish(ground: &Ground, case: &Case, mark: usize, started: i64, struck: Option<Point>) -> Found {
    let device = &ground.device.id;
    let words = case.words();
    ground.site.observer.wait_for("", Duration::ZERO, |seen| {
        let seen = seen.after(mark);
        let told = |message: &&sanderling_tests::Message| String::from_utf8_lossy(&message.payload).contains(&words);
        let reported = seen.of(device, "reported").chain(seen.of(device, "event")).any(|message| told(&message));
        let dropped = seen.reported(device).unwrap().outbox.dropped;
        let ticks = ground.ticks(seen).into_iter().filter(|tick| tick.captured > started);
        let seqs: BTreeSet<u64> = ticks.map(|tick| tick.seq).collect();
        let last = seqs.last().copied().unwrap_or(0);
        let missing: Vec<u64> = (1..=last).filter(|seq| !seqs.contains(seq)).collect();
        assert!(missing.len() as u64 <= dropped, "of the frames 1 to {last} these are missing: {missing:?}");
        Some(Found { struck: struck.clone(), reported, dropped })
    })
}
