//! SIGKILL in the states of an update: always the old version or the new one, never neither, and an end to it.

#![allow(clippy::unwrap_used, clippy::panic)]

use sanderling_tests::{PATIENCE, Seen, Site, Tick, unix_nanos};

/// What the agent logs when it comes to a state of an update.
const STATES: [&str; 5] =
    ["a deployment is staged", "a deployment is started", "module loaded", "module runs", "committed"];

#[test]
fn a_power_cut_in_any_state_of_an_update_ends_in_the_new_version() {
    let site = Site::new();
    let (device, mut agent, _) = site.ticking("gw-1", 50.0);
    let mut old = b'a';
    for (new, state) in (b'b'..).zip(STATES) {
        // A new agent, so that the line is said for this update.
        agent.kill();
        agent = device.start();
        agent.wait_for_line(PATIENCE, &["first frame"]);
        let said = agent.lines().iter().filter(|line| line.contains(state)).count();
        let digest = site.roll_out_ticks(new);
        agent.wait_for_lines(PATIENCE, &[state], said + 1);
        let cut = unix_nanos();
        agent.kill();
        agent = device.start();
        let first = |seen: Seen<'_>| {
            let ticks = seen.ticks(&device.id, "ticks");
            ticks.into_iter().find(|tick: &Tick| tick.seq == 1 && tick.captured > cut)
        };
        let first = site.observer.wait_for(&format!("a module after a cut at {state:?}"), PATIENCE, first);
        assert!([old, new].contains(&first.tag), "{state}: {}", char::from(first.tag));
        site.observer.wait_active(&device.id, digest);
        site.observer.wait_ticks(&device.id, "ticks", new, 5);
        old = new;
    }
}
