//! Probation lasts until its frames and its seconds are both complete: a fault before that rolls back, whichever was complete already.

#![allow(clippy::unwrap_used, clippy::panic)]

use sanderling_protocol::reported::{DeploymentState, EventKind};
use sanderling_tests::{PATIENCE, Site, deployment, guests::traps_at, line_module, unix_nanos};
use serde_json::json;

/// Frames a second.
const RATE: u32 = 50;

#[test]
fn a_fault_before_frames_and_seconds_are_both_complete_rolls_back() {
    let site = Site::new();
    let (device, _agent, _) = site.ticking("gw-1", f64::from(RATE));
    // The second is long over when the 150th frame traps; and so are the frames when the 100th does.
    let cases = [
        ("before its frames are complete", b'f', 3 * RATE, json!({ "frames": 4 * RATE, "seconds": 1 })),
        ("before its seconds are over", b's', 2 * RATE, json!({ "frames": 1, "seconds": 4 })),
    ];
    for (name, tag, frame, probation) in cases {
        let path = format!("modules/ticks/{}.wasm", char::from(tag));
        site.fleet.add_module(&traps_at(frame, tag), &path);
        let module = line_module(&path).set("/probation", probation);
        let digest = site.fleet.roll_out(&deployment("line", [module]), &site.broker);
        let report = site.observer.wait_state(&device.id, digest, DeploymentState::RolledBack);
        let why = report.deployment.unwrap().why.unwrap();
        assert!(why.contains("module ticks") && why.contains("trap") && why.contains("unreachable"), "{name}: {why}");
        site.observer.wait_ticks(&device.id, "ticks", b'a', 5);
        site.observer.wait_for("events", PATIENCE, |seen| {
            let committed =
                |kind: &EventKind| matches!(kind, EventKind::Committed { digest: told, .. } if *told == digest);
            let rolled_back =
                |kind: &EventKind| matches!(kind, EventKind::RolledBack { digest: told, .. } if *told == digest);
            let events = seen.events(&device.id);
            assert!(!events.iter().any(|event| committed(&event.what)), "{name}: it was committed");
            events.iter().any(|event| rolled_back(&event.what)).then_some(())
        });
    }
}

#[test]
fn it_is_committed_when_frames_and_seconds_are_both_complete_and_not_before() {
    let site = Site::new();
    let (device, _agent, _) = site.ticking("gw-1", f64::from(RATE));
    let cases = [(b'f', json!({ "frames": 3 * RATE, "seconds": 1 })), (b's', json!({ "frames": 1, "seconds": 3 }))];
    for (tag, probation) in cases {
        let path = format!("modules/ticks/{}.wasm", char::from(tag));
        site.fleet.add_module(&sanderling_tests::guests::ticks(tag), &path);
        let module = line_module(&path).set("/probation", probation);
        let digest = site.fleet.roll_out(&deployment("line", [module]), &site.broker);
        site.observer.wait_active(&device.id, digest);
        let seen_at = unix_nanos();
        let first = site.observer.wait_for("its first frame", PATIENCE, |seen| {
            seen.ticks(&device.id, "ticks").into_iter().find(|tick| tick.tag == tag)
        });
        // A frame in 20 ms: three seconds' worth of frames, or three seconds.
        let lasted = seen_at - first.captured;
        assert!(lasted >= 2_900_000_000, "{}: committed after {} ms", char::from(tag), lasted / 1_000_000);
    }
}
