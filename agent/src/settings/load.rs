//! Reads the files, lays one over the other, and checks the result.

use std::{
    fs,
    io::{self, Read},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use sanderling_guest::frame::HEADER;
use sanderling_protocol::topics::{DEFAULT_PREFIX, DeviceId, Topics};
use toml::{Table, Value};

use super::{
    BrokerSettings, LimitSettings, MAX_FILE, OutboxSettings, PathSettings, ReportSettings, Settings, SettingsError,
    WorkloadSettings, metrics, publish,
    raw::{Raw, RawBroker, RawCapsules, RawPaths, RawWorkloads},
    sensor, sink,
};
use crate::{certificate, frames, outbox::DrainSettings, store::capsules::Room};

/// Two frames of this size fit the ring to a worker.
const MOST_FRAME_BYTES: usize = frames::LARGEST / 2 - HEADER;
const DEFAULT_WORKER: &str = "/usr/libexec/sanderling/sanderling-worker";

/// Which file said what, for errors.
pub(super) struct Origin {
    main: PathBuf,
    layers: Vec<(PathBuf, Table)>,
}

impl Origin {
    /// The error for a value that is not allowed, with the last file that gives the key.
    pub(super) fn value(&self, key: &[&str], value: impl ToString, allowed: impl ToString) -> SettingsError {
        SettingsError::Value {
            file: self.file(key),
            key: key.join("."),
            value: value.to_string(),
            allowed: allowed.to_string(),
        }
    }

    pub(super) fn file(&self, key: &[&str]) -> PathBuf {
        // A key that no file gives is looked for by its table.
        for depth in (1..=key.len()).rev() {
            let path = key.get(..depth).unwrap_or_default();
            if let Some((file, _)) = self.layers.iter().rev().find(|(_, table)| contains(table, path)) {
                return file.clone();
            }
        }
        self.main.clone()
    }

    pub(super) fn range<T: PartialOrd + std::fmt::Display + Copy>(
        &self,
        key: &[&str],
        value: T,
        allowed: RangeInclusive<T>,
        unit: &str,
    ) -> Result<T, SettingsError> {
        if allowed.contains(&value) {
            return Ok(value);
        }
        Err(self.value(key, value, format!("{} to {}{unit}", allowed.start(), allowed.end())))
    }
}

fn contains(table: &Table, key: &[&str]) -> bool {
    match key {
        [] => true,
        [last] => table.contains_key(*last),
        [first, rest @ ..] => table.get(*first).and_then(Value::as_table).is_some_and(|table| contains(table, rest)),
    }
}

pub(super) fn load(main: &Path) -> Result<Settings, SettingsError> {
    let mut layers = Vec::new();
    for file in files(main)? {
        let Some(text) = read(&file)? else { continue };
        let form = |error: toml::de::Error| SettingsError::Form { file: file.clone(), problem: words(&error) };
        // Each file on its own first, so that an unknown key is reported with its file and line.
        toml::from_str::<Raw>(&text).map_err(form)?;
        layers.push((file.clone(), toml::from_str::<Table>(&text).map_err(form)?));
    }
    if layers.is_empty() {
        let cause = "there is no such file, nor one in its `.d` folder; `sanderling provision device` writes it";
        return Err(SettingsError::Read { file: main.to_owned(), cause: cause.to_owned() });
    }
    let mut merged = Table::new();
    for (_, table) in &layers {
        overlay(&mut merged, table, false);
    }
    let raw: Raw = merged
        .try_into()
        .map_err(|error: toml::de::Error| SettingsError::Form { file: main.to_owned(), problem: words(&error) })?;
    check(raw, &Origin { main: main.to_owned(), layers })
}

/// toml draws the line of the file in several lines; a log wants one.
fn words(error: &toml::de::Error) -> String {
    error.to_string().lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The main file, then the fragments in name order.
fn files(main: &Path) -> Result<Vec<PathBuf>, SettingsError> {
    let mut files = vec![main.to_owned()];
    let mut folder = main.as_os_str().to_owned();
    folder.push(".d");
    let folder = PathBuf::from(folder);
    let refused = |error: &io::Error| SettingsError::Read { file: folder.clone(), cause: error.to_string() };
    let mut fragments = Vec::new();
    match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(refused(&error)),
        Ok(entries) => {
            for entry in entries {
                let path = entry.map_err(|error| refused(&error))?.path();
                if path.extension().is_some_and(|extension| extension == "toml") {
                    fragments.push(path);
                }
            }
        }
    }
    fragments.sort();
    files.append(&mut fragments);
    Ok(files)
}

fn read(file: &Path) -> Result<Option<String>, SettingsError> {
    let refused = |cause: String| SettingsError::Read { file: file.to_owned(), cause };
    let opened = match fs::File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused(error.to_string())),
        Ok(opened) => opened,
    };
    let mut text = String::new();
    opened.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|error| refused(error.to_string()))?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_FILE {
        return Err(refused(format!("it is longer than {MAX_FILE} bytes")));
    }
    Ok(Some(text))
}

fn overlay(under: &mut Table, over: &Table, whole: bool) {
    for (key, value) in over {
        match (under.get_mut(key), value) {
            (Some(Value::Table(below)), Value::Table(above)) if !whole => {
                overlay(below, above, matches!(key.as_str(), "sensor" | "sink"))
            }
            _ => {
                under.insert(key.clone(), value.clone());
            }
        }
    }
}

fn check(raw: Raw, origin: &Origin) -> Result<Settings, SettingsError> {
    let broker = check_broker(raw.broker, origin)?;
    let device = check_device(raw.device.as_deref(), &broker.cert, origin)?;
    let max_frame = origin.range(
        &["limits", "max_frame_bytes"],
        raw.limits.max_frame_bytes.unwrap_or(4 << 20),
        1024..=MOST_FRAME_BYTES,
        " bytes",
    )?;
    let paths = check_paths(raw.paths);
    let seconds = |key: &str, value: f64| {
        origin.range(&["report", key], value, 0.1..=86_400.0, " s").map(Duration::from_secs_f64)
    };
    let report = ReportSettings {
        min_interval: seconds("min_s", raw.report.min_s.unwrap_or(2.0))?,
        max_interval: seconds("max_s", raw.report.max_s.unwrap_or(300.0))?,
    };
    if report.min_interval > report.max_interval {
        let max = report.max_interval.as_secs_f64();
        let found = report.min_interval.as_secs_f64();
        return Err(origin.value(&["report", "min_s"], found, format!("at most `report.max_s`, {max}")));
    }
    let room = |key: &str, value: u64| origin.range(&["outbox", key], value, 4096..=1 << 40, " bytes");
    let commit_ms = origin.range(&["outbox", "commit_ms"], raw.outbox.commit_ms.unwrap_or(100), 1..=60_000, " ms")?;
    let trust_root = raw.trust.root.ok_or(SettingsError::Missing {
        file: origin.main.clone(),
        key: "trust.root",
        allowed: "write the path of the fleet's initial root.json",
    })?;
    let limits =
        LimitSettings { max_frame_bytes: max_frame, reserve_bytes: raw.limits.reserve_bytes.unwrap_or(16 << 20) };
    let publish = publish::check(raw.publish, &device, origin)?;
    Ok(Settings {
        labels: raw.labels,
        trust_root,
        pull_window_bytes: origin.range(
            &["pull", "window_bytes"],
            raw.pull.window_bytes.unwrap_or(512 << 10),
            64 << 10..=16 << 20,
            " bytes",
        )?,
        outbox: OutboxSettings {
            max_bytes: room("max_bytes", raw.outbox.max_bytes.unwrap_or(64 << 20))?,
            event_max_bytes: room("event_max_bytes", raw.outbox.event_max_bytes.unwrap_or(256 << 10))?,
            commit_interval: Duration::from_millis(commit_ms),
            drain: DrainSettings {
                messages: raw.outbox.drain_per_s.unwrap_or(500),
                bytes: u64::from(raw.outbox.drain_kib_per_s.unwrap_or(256)) << 10,
            },
        },
        publish,
        report,
        limits,
        workloads: check_workloads(&raw.workloads, origin)?,
        capsules: check_capsules(&raw.capsules, limits.reserve_bytes, origin)?,
        log_level: raw.log.level.unwrap_or_default(),
        sensors: sensor::check(raw.sensor, max_frame, &paths.runtime, (&device, &broker), origin)?,
        sinks: sink::check(raw.sink, &paths, origin)?,
        metrics: raw.metrics.map(|raw| metrics::check(raw, &paths.runtime, origin)).transpose()?,
        device,
        broker,
        paths,
    })
}

fn check_device(device: Option<&str>, cert: &Path, origin: &Origin) -> Result<DeviceId, SettingsError> {
    const ALLOWED: &str = "1 to 64 characters of A-Z a-z 0-9 . _ -";
    if let Some(device) = device {
        return device.parse().map_err(|_| origin.value(&["device"], format!("{device:?}"), ALLOWED));
    }
    let read = certificate::load(cert).map_err(|error| {
        origin.value(
            &["broker", "cert"],
            cert.display(),
            format!("a certificate whose common name is the device id, or set `device` ({error})"),
        )
    })?;
    read.common_name.and_then(|name| name.parse().ok()).ok_or_else(|| {
        origin.value(
            &["broker", "cert"],
            cert.display(),
            format!("a certificate with a common name of {ALLOWED}, or set `device`"),
        )
    })
}

fn check_broker(raw: RawBroker, origin: &Origin) -> Result<BrokerSettings, SettingsError> {
    let missing = |key, allowed| SettingsError::Missing { file: origin.main.clone(), key, allowed };
    let prefix = raw.prefix.as_deref().unwrap_or(DEFAULT_PREFIX);
    let topics = Topics::new(prefix).map_err(|_| {
        let allowed = "levels of A-Z a-z 0-9 . _ - joined by /, at most 128 characters";
        origin.value(&["broker", "prefix"], format!("{prefix:?}"), allowed)
    })?;
    let seconds = |key: &str, value: f64, allowed: RangeInclusive<f64>| {
        origin.range(&["broker", key], value, allowed, " s").map(Duration::from_secs_f64)
    };
    let reload = seconds("reload_s", raw.reload_s.unwrap_or(5.0), 0.05..=3600.0)?;
    let backoff_min = seconds("backoff_min_s", raw.backoff_min_s.unwrap_or(1.0), 0.05..=60.0)?;
    let backoff_max = seconds("backoff_max_s", raw.backoff_max_s.unwrap_or(60.0), 0.05..=3600.0)?;
    if backoff_min > backoff_max {
        let allowed = format!("at most `broker.backoff_max_s`, {}", backoff_max.as_secs_f64());
        return Err(origin.value(&["broker", "backoff_min_s"], backoff_min.as_secs_f64(), allowed));
    }
    let port = raw.port.unwrap_or(8883);
    let keep_alive = origin.range(&["broker", "keep_alive_s"], raw.keep_alive_s.unwrap_or(30), 1..=30, " s")?;
    let connect = origin.range(&["broker", "connect_timeout_s"], raw.connect_timeout_s.unwrap_or(15), 1..=300, " s")?;
    Ok(BrokerSettings {
        host: raw
            .host
            .filter(|host| !host.is_empty())
            .ok_or_else(|| missing("broker.host", "write the broker's host name or address"))?,
        port: origin.range(&["broker", "port"], port, 1..=u16::MAX, "")?,
        ca: raw.ca.ok_or_else(|| missing("broker.ca", "write the path of the broker's CA, PEM"))?,
        cert: raw.cert.ok_or_else(|| missing("broker.cert", "write the path of this device's certificate, PEM"))?,
        key: raw.key.ok_or_else(|| missing("broker.key", "write the path of this device's private key, PEM"))?,
        topics,
        keep_alive: Duration::from_secs(keep_alive),
        connect_timeout: Duration::from_secs(connect),
        backoff_min,
        backoff_max,
        reload,
    })
}

fn check_workloads(raw: &RawWorkloads, origin: &Origin) -> Result<WorkloadSettings, SettingsError> {
    let within =
        |key: &str, value: u64, most: u64, unit: &str| origin.range(&["workloads", key], value, 1..=most, unit);
    let memory_mib = raw.memory_mib.map(|mib| within("memory_mib", mib, 1 << 20, " MiB")).transpose()?;
    let load_s = within("load_s", raw.load_s.unwrap_or(60), 3600, " s")?;
    Ok(WorkloadSettings {
        memory_bytes: memory_mib.map(|mib| mib << 20),
        load: Duration::from_secs(load_s),
        confinement: raw.confinement.unwrap_or_default(),
    })
}

fn check_capsules(raw: &RawCapsules, reserve: u64, origin: &Origin) -> Result<Room, SettingsError> {
    let most = origin.range(&["capsules", "max"], raw.max.unwrap_or(16), 0..=1000, "")?;
    let kib = origin.range(&["capsules", "max_kib"], raw.max_kib.unwrap_or(8192), 64..=1 << 30, " KiB")?;
    Ok(Room { most, bytes: kib << 10, reserve })
}

fn check_paths(raw: RawPaths) -> PathSettings {
    PathSettings {
        state: raw.state.unwrap_or_else(|| "/var/lib/sanderling".into()),
        worker: raw.worker.unwrap_or_else(default_worker),
        runtime: raw.runtime.unwrap_or_else(|| "/run/sanderling".into()),
    }
}

/// `sanderling-worker` beside this program if it is there, else where packages put it.
pub(super) fn default_worker() -> PathBuf {
    std::env::current_exe()
        .ok()
        .map(|program| program.with_file_name("sanderling-worker"))
        .filter(|worker| worker.is_file())
        .unwrap_or_else(|| DEFAULT_WORKER.into())
}
