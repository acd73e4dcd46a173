//! Every state and every event: what is taken where, what comes of it, and what is an error that changes nothing.
//!
//! Each event of a column is the one that fits the state best: the answer to the question that is open, of the blob or generation that
//! is under way. `-` is an error, after which the machine is the same to the last field. Any other cell is the state after the
//! event; `=` is the same state. Effects are not carried out, so one event is one step.

use sanderling_protocol::{digest::Digest, reported::Handover, topics::Published};
use serde_json::json;

use super::{
    repository::{A, B, Repository, content, document},
    world::{Behaviour, Device, fault},
};
use crate::sync::{BlobFault, Capacity, Event, Message};

/// The events of the columns.
const EVENTS: [&str; 22] = [
    "up",
    "down",
    "timestamp",
    "snapshot",
    "index",
    "chunk",
    "tick",
    "look",
    "other",
    "surveyed",
    "begun",
    "wrote",
    "lost",
    "finished",
    "document",
    "staged",
    "unstaged",
    "damaged",
    "running",
    "faulted",
    "counted",
    "full",
];

/// The states of the rows, and what each event does there.
const TABLE: [(&str, &str); 20] = [
    ("down", "waiting - - - - - = = = - - - - - - - - - - - - -"),
    ("waiting", "- down = - - - = = = - - - - - - - - - - - - -"),
    ("rooted", "- committed following - - - = = = - - - - - - - - damaged = = - -"),
    ("following", "- committed = = - - = = = - - - - - - - - damaged = = - -"),
    ("document", "- = = - - - = = = = - - - - - - - = = = - ="),
    ("reading", "- = = - - - = = = - - - - - surveying - - = = = - -"),
    ("surveying", "- = = - - - = = = index - - - - - - - = = = - short"),
    ("index", "- = = - beginning - = = = - - - - - - - - surveying = = - -"),
    ("beginning", "- = = - - - = = = - filling - - - - - - surveying = = - -"),
    ("filling", "- = = - - writing = = = - - - - - - - - surveying = = - -"),
    ("writing", "- = = - - - = = = - - finishing failed - - - - surveying = = - -"),
    ("finishing", "- = = - - - = = = - - - - staging - - - surveying = = - -"),
    ("failed", "- = = - - - = = = - - - - - - - - surveying = = - -"),
    ("short", "- = surveying - - - = = = - - - - - - - - = = = - -"),
    ("staging", "- = = - - - = = = - - - - - - starting refused surveying - - - -"),
    ("starting", "- = = - - - = = = - - - - - - - - surveying trial refused - -"),
    ("trial", "- = = - - - = = = - - - - - - - - surveying = refused committed -"),
    ("committed", "- = following - - - = = = - - - - - - - - damaged = = - -"),
    ("damaged", "= - - - - - = = = - - - - - - - - = = = - -"),
    ("refused", "- = = - - - = = = - - - - - - - - = = = - -"),
];

fn wasm(of: u8) -> Vec<u8> {
    content(of, 20_000)
}

fn repository() -> Repository {
    let mut repository = Repository::new();
    repository.module(A, &wasm(1));
    repository.module(B, &wasm(2));
    repository.deploy("a", A);
    repository.publish();
    repository
}

fn blob() -> Digest {
    Digest::of(&wasm(2))
}

fn text() -> String {
    document("b", B, json!({})).to_string()
}

/// The state of a device, in a word.
fn state(device: &Device) -> &'static str {
    let sync = &device.sync;
    match (sync.lifecycle.phase(), sync.trust.phase()) {
        ("fetching", _) => sync.pull.phase(&blob()),
        ("committed", phase @ ("rooted" | "following")) => phase,
        ("nothing", _) => {
            if sync.up {
                "waiting"
            } else {
                "down"
            }
        }
        (phase, _) => phase,
    }
}

/// A device on which `a` is committed and `b` is on its way, as far as this.
fn reach(wanted: &str) -> Device {
    let mut repository = repository();
    let mut device = Device::new(&repository);
    if wanted == "down" {
        return device;
    }
    if wanted == "waiting" {
        device.broker.clear();
        device.up();
        return device;
    }
    device.up();
    device.pass(11_000);
    assert_eq!(device.committed(), Some("a"));
    match wanted {
        "committed" => return device,
        "damaged" => {
            device.damage(0);
            device = device.reboot(&repository);
            return device;
        }
        "rooted" => drop(repository.rotate_root()),
        "short" => device.free = 0,
        "refused" => drop(device.behaviours.insert(blob(), Behaviour::FailsDryStart)),
        _ => {}
    }
    repository.deploy("b", B);
    repository.publish();
    device.offer(&repository);
    while state(&device) != wanted {
        device.disk.broken = wanted == "failed" && state(&device) == "beginning";
        assert!(device.step(), "{wanted} is not reached, only {}", state(&device));
    }
    device
}

/// The event of a column, as it fits a device best.
fn event(column: &str, device: &Device) -> Event {
    let repository = {
        let mut repository = repository();
        repository.deploy("b", B);
        repository.publish();
        repository
    };
    let message =
        |what: Published| Event::Message(Message { payload: repository.retained[&what].clone().into(), what });
    let sync = &device.sync;
    let (digest, generation, module) = (blob(), sync.lifecycle.number(), "m".to_owned());
    let chunk = |digest: &Digest| {
        let chunks = sanderling_protocol::blob::cut(&wasm(2)).unwrap().0;
        assert!(chunks.chunks().len() == 1, "{digest} is one chunk");
        chunks.chunks()[0].digest
    };
    match column {
        "up" => Event::LinkUp(Capacity::default()),
        "down" => Event::LinkDown,
        "timestamp" => message(Published::Timestamp),
        "snapshot" => message(Published::Metadata { version: 2, role: "snapshot".into() }),
        "index" => message(Published::Index(digest)),
        "chunk" => message(Published::Chunk(chunk(&digest))),
        "tick" => Event::Tick,
        "look" => Event::Refresh,
        "other" => Event::Refused { what: "publish".into(), why: "the broker says no".into() },
        "surveyed" => Event::Surveyed { number: sync.pull.survey(), held: vec![], taken: 0, free: 1 << 30 },
        "full" => Event::Surveyed { number: sync.pull.survey(), held: vec![], taken: 0, free: 0 },
        "begun" => Event::Begun { digest, missing: Ok(vec![0]) },
        "wrote" => Event::Wrote { blob: digest, index: 0, chunk: chunk(&digest), result: Ok(()) },
        "lost" => {
            let result = Err(BlobFault::Gone("it was not begun".into()));
            Event::Wrote { blob: digest, index: 0, chunk: chunk(&digest), result }
        }
        "finished" => Event::Finished { digest, result: Ok(()) },
        "document" => Event::Document { digest: Digest::of(text().as_bytes()), content: Ok(text().into_bytes()) },
        "staged" => Event::Staged { generation, handover: Handover::MakeBeforeBreak },
        "unstaged" => Event::StageFailed { generation, module, fault: fault() },
        "damaged" => Event::Damaged { generation },
        "running" => Event::Running { generation, module },
        "faulted" => Event::Faulted { generation, module, fault: fault() },
        "counted" => Event::Counted { generation, frames: vec![(module, 1_000)] },
        other => panic!("there is no event {other}"),
    }
}

/// What comes of an event.
fn cell(row: &str, column: &str) -> &'static str {
    let mut device = reach(row);
    assert_eq!(state(&device), row);
    let event = event(column, &device);
    let before = format!("{:?}", device.sync);
    if column == "counted" {
        // When the seconds of probation are over.
        device.now.ms += 10_000;
    }
    match device.sync.handle(event.clone(), device.now) {
        Ok(_) if state(&device) == row => "=",
        Ok(_) => state(&device),
        Err(error) => {
            assert_eq!(
                format!("{:?}", device.sync),
                before,
                "{row}: {event:?} is refused ({error}) and changed something"
            );
            "-"
        }
    }
}

#[test]
fn every_event_in_every_state_does_what_the_table_says() {
    let mut wrong = Vec::new();
    for (row, cells) in TABLE {
        let found: Vec<&str> = EVENTS.into_iter().map(|column| cell(row, column)).collect();
        let found = found.join(" ");
        if found != cells {
            wrong.push(format!("    (\"{row}\", \"{found}\"),"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "\n{}", wrong.join("\n"));
}
