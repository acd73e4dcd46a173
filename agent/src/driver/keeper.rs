//! The thread that touches the disk for [`crate::sync`]: records, blobs, collection.
//!
//! Purpose: an fsync takes milliseconds, on a worn flash card much longer; frames must not wait for it. Jobs are done in
//! the order in which they were given, so what was stored is stored before what follows from it.
//!
//! Failure modes: a transaction that fails is reported and tried again by the driver, which does not go on before it
//! succeeded. Blob errors are answers.
//!
//! Limits: jobs are bounded by those that give them: a window of chunks, and a handful of others.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use sanderling_protocol::{blob::BlobIndex, command::Answer, deployment::MAX_DOCUMENT, digest::Digest};
use tokio::sync::mpsc as tokio_mpsc;

use super::capsules::{Asked, Kept, Question};
use crate::{
    clock,
    health::progress::{Jobs, Mark},
    store::{self, BlobChunk, BlobError, Blobs, Change, Store, StoreError, Table, Usage, capsules::CapsuleFolder},
    sync::{BlobFault, Event, Plan, Rejected, Slot, Slots, Trial},
};

const COMMITTED: &str = "committed";
const PREVIOUS: &str = "previous";
const CANDIDATE: &str = "candidate";
const REJECTED: &str = "list";

/// Something to do.
#[derive(Debug)]
pub(super) enum Job {
    /// Store the trusted metadata, and the time, in one transaction.
    Trust(Vec<(String, Vec<u8>)>, i64),
    /// Store the slots, in one transaction, which lets modules' state follow them.
    Slots(Box<Slots>),
    /// Store that this time was reached, Unix seconds.
    Time(i64),
    Survey {
        number: u64,
        blobs: Vec<Digest>,
    },
    Begin(Digest, Arc<BlobIndex>),
    Write {
        blob: Digest,
        index: usize,
        chunk: Digest,
        content: Arc<[u8]>,
    },
    Finish(Digest),
    Read(Digest),
    Collect(BTreeSet<Digest>),
    /// Open every blob of a plan, to be staged or started.
    Open {
        generation: u64,
        purpose: Purpose,
        plan: Arc<Plan>,
    },
    Usage,
    /// Write a capsule.
    Capsule(Box<Kept>),
    /// Look for capsules.
    Capsules(Question, Asked),
}

/// For what blobs are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Stage,
    Start,
}

/// What came of a job.
#[derive(Debug)]
pub(super) enum Done {
    /// A transaction is on disk, or is not and has to be given again.
    Stored(Result<(), (StoreError, Box<Job>)>),
    /// The answer to a question of [`crate::sync`].
    Answer(Event),
    Opened {
        generation: u64,
        purpose: Purpose,
        plan: Arc<Plan>,
        result: Result<Vec<(Digest, File)>, BlobError>,
    },
    Usage(Usage),
    /// A command can be answered.
    Reply(Asked, Answer),
}

/// The driver's end of the thread. Dropping it ends the thread when its jobs are done.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    jobs: mpsc::Sender<Job>,
    counted: Arc<Jobs>,
}

impl Keeper {
    /// Starts the thread.
    pub(super) fn start(
        store: Box<dyn Store>,
        blobs: Box<dyn Blobs>,
        capsules: CapsuleFolder,
    ) -> io::Result<(Self, tokio_mpsc::UnboundedReceiver<Done>)> {
        let (jobs, queue) = mpsc::channel();
        let (done, answers) = tokio_mpsc::unbounded_channel();
        let counted = Arc::new(Jobs::default());
        let own = counted.clone();
        thread::Builder::new().name("keeper".into()).stack_size(256 * 1024).spawn(move || {
            let mut disk = Disk { store, blobs, capsules };
            for job in queue {
                let answer = disk.work(job);
                own.done();
                if let Some(answer) = answer
                    && done.send(answer).is_err()
                {
                    return;
                }
            }
        })?;
        Ok((Self { jobs, counted }, answers))
    }

    /// Gives a job.
    pub(super) fn give(&self, job: Job) {
        self.counted.give();
        if self.jobs.send(job).is_err() {
            tracing::error!("the thread that keeps the disk is gone; restart the agent");
        }
    }

    /// How far the thread is, where each job is done within `patience`.
    pub(super) fn mark(&self, patience: Duration) -> Mark {
        self.counted.mark(patience)
    }
}

struct Disk {
    store: Box<dyn Store>,
    blobs: Box<dyn Blobs>,
    capsules: CapsuleFolder,
}

impl Disk {
    fn work(&mut self, job: Job) -> Option<Done> {
        Some(match job {
            Job::Trust(..) | Job::Slots(_) => {
                let stored = change(&job).and_then(|change| self.store.apply(change));
                Done::Stored(stored.map_err(|error| (error, Box::new(job))))
            }
            Job::Time(_) => {
                let stored = change(&job).and_then(|change| self.store.apply(change));
                if let Err(error) = stored {
                    tracing::warn!(%error, "the time was not saved");
                }
                return None;
            }
            Job::Survey { number, blobs } => {
                let (held, others): (Vec<_>, Vec<_>) = blobs.into_iter().partition(|digest| self.blobs.has(digest));
                let taken = others.iter().map(|digest| self.blobs.taken(digest)).sum();
                Done::Answer(Event::Surveyed { number, held, taken, free: self.usage().free })
            }
            Job::Begin(digest, index) => {
                let placed = index.placed();
                let chunk = |(offset, chunk): (u64, sanderling_protocol::blob::ChunkRef)| BlobChunk {
                    digest: chunk.digest,
                    offset,
                    length: chunk.length,
                };
                let chunks: Vec<BlobChunk> = placed.map(chunk).collect();
                let missing = self.blobs.begin(&digest, index.length(), &chunks).map_err(fault);
                Done::Answer(Event::Begun { digest, missing })
            }
            Job::Write { blob, index, chunk, content } => {
                let result = self.blobs.put_chunk(&blob, index, &content).map(drop).map_err(fault);
                Done::Answer(Event::Wrote { blob, index, chunk, result })
            }
            Job::Finish(digest) => {
                let result = self.blobs.finish(&digest).map_err(fault);
                Done::Answer(Event::Finished { digest, result })
            }
            Job::Read(digest) => Done::Answer(Event::Document { digest, content: self.read(&digest) }),
            Job::Collect(keep) => {
                match self.blobs.collect(&keep) {
                    Ok(freed) => tracing::debug!(freed, "blobs that nothing needs are removed"),
                    Err(error) => tracing::warn!(%error, "blobs that nothing needs could not be removed"),
                }
                return None;
            }
            Job::Open { generation, purpose, plan } => {
                let result = self.open(&plan);
                Done::Opened { generation, purpose, plan, result }
            }
            Job::Usage => Done::Usage(self.usage()),
            Job::Capsule(kept) => {
                kept.write(&self.capsules);
                return None;
            }
            Job::Capsules(question, asked) => Done::Reply(asked, question.answer(&self.capsules)),
        })
    }

    fn usage(&self) -> Usage {
        self.blobs.usage().unwrap_or_else(|error| {
            tracing::warn!(%error, "the state directory's disk could not be measured");
            Usage::default()
        })
    }

    fn read(&mut self, digest: &Digest) -> Result<Vec<u8>, BlobFault> {
        let blob = self.blobs.open(digest).map_err(fault)?;
        let mut content = Vec::new();
        let most = MAX_DOCUMENT as u64 + 1;
        blob.file.take(most).read_to_end(&mut content).map_err(|error| BlobFault::Disk(error.to_string()))?;
        Ok(content)
    }

    fn open(&mut self, plan: &Plan) -> Result<Vec<(Digest, File)>, BlobError> {
        plan.blobs().into_keys().map(|digest| Ok((digest, self.blobs.open(&digest)?.file))).collect()
    }
}

fn fault(error: BlobError) -> BlobFault {
    match error {
        BlobError::Whole { .. } | BlobError::Index { .. } | BlobError::Chunk { .. } | BlobError::Damaged(_) => {
            BlobFault::Corrupt(error.to_string())
        }
        BlobError::NotBegun(_) => BlobFault::Gone(error.to_string()),
        _ => BlobFault::Disk(error.to_string()),
    }
}

fn change(job: &Job) -> Result<Change, StoreError> {
    let change = Change::new();
    match job {
        Job::Trust(files, time) => {
            let mut change = change.clear(Table::Trust);
            for (role, bytes) in files {
                change = change.put_bytes(Table::Trust, role, bytes.clone())?;
            }
            store::save_time(change, *time)
        }
        Job::Slots(slots) => {
            let mut change = change.clear(Table::Slots);
            let named = [(COMMITTED, &slots.committed), (PREVIOUS, &slots.previous)];
            for (name, slot) in named {
                if let Some(slot) = slot {
                    change = change.put(Table::Slots, name, slot)?;
                }
            }
            let (committed, trial) = (&slots.committed, slots.trial.as_ref().map(|trial| &trial.slot));
            change = change.settle_state(committed.as_ref().map(Slot::identity), trial.map(Slot::identity));
            if let Some(trial) = &slots.trial {
                change = change.put(Table::Slots, CANDIDATE, trial)?;
            }
            change.put(Table::Refused, REJECTED, &slots.rejected)
        }
        Job::Time(time) => store::save_time(change, *time),
        _ => Ok(change),
    }
}

/// What an earlier run stored. What cannot be read counts as not there, and is logged: the broker has it all.
pub(super) fn load(store: &dyn Store) -> Loaded {
    fn or_nothing<T: Default>(what: &str, read: Result<T, StoreError>) -> T {
        read.unwrap_or_else(|error| {
            tracing::error!(%error, "{what} could not be read; it is taken as not there");
            T::default()
        })
    }
    let slot = |name| or_nothing::<Option<Slot>>(name, store::get(store, Table::Slots, name));
    let trial = or_nothing::<Option<Trial>>(CANDIDATE, store::get(store, Table::Slots, CANDIDATE));
    let rejected = or_nothing::<Option<Vec<Rejected>>>(REJECTED, store::get(store, Table::Refused, REJECTED));
    let slots =
        Slots { committed: slot(COMMITTED), previous: slot(PREVIOUS), trial, rejected: rejected.unwrap_or_default() };
    let roles = or_nothing("the trusted metadata", store.keys(Table::Trust));
    let file = |role: String| Some((role.clone(), or_nothing(&role, store.get_bytes(Table::Trust, &role))?));
    let saved_time = or_nothing("the saved time", store::saved_time(store));
    Loaded { slots, trust: roles.into_iter().filter_map(file).collect(), saved_time }
}

/// What [`load`] found.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) slots: Slots,
    pub(super) trust: std::collections::BTreeMap<String, Vec<u8>>,
    pub(super) saved_time: Option<i64>,
}

/// The time that expiry is judged by.
pub(super) fn judged(wall: i64, saved: Option<i64>) -> i64 {
    clock::floor(wall, saved)
}

#[cfg(test)]
mod durability;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::{
        capsules::Room,
        disk::SystemDisk,
        fake::{MemoryBlobs, MemoryStore},
    };

    fn slot(name: &str) -> Slot {
        let document = format!("{{\"schema\":\"sanderling.deployment/1\",\"name\":\"{name}\",\"modules\":[]}}");
        Slot {
            name: name.into(),
            version: 3,
            digest: Digest::of(document.as_bytes()),
            document,
            artifacts: vec![],
            withdrawn: vec![],
        }
    }

    #[test]
    fn what_is_stored_is_loaded_again() {
        let store = MemoryStore::default();
        let slots = Slots {
            committed: Some(slot("a")),
            previous: None,
            trial: Some(Trial { slot: slot("b"), starts: 2 }),
            rejected: vec![Rejected { identity: Digest::of(b"x"), rolled_back: true, why: "trap".into() }],
        };
        store.apply(change(&Job::Slots(Box::new(slots.clone()))).unwrap()).unwrap();
        let trust = vec![("root".to_owned(), b"{}".to_vec()), ("a/b".to_owned(), b"[]".to_vec())];
        store.apply(change(&Job::Trust(trust.clone(), 77)).unwrap()).unwrap();
        let loaded = load(&store);
        assert_eq!(loaded.slots, slots);
        assert_eq!(loaded.trust, trust.into_iter().collect());
        assert_eq!(loaded.saved_time, Some(77));
        store.apply(change(&Job::Slots(Box::default())).unwrap()).unwrap();
        assert_eq!(load(&store).slots, Slots::default(), "slots that are empty now are removed");
    }

    /// A store on a disk that does not answer before it is let.
    struct Hanging(std::sync::Mutex<mpsc::Receiver<()>>);

    impl Store for Hanging {
        fn get_bytes(&self, _table: Table, _key: &str) -> Result<Option<Vec<u8>>, StoreError> {
            Ok(None)
        }

        fn keys(&self, _table: Table) -> Result<Vec<String>, StoreError> {
            Ok(Vec::new())
        }

        fn apply(&self, _change: Change) -> Result<(), StoreError> {
            self.0
                .lock()
                .unwrap()
                .recv()
                .map_err(|error| StoreError::Disk { doing: "written", cause: error.to_string() })
        }
    }

    #[tokio::test]
    async fn a_thread_that_hangs_in_a_job_counts_no_further_and_one_whose_jobs_fail_does() {
        const PATIENCE: Duration = Duration::from_secs(9);
        let folder = tempfile::tempdir().unwrap();
        let room = Room { most: 1, bytes: 1000, reserve: 0 };
        let capsules = CapsuleFolder::new(Arc::new(SystemDisk), folder.path(), room);
        let (answer, disk) = mpsc::channel();
        let store = Hanging(std::sync::Mutex::new(disk));
        let (keeper, mut done) = Keeper::start(Box::new(store), Box::new(MemoryBlobs::with([])), capsules).unwrap();
        keeper.give(Job::Usage);
        keeper.give(Job::Slots(Box::default()));
        assert!(matches!(done.recv().await, Some(Done::Usage(_))));
        assert_eq!(keeper.mark(PATIENCE), Mark { steps: 1, within: Some(PATIENCE) });
        // The disk answers: with an error.
        drop(answer);
        assert!(matches!(done.recv().await, Some(Done::Stored(Err(_)))));
        assert_eq!(keeper.mark(PATIENCE), Mark { steps: 2, within: None });
    }

    #[tokio::test]
    async fn jobs_are_done_in_order_and_a_failed_transaction_comes_back() {
        let store = MemoryStore::default();
        store.break_disk(true);
        let blobs = MemoryBlobs::with([b"document".to_vec()]);
        let folder = tempfile::tempdir().unwrap();
        let room = Room { most: 1, bytes: 1000, reserve: 0 };
        let capsules = CapsuleFolder::new(Arc::new(SystemDisk), folder.path(), room);
        let (keeper, mut done) = Keeper::start(Box::new(store), Box::new(blobs), capsules).unwrap();
        let digest = Digest::of(b"document");
        keeper.give(Job::Slots(Box::default()));
        keeper.give(Job::Survey { number: 1, blobs: vec![digest, Digest::of(b"other")] });
        keeper.give(Job::Read(digest));
        let Some(Done::Stored(Err((_, job)))) = done.recv().await else { unreachable!() };
        assert!(matches!(*job, Job::Slots(_)));
        let Some(Done::Answer(Event::Surveyed { held, .. })) = done.recv().await else { unreachable!() };
        assert_eq!(held, [digest]);
        let Some(Done::Answer(Event::Document { content, .. })) = done.recv().await else { unreachable!() };
        assert_eq!(content.unwrap(), b"document");
    }
}
