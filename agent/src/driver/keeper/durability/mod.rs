//! Proofs that what is stored survives power cuts, failing disks and flipped bits: the keeper's own jobs, the outbox and the state of
//! modules, as the agent uses them, on a simulated disk.
//!
//! The short forms run with the other tests; `SANDERLING_PROOF_CASES` asks for longer ones.
#![allow(clippy::unwrap_used)]

mod cuts;
mod device;
mod faults;
mod flips;
mod kept;
mod records;
mod releases;

use std::{path::Path, sync::Arc, time::Duration};

use super::{Disk as Keeper, Loaded, load};
use crate::{
    clock::Now,
    outbox::{DrainSettings, Outbox},
    settings::OutboxSettings,
    state::{self, States},
    store::{
        blobs::FileBlobs,
        capsules::{CapsuleFolder, Room},
        database::{Database, RedbStore},
        sim::SimDisk,
    },
};

const STATE: &str = "/var/lib/sanderling";

/// How many cases to go through.
fn cases(short: u64) -> u64 {
    std::env::var("SANDERLING_PROOF_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(short)
}

/// The line that the long forms are read from.
#[allow(clippy::print_stdout)]
fn found(name: &str, cases: u64, failures: &[String], note: &str) {
    println!("proof: {name} | {cases} cases | {} failures | {note}", failures.len());
    let first: Vec<&String> = failures.iter().take(10).collect();
    assert!(failures.is_empty(), "{} failures, the first: {first:#?}", failures.len());
}

/// The agent's disk threads without the threads.
struct Running {
    keeper: Keeper,
    outbox: Outbox,
    states: States,
    database: Database,
}

/// Starts them as the agent does.
fn boot(disk: &SimDisk) -> Result<(Running, Loaded), String> {
    let (disk, state): (Arc<SimDisk>, _) = (Arc::new(disk.clone()), Path::new(STATE));
    let database = Database::open_on(disk.clone(), state).map_err(|error| error.to_string())?;
    let commit_interval = Duration::from_millis(100);
    let drain = DrainSettings::default();
    let settings = OutboxSettings { max_bytes: 1 << 20, event_max_bytes: 8192, commit_interval, drain };
    let mut outbox = Outbox::open(database.clone(), settings).map_err(|error| error.to_string())?;
    let store = RedbStore::new(database.clone());
    let capsules = CapsuleFolder::new(disk.clone(), state, Room { most: 4, bytes: 1 << 20, reserve: 0 });
    let blobs = FileBlobs::open_on(disk, state, 64 * 1024).map_err(|error| error.to_string())?;
    let loaded = load(&store);
    let found = state::table::load(&database).map_err(|error| error.to_string())?;
    let (states, rows) = States::load(found, &loaded.slots);
    outbox.push_frame(Vec::new(), rows, Now::default()).map_err(|error| error.to_string())?;
    let keeper = Keeper { store: Box::new(store), blobs: Box::new(blobs), capsules };
    Ok((Running { keeper, outbox, states, database }, loaded))
}

/// Runs the cases of a proof on all processors. `run` goes through one story, told by its seed, and gives how many cases that
/// was.
fn on_all_processors(cases: u64, run: impl Fn(u64) -> Result<u64, String> + Sync) -> (u64, Vec<String>) {
    use std::sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    };
    let (done, next, failures) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while done.load(Ordering::Relaxed) < cases {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let story = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed)));
                    let told = story.unwrap_or_else(|_| Err("it panicked".into()));
                    match told {
                        Ok(cases) => drop(done.fetch_add(cases, Ordering::Relaxed)),
                        Err(why) => {
                            done.fetch_add(1, Ordering::Relaxed);
                            failures.lock().unwrap().push(format!("seed {seed}: {why}"));
                        }
                    }
                }
            });
        }
    });
    (done.into_inner(), failures.into_inner().unwrap())
}
