//! From one version to the next under load: each frame is handled by the old one or the new one, once, or was dropped by its policy
//! and counted. And a version that does not load leaves what runs alone.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use sanderling_protocol::{
    digest::Digest,
    reported::{DeploymentState, EventKind, Handover, Reported},
    worker::FaultCode,
};
use sanderling_tests::{
    Account, Device, Handled, Module, PATIENCE, Process, Site, defects, deployment, guest,
    guests::{self, TICKS, counts},
    proof, until,
};
use serde_json::{Value, json};

/// So many frames a second.
const RATE: f64 = 200.0;
/// A guest that counts this far takes longer for a frame than frames take to come.
const SLOW: u32 = 4_000_000;

/// A module on the sensor `clock` with this policy.
fn on_clock(name: &str, path: &str, policy: Value) -> Module {
    let input = json!([{ "sensor": "clock", "policy": policy, "decode": "none" }]);
    // Longer than any machine stands still: what ends a guest late is another test's matter.
    Module::new(name, path).emits(TICKS).set("/input", input).set("/limits/deadline_ms", json!(30_000))
}

fn add(site: &Site, name: &str, wasm: &[u8]) -> String {
    let path = format!("modules/handover/{name}.wasm");
    site.fleet.add_module(wasm, &path);
    path
}

/// Rolls out a deployment of one module `ticks` that keeps up and misses nothing.
fn roll_out(site: &Site, tag: u8) -> Digest {
    let path = add(site, &format!("fast-{}", char::from(tag)), &counts(tag, 0));
    site.fleet.roll_out(&deployment("line", [on_clock("ticks", &path, json!({ "queue": 1024 }))]), &site.broker)
}

fn started(site: &Site, more: &str) -> (Device, Process) {
    let device = site.device("gw-1");
    device.lay_clock("clock", RATE);
    device.lay("workloads", more);
    let agent = device.start();
    (device, agent)
}

/// Waits until a module has handled so many more frames in the version `tag`; gives all that it ever handled.
fn more(site: &Site, device: &Device, module: &str, tag: u8, count: usize) -> Vec<Handled> {
    let mark = site.observer.mark();
    site.observer.wait_for(&format!("{count} more frames of {module}, {}", char::from(tag)), PATIENCE, |seen| {
        let fresh = seen.after(mark).handled(&device.id, module);
        let enough = fresh.iter().filter(|frame| frame.tag == tag).count() >= count;
        enough.then(|| seen.handled(&device.id, module))
    })
}

/// What was told of switches, by deployment.
fn switches(site: &Site, device: &Device, digest: Digest) -> Vec<Handover> {
    site.observer.wait_for("an event of the switch", PATIENCE, |seen| {
        let told = seen.events(&device.id).into_iter().filter_map(|event| match event.what {
            EventKind::Switched { digest: switched, handover, .. } if switched == digest => Some(handover),
            _ => None,
        });
        Some(told.collect::<Vec<_>>()).filter(|told| !told.is_empty())
    })
}

fn handover(report: &Reported) -> Option<Handover> {
    report.deployment.as_ref().and_then(|deployment| deployment.handover.clone())
}

fn wait_workers(agent: &Process, count: usize) {
    let left = until(PATIENCE, || (agent.children().len() == count).then_some(()));
    assert!(left.is_some(), "there are not {count} workers, but {:?}", agent.children());
}

#[test]
fn an_update_under_load_neither_loses_nor_doubles_a_frame() {
    let site = Site::new();
    let (device, agent) = started(&site, "");
    let policies = [
        ("fast", json!({ "queue": 1024 }), 0),
        ("slow", json!({ "queue": 64 }), SLOW),
        ("latest", json!("latest"), SLOW),
    ];
    let rounds = proof::cases(3);
    let tags: Vec<u8> = (0..=rounds).map(|round| b'a' + u8::try_from(round % 26).unwrap()).collect();
    for (round, tag) in tags.iter().copied().enumerate() {
        let modules = policies.iter().map(|(name, policy, spins)| {
            let path = add(&site, &format!("{name}-{round}"), &counts(tag, *spins));
            on_clock(name, &path, policy.clone())
        });
        let digest = site.fleet.roll_out(&deployment("line", modules), &site.broker);
        let report = site.observer.wait_active(&device.id, digest);
        if round > 0 {
            assert_eq!(handover(&report), Some(Handover::MakeBeforeBreak));
            assert_eq!(switches(&site, &device, digest), [Handover::MakeBeforeBreak]);
        }
        assert!(report.modules.iter().all(|module| module.restarts == 0), "{:?}", report.modules);
        // So that what the slow one has at hand and in wait at the next switch is all it may have.
        for (name, ..) in &policies {
            more(&site, &device, name, tag, 40);
        }
    }
    wait_workers(&agent, policies.len());
    let mut notes = Vec::new();
    for (name, _, spins) in &policies {
        let handled = more(&site, &device, name, tags[tags.len() - 1], 10);
        let account = Account::of(&handled).unwrap_or_else(|error| panic!("{name}: {error}"));
        let versions: BTreeSet<u8> = handled.iter().map(|frame| frame.tag).collect();
        assert_eq!(versions, tags.iter().copied().collect(), "{name}: every version handled frames");
        assert_eq!(account.dropped > 0, *spins > 0, "{name}: {account:?}");
        notes.push(format!("{name}: {} handled, {} dropped by policy", account.handled, account.dropped));
    }
    proof::found("hand-over", rounds, 0, &notes.join("; "));
}

/// The most workers that there are at a time while something is done.
fn most_workers<T>(agent: &Process, act: impl FnOnce() -> T) -> (T, usize) {
    let (done, most) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(agent.children().len(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let result = act();
        done.store(true, Ordering::Relaxed);
        (result, most.load(Ordering::Relaxed))
    })
}

#[test]
fn where_memory_is_short_the_old_one_stops_first_and_its_frames_wait() {
    let site = Site::new();
    // One worker may use 86 MiB by the limits that hold by default.
    let (device, agent) = started(&site, "[workloads]\nmemory_mib = 150\n");
    let first = roll_out(&site, b'a');
    assert_eq!(handover(&site.observer.wait_active(&device.id, first)), None, "nothing ran before");
    more(&site, &device, "ticks", b'a', 20);

    let ((second, report), most) = most_workers(&agent, || {
        let digest = roll_out(&site, b'b');
        (digest, site.observer.wait_active(&device.id, digest))
    });
    assert_eq!(most, 1, "never two workers at a time");
    let Some(Handover::BreakBeforeMake { why }) = handover(&report) else { panic!("{:?}", report.deployment) };
    assert!(why.contains("`[workloads] memory_mib` allows 150 MiB") && why.contains("may use 86 MiB"), "{why}");
    assert_eq!(switches(&site, &device, second), [Handover::BreakBeforeMake { why }]);
    more(&site, &device, "ticks", b'b', 20);

    // What does not load is noticed when it is started, and the old one comes back.
    let bad = add(&site, "import", &guests::imports_something_unknown());
    let bad = deployment("line", [on_clock("ticks", &bad, json!({ "queue": 1024 }))]);
    let bad = site.fleet.roll_out(&bad, &site.broker);
    let report = site.observer.wait_state(&device.id, bad, DeploymentState::RolledBack);
    let why = report.deployment.unwrap().why.unwrap();
    assert!(why.contains("module ticks") && why.contains("init") && why.contains("sanderling_v1.launch"), "{why}");
    let handled = more(&site, &device, "ticks", b'b', 100);
    let account = Account::of(&handled).unwrap();
    assert_eq!(account.dropped, 0, "frames wait while there is no worker");
}

#[test]
fn where_memory_is_short_for_both_each_module_is_still_loaded_before_anything_stops() {
    let site = Site::new();
    // Two that run and one more fit, two and two do not.
    let (device, agent) = started(&site, "[workloads]\nmemory_mib = 300\n");
    let pair = |left: &str, right: &str| {
        let policy = json!({ "queue": 1024 });
        deployment("line", [on_clock("left", left, policy.clone()), on_clock("right", right, policy)])
    };
    let good = |tag: u8| add(&site, &format!("good-{}", char::from(tag)), &counts(tag, 0));
    let (a, b) = (good(b'a'), good(b'b'));
    let first = site.fleet.roll_out(&pair(&a, &a), &site.broker);
    let running = site.observer.wait_active(&device.id, first);

    let bad = add(&site, "import", &guests::imports_something_unknown());
    let bad = site.fleet.roll_out(&pair(&b, &bad), &site.broker);
    let report = site.observer.wait_state(&device.id, bad, DeploymentState::Refused);
    let why = report.deployment.unwrap().why.unwrap();
    assert!(why.contains("module right") && why.contains("init"), "{why}");
    let pids = |report: &Reported| report.modules.iter().map(|module| module.pid).collect::<Vec<_>>();
    assert_eq!(pids(&running), pids(&site.observer.wait_state(&device.id, bad, DeploymentState::Refused)));

    let (report, most) = most_workers(&agent, || {
        let digest = site.fleet.roll_out(&pair(&b, &b), &site.broker);
        site.observer.wait_active(&device.id, digest)
    });
    assert!(matches!(handover(&report), Some(Handover::BreakBeforeMake { .. })), "{:?}", report.deployment);
    assert!(most <= 3, "{most} workers at a time");
    for module in ["left", "right"] {
        let account = Account::of(&more(&site, &device, module, b'b', 50)).unwrap();
        assert_eq!(account.dropped, 0, "{module}");
    }
}

/// What does not load, and what is said of it.
struct Bad {
    name: &'static str,
    stage: fn(&Site) -> Value,
    words: &'static [&'static str],
}

fn of_module(site: &Site, name: &str, wasm: &[u8]) -> Value {
    let path = add(site, name, &guests::ticks(b'?'));
    let document = deployment("line", [on_clock("ticks", &path, json!({ "queue": 1024 }))]);
    site.fleet.deploy(&document);
    site.fleet.restage(&path, wasm);
    document
}

const BAD: [Bad; 4] = [
    Bad {
        name: "not wasm",
        stage: |site| of_module(site, "text", b"#!/bin/sh\nexit 0\n"),
        words: &["module ticks", "init", "not WebAssembly"],
    },
    Bad {
        name: "missing import",
        stage: |site| of_module(site, "import", &guests::imports_something_unknown()),
        words: &["module ticks", "init", "sanderling_v1.launch"],
    },
    Bad {
        name: "more memory than it may have",
        stage: |site| of_module(site, "memory", &guests::wants_memory(1024)),
        words: &["module ticks", "memory", "16 MiB"],
    },
    Bad {
        name: "a model that does not load",
        stage: |site| {
            site.fleet.add_module(&std::fs::read(guest("surface-defect")).unwrap(), "modules/surface-defect/1.wasm");
            site.fleet.add_model(b"no model", "models/bad.onnx");
            deployment("line", [defects("clock", "modules/surface-defect/1.wasm", "models/bad.onnx")])
        },
        words: &["module scratch", "init", "defect"],
    },
];

#[test]
fn what_does_not_load_leaves_what_runs_alone() {
    let site = Site::new();
    let device = site.device("gw-1");
    device.lay_clock("clock", RATE);
    device.lay("workloads", "[workloads]\nload_s = 3\n");
    let door = device.lay_door();
    let agent = device.start();
    let digest = roll_out(&site, b'a');
    let running = site.observer.wait_active(&device.id, digest).modules[0].pid.unwrap();
    let refused = |name: &str, digest: Digest, words: &[&str]| {
        let report = site.observer.wait_state(&device.id, digest, DeploymentState::Refused);
        let why = report.deployment.unwrap().why.unwrap();
        assert!(words.iter().all(|word| why.contains(word)), "{name}: {why}");
        assert_eq!((report.modules[0].pid, report.modules[0].restarts), (Some(running), 0), "{name}");
        wait_workers(&agent, 1);
        more(&site, &device, "ticks", b'a', 10);
    };
    for Bad { name, stage, words } in BAD {
        let document = (stage)(&site);
        let bad = if name == "a model that does not load" {
            site.fleet.roll_out(&document, &site.broker)
        } else {
            site.fleet.sign();
            site.fleet.publish(&site.broker);
            Digest::of(&serde_json::to_vec(&document).unwrap())
        };
        refused(name, bad, words);
    }
    // The worker is killed, as by a kernel that is out of memory; or does not get on at all, so that the supervisor's clock must act.
    type Act = fn(&Process, u32);
    let acts: [(&str, Act, FaultCode, &[&str]); 2] = [
        ("killed", Process::kill_child, FaultCode::Crash, &["module ticks", "SIGKILL"]),
        ("held", Process::hold_child, FaultCode::Init, &["module ticks", "not loaded within 3 s"]),
    ];
    for (tag, (name, act, code, words)) in (b'b'..).zip(acts) {
        door.shut();
        let bad = roll_out(&site, tag);
        let staging = until(PATIENCE, || agent.children().into_iter().find(|pid| *pid != running));
        act(&agent, staging.unwrap_or_else(|| panic!("{name}: nothing is staged")));
        refused(name, bad, &[words, &[&*code.to_string()]].concat());
        door.open();
    }
    let account = Account::of(&more(&site, &device, "ticks", b'a', 10)).unwrap();
    assert_eq!(account.dropped, 0);
    let passed = door.passed();
    let good = roll_out(&site, b'z');
    site.observer.wait_active(&device.id, good);
    assert_eq!(door.passed(), passed + 1, "what was staged is what runs");
    let account = Account::of(&more(&site, &device, "ticks", b'z', 10)).unwrap();
    assert_eq!(account.dropped, 0);
}
