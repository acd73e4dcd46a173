//! Agent and broker end at any time: what ran runs again, and what was found is not lost.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{collections::BTreeSet, path::Path, time::Duration};

use sanderling_protocol::reported::ModuleState;
use sanderling_tests::{
    PATIENCE, Process, Site, Tick,
    guests::{padded, ticks},
    line, unix_nanos, until,
};

/// A record that a killed agent had not written down yet is lost: `[outbox] commit_ms` says how many. Ten times its default.
const WRITTEN_DOWN: i64 = 1_000_000_000;

fn wait_gone(pids: &[u32]) {
    for pid in pids {
        let gone = until(PATIENCE, || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
        assert!(gone.is_some(), "worker {pid} outlives its agent");
    }
}

/// Waits until the link was tried so many more times in vain.
fn wait_outage(agent: &Process, attempts: usize) {
    let down = "the link is down";
    let before = agent.lines().iter().filter(|line| line.contains(down)).count();
    agent.wait_for_lines(PATIENCE, &[down], before + attempts);
}

/// The numbers of the frames, and how many came more than once.
fn count(ticks: &[Tick]) -> (BTreeSet<u64>, usize) {
    let seqs: BTreeSet<u64> = ticks.iter().map(|tick| tick.seq).collect();
    let repeated = ticks.len() - seqs.len();
    (seqs, repeated)
}

#[track_caller]
fn assert_contiguous(seqs: &BTreeSet<u64>) {
    let (first, last) = (*seqs.first().unwrap(), *seqs.last().unwrap());
    let missing: Vec<u64> = (first..=last).filter(|seq| !seqs.contains(seq)).collect();
    assert!(missing.is_empty(), "of {first} to {last} these are missing: {missing:?}");
}

#[test]
fn a_killed_agent_runs_the_same_again_without_a_pull_even_without_a_broker() {
    let mut site = Site::new();
    let (device, mut agent, digest) = site.ticking("gw-1", 50.0);
    site.observer.wait_ticks(&device.id, "ticks", b'a', 20);
    let workers = agent.children();
    assert_eq!(workers.len(), 1, "one worker for one module: {workers:?}");
    let pulled = |site: &Site| (site.broker.sent("gw-1", "/chunk/").len(), site.broker.sent("gw-1", "/blob/").len());
    let before = pulled(&site);
    assert!(before.0 > 0 && before.1 > 0, "{before:?}");

    agent.kill();
    wait_gone(&workers);
    let mark = site.observer.mark();
    let mut agent = device.start();
    let ran_again = |seen: sanderling_tests::Seen<'_>| {
        let ticks = seen.after(mark).ticks(&device.id, "ticks");
        ticks.into_iter().find(|tick| tick.seq == 1)
    };
    site.observer.wait_for("the first frame of the second run", PATIENCE, ran_again);
    let session = site.observer.wait_for("a report of the new session", PATIENCE, |seen| {
        seen.after(mark).reported(&device.id).filter(|report| {
            let committed = report.deployment.as_ref().is_some_and(|deployment| deployment.digest == digest);
            committed
                && report.metadata.timestamp > 0
                && report.modules.iter().all(|module| module.state == ModuleState::Running)
        })
    });
    assert_eq!(session.refused, []);
    assert_eq!(pulled(&site), before, "nothing was pulled again");

    // The same without a broker, and with records that wait on disk.
    let last = site.observer.wait_ticks(&device.id, "ticks", b'a', 20).last().copied().unwrap();
    site.broker.stop();
    wait_outage(&agent, 4);
    let killed_at = unix_nanos();
    agent.kill();
    let agent = device.start();
    agent.wait_for_line(PATIENCE, &["first frame"]);
    wait_outage(&agent, 1);
    let broker_back = unix_nanos();
    let mark = site.observer.mark();
    site.broker.start_again();
    let ticks = site.observer.wait_for("records of both runs", PATIENCE, |seen| {
        let ticks = seen.after(mark).ticks(&device.id, "ticks");
        ticks.iter().any(|tick| tick.captured > broker_back).then_some(ticks)
    });
    let earlier: Vec<Tick> = ticks.iter().copied().filter(|tick| tick.captured < killed_at).collect();
    let later: Vec<Tick> = ticks.iter().copied().filter(|tick| tick.captured >= killed_at).collect();
    let (mut seqs, repeated) = count(&earlier);
    assert!(
        later.iter().any(|tick| tick.seq == 1 && tick.captured < broker_back),
        "a module ran while the broker was away"
    );
    assert_contiguous(&count(&later).0);
    let newest = earlier.iter().map(|tick| tick.captured).max();
    assert!(
        newest.is_some_and(|newest| killed_at - newest < WRITTEN_DOWN),
        "what was written down before the kill is sent: {newest:?}"
    );
    seqs.insert(last.seq);
    println!("{} records of the killed run came after the outage, {repeated} of them again", seqs.len());
    assert_eq!(pulled(&site), before, "nothing was pulled again");
}

#[test]
fn a_broker_that_restarts_loses_no_record() {
    let mut site = Site::new();
    let (device, agent, digest) = site.ticking("gw-1", 100.0);
    let start = site.observer.wait_ticks(&device.id, "ticks", b'a', 50)[0];
    for _ in 0..2 {
        site.broker.stop();
        wait_outage(&agent, 4);
        let back = unix_nanos();
        site.broker.start_again();
        site.observer.wait_for("fresh records", PATIENCE, |seen| {
            seen.ticks(&device.id, "ticks").last().is_some_and(|tick| tick.captured > back + 500_000_000).then_some(())
        });
    }
    let ticks = site.observer.wait_for("all records", Duration::ZERO, |seen| Some(seen.ticks(&device.id, "ticks")));
    let (seqs, repeated) = count(&ticks);
    println!("{} records over two restarts of the broker, {repeated} of them came again", seqs.len());
    assert!(seqs.contains(&start.seq));
    assert_contiguous(&seqs);
    let mut firsts = BTreeSet::new();
    let in_order: Vec<u64> = ticks.iter().map(|tick| tick.seq).filter(|seq| firsts.insert(*seq)).collect();
    assert!(in_order.is_sorted(), "records come in their order, but for those that come again");
    let report = site.observer.wait_active(&device.id, digest);
    assert_eq!((report.modules[0].dropped, report.modules[0].restarts, report.outbox.dropped), (0, 0, 0));
    let drained = until(PATIENCE, || {
        let body = site.observer.request(&device.id, "report", b"").body?;
        (body["outbox"]["records"].as_u64()? < 50).then_some(())
    });
    assert!(drained.is_some(), "the outbox is not drained");
}

#[test]
fn a_pull_that_a_power_cut_ends_goes_on_where_it_was() {
    const LENGTH: u32 = 4 << 20;
    const WINDOW: u64 = 128 * 1024;
    let site = Site::new();
    let device = site.device("gw-1");
    device.lay_clock("clock", 20.0);
    device.lay("pull", &format!("[pull]\nwindow_bytes = {WINDOW}\n"));
    let mut agent = device.start();
    site.fleet.add_module(&padded(ticks(b'p'), LENGTH, 1), "modules/ticks/p.wasm");
    let digest = site.fleet.roll_out(&line("modules/ticks/p.wasm"), &site.broker);
    let sent = || site.broker.sent("gw-1", "/chunk/").iter().map(|sent| sent.bytes).sum::<u64>();
    let cut = until(PATIENCE, || (sent() > u64::from(LENGTH) / 4).then_some(()));
    assert!(cut.is_some(), "the pull does not begin");
    agent.kill();
    let before = sent();
    let _agent = device.start();
    let report = site.observer.wait_active(&device.id, digest);
    let progress = report.deployment.and_then(|deployment| deployment.progress).unwrap();
    let all = sent();
    println!("{before} bytes were sent before the cut, {} after it, of {}", all - before, progress.total);
    assert!(before < progress.total, "the pull was over before it was cut: nothing is shown");
    // What was on its way at the cut comes again: a window that was asked for, and one that was written but not yet noted.
    assert!(all < progress.total + 3 * WINDOW, "{all} bytes were sent for {}", progress.total);
    site.observer.wait_ticks(&device.id, "ticks", b'p', 3);
}
