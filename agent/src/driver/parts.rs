//! Puts the driver together from the real parts.

use std::{
    cell::RefCell,
    collections::{BTreeSet, VecDeque},
    io,
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use ring::rand::{SecureRandom, SystemRandom};
use sanderling_protocol::tuf::{Restored, TrustError, Trusted};
use thiserror::Error;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify as Wake, mpsc},
    task::LocalSet,
};

use super::{
    Driver, Inputs,
    capsules::Keeping,
    capture::Captures,
    commands::Rates,
    figures::start_metrics,
    gathered::Gathered,
    keeper::{self, Keeper, judged},
    spool::Spool,
    works::{FrameSizes, Memories, Shelf, Works},
};
use crate::{
    clock::{Clock, SystemClock},
    frames::Pool,
    health::{
        Watchdog,
        notify::{SystemdNotify, watchdog_timeout},
    },
    link::{
        Link, LinkError,
        mqtt::{self, LinkConfig},
        tls,
    },
    outbox::Outbox,
    publishers::Publishers,
    report::Pace,
    router::Router,
    sensors::{Ports as SensorPorts, Sensors},
    settings::Settings,
    sinks::Sinks,
    state::{self, States},
    store::{
        BlobError, StoreError,
        blobs::FileBlobs,
        capsules::CapsuleFolder,
        database::{Database, RedbStore},
        disk::SystemDisk,
    },
    sync::{Config, Limits, Sync},
    workload::{Options, Ports as WorkloadPorts, Workloads, memory::Machine},
};

/// Between two looks whether the database is free.
const FREE_WAIT: Duration = Duration::from_millis(100);
/// Bytes of frame memory that may lie idle.
const IDLE_FRAMES: usize = 8 << 20;
/// A root is at most this long, in bytes.
const MAX_ROOT: u64 = sanderling_protocol::tuf::MAX_METADATA_LEN;

/// Why the agent cannot run.
#[derive(Debug, Error)]
pub enum DriverError {
    /// The initial root metadata cannot be read.
    #[error(
        "the root metadata {path} cannot be read: {cause}; put the repository's root.json there, or correct [trust] root"
    )]
    RootFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The initial root metadata is not to be trusted.
    #[error(
        "the root metadata {path} is not valid: {cause}; put the repository's root.json there, or correct [trust] root"
    )]
    Root {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: TrustError,
    },
    /// The worker program is not there.
    #[error("the worker program {path} is not there; install sanderling-worker, or correct [paths] worker")]
    Worker {
        /// The file.
        path: PathBuf,
    },
    /// Certificate, key or authority cannot be used.
    #[error(transparent)]
    Credentials(LinkError),
    /// The records cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The blobs cannot be opened.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// The system does not give what is needed.
    #[error("{what} failed: {cause}")]
    System {
        /// What.
        what: &'static str,
        /// What the system says.
        cause: io::Error,
    },
    /// A part of the agent has ended by itself.
    #[error("{part} has ended; this is a defect of the agent")]
    Ended {
        /// Which.
        part: &'static str,
    },
}

impl DriverError {
    /// Whether the configuration has to be corrected.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::RootFile { .. } | Self::Root { .. } | Self::Worker { .. } | Self::Credentials(_))
    }
}

/// Checks what the configuration names beyond itself: files that must be there and be right.
///
/// # Errors
/// The first [`DriverError`] that is a matter of configuration.
pub fn check(settings: &Settings) -> Result<(), DriverError> {
    shipped_root(settings).map(drop)
}

/// Checks the root of all trust alone; gives its version.
///
/// # Errors
/// [`DriverError::RootFile`], [`DriverError::Root`].
pub fn check_root(settings: &Settings) -> Result<u64, DriverError> {
    root(settings).map(|(_, trusted)| trusted.version("root").unwrap_or(0))
}

fn root(settings: &Settings) -> Result<(Vec<u8>, Trusted), DriverError> {
    let path = settings.trust_root.clone();
    let failed = |cause| DriverError::RootFile { path: path.clone(), cause };
    let length = std::fs::metadata(&path).map_err(failed)?.len();
    let root = if length > MAX_ROOT {
        Err(TrustError::TooLong { role: "root".into(), limit: MAX_ROOT, found: length })
    } else {
        let root = std::fs::read(&path).map_err(failed)?;
        Trusted::from_root(&root).map(|trusted| (root, trusted))
    };
    root.map_err(|cause| DriverError::Root { path: path.clone(), cause })
}

/// The root of all trust; everything else that the configuration names is looked at too.
fn shipped_root(settings: &Settings) -> Result<Vec<u8>, DriverError> {
    let (root, _) = root(settings)?;
    if !settings.paths.worker.is_file() {
        return Err(DriverError::Worker { path: settings.paths.worker.clone() });
    }
    tls::load(&settings.broker).map_err(DriverError::Credentials)?;
    Ok(root)
}

/// Runs the agent until it is asked to stop by SIGTERM or SIGINT.
///
/// # Errors
/// [`DriverError`] where it cannot be started, or not go on.
pub fn run(settings: Settings) -> Result<(), DriverError> {
    let root = shipped_root(&settings)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(1)
        .build()
        .map_err(|cause| DriverError::System { what: "making the runtime", cause })?;
    LocalSet::new().block_on(&runtime, drive(settings, root))
}

async fn drive(settings: Settings, root: Vec<u8>) -> Result<(), DriverError> {
    let failed = |what| move |cause| DriverError::System { what, cause };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed("waiting for SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed("waiting for SIGINT"))?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let (driver, inputs) = assemble(settings, &root)?;
    driver.run(inputs, stop).await
}

fn assemble(settings: Settings, root: &[u8]) -> Result<(Driver, Inputs), DriverError> {
    let failed = |what| move |cause| DriverError::System { what, cause };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let database = Database::open_when_free(&settings.paths.state, || std::thread::sleep(FREE_WAIT))?;
    let outbox = Outbox::open(database.clone(), settings.outbox)?;
    let store = RedbStore::new(database.clone());
    let blobs = FileBlobs::open(&settings.paths.state, settings.limits.reserve_bytes)?;
    let loaded = keeper::load(&store);
    let (states, rows) = States::load(state::table::load(&database)?, &loaded.slots);
    let (spool, spooled) = Spool::start(outbox, clock.clone()).map_err(failed("starting a thread"))?;
    let folder = CapsuleFolder::new(Arc::new(SystemDisk), &settings.paths.state, settings.capsules);
    let (keeper, kept) =
        Keeper::start(Box::new(store), Box::new(blobs), folder).map_err(failed("starting a thread"))?;

    let root_file = settings.trust_root.clone();
    let Restored { trusted, refused } =
        Trusted::restore(root, &loaded.trust).map_err(|cause| DriverError::Root { path: root_file, cause })?;
    let now = crate::sync::Now {
        ms: u64::try_from(clock.mono().as_millis()).unwrap_or(u64::MAX),
        unix: judged(clock.wall(), loaded.saved_time),
    };
    let (sync, effects) = Sync::start(config(&settings), trusted, loaded.slots, refused, now);

    let wake = Rc::new(Wake::new());
    let pool = Pool::new(IDLE_FRAMES);
    let router = Router::new(pool.clone(), clock.clone());
    router.wake(wake.clone());
    let sinks =
        Sinks::make(clock.clone(), &settings.sinks, |name, sink, guard| super::sinks::make(name, sink, &clock, guard));
    let sinks = sinks.map_err(failed("starting a thread"))?;
    let gathered = Gathered::new(clock.clone(), wake.clone(), states, router.clone(), sinks);
    let gathered = Rc::new(RefCell::new(gathered));
    gathered.borrow_mut().rows(rows);
    let shelf = Rc::new(Shelf::default());
    let capsules = Keeping::new(settings.device.clone(), clock.clone(), keeper.clone(), settings.capsules);
    let ports = WorkloadPorts {
        blobs: shelf.clone(),
        records: gathered.clone(),
        states: gathered.clone(),
        clock: clock.clone(),
        pool: pool.clone(),
        capsules: capsules.clone(),
    };
    let options = Options {
        load: settings.workloads.load,
        confinement: settings.workloads.confinement,
        ..Options::new(settings.paths.worker.clone())
    };
    let (workloads, happened) = Workloads::new(options, ports);
    let sensors = start_sensors(&settings, &router, &clock, pool);
    let sizes = FrameSizes { sensors: sensors.sizes(), window: settings.limits.max_frame_bytes };
    let (outcomes, finished) = mpsc::unbounded_channel();
    let memory = Memories { machine: Box::new(Machine), most: settings.workloads.memory_bytes };
    let works = Works::new(Rc::new(workloads), router, shelf, memory, sizes, outcomes);

    let (link, link_events, link_task) = mqtt::link(link_config(&settings), clock.clone(), Box::new(random));
    tokio::spawn(link_task);
    let topics = settings.broker.topics.clone();
    let publishers = Publishers::new(&settings, &clock, random);
    let filters = publishers.filters().into_iter().chain([topics.commands(&settings.device)]);
    if let Err(error) = link.subscribe(filters.collect()) {
        tracing::error!(%error, "commands are not subscribed to");
    }
    let inputs = Inputs {
        link: link_events,
        keeper: kept,
        spool: spooled,
        workloads: happened,
        outcomes: finished,
        records: wake,
        scrapes: start_metrics(&settings),
    };
    let driver = Driver {
        topics,
        link: Box::new(link),
        notify: Box::new(SystemdNotify),
        watchdog: Watchdog::new(watchdog_timeout()),
        sync,
        queue: effects.into(),
        storing: false,
        slots: None,
        again: VecDeque::new(),
        keeper,
        capsules,
        captures: Captures::default(),
        spool,
        works,
        sensors,
        gathered,
        certificate_expires: None,
        saved_time: loaded.saved_time,
        time_saved_at: Duration::ZERO,
        connection: None,
        epoch: 0,
        pace: Pace::new(settings.report),
        publishers,
        sensors_asked_at: Duration::ZERO,
        database,
        storage: crate::store::Usage::default(),
        counts: crate::metrics::Counts::default(),
        status: String::new(),
        rates: Rates::new(clock.mono()),
        unconfined: BTreeSet::new(),
        clock,
        settings,
    };
    Ok((driver, inputs))
}

fn config(settings: &Settings) -> Config {
    Config {
        device: settings.device.to_string(),
        labels: settings.labels.clone(),
        sensors: settings.sensors.keys().cloned().collect(),
        sinks: settings.sinks.keys().cloned().collect(),
        reserve_bytes: settings.limits.reserve_bytes,
        limits: Limits { window: settings.pull_window_bytes, ..Limits::default() },
        seed: random(),
    }
}

fn link_config(settings: &Settings) -> LinkConfig {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    LinkConfig {
        broker: settings.broker.clone(),
        device: settings.device.clone(),
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        boot: boot.trim().to_owned(),
    }
}

fn start_sensors(settings: &Settings, router: &Rc<Router>, clock: &Arc<dyn Clock>, pool: Pool) -> Sensors {
    let ports = SensorPorts { sink: router.clone(), clock: clock.clone(), pool };
    let made = settings.sensors.iter().filter_map(|(name, sensor)| {
        let id = router.sensor(name)?;
        Some((name.clone(), id, super::sensors::make(sensor)))
    });
    Sensors::start(made, &ports)
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        // Without randomness waits are not spread and session ids repeat; neither is worth ending for.
        Err(_) => u64::from(std::process::id()),
    }
}
