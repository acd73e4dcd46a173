//! A provisioned device, and the agent on it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use sanderling_protocol::topics::DeviceId;

use crate::{Broker, Credentials, Fleet, Process, program};

/// What every test sets: quick reports and reconnects, and a log that tells each step.
const SETTINGS: &str = "
[broker]
backoff_min_s = 0.1
backoff_max_s = 1
[report]
min_s = 0.1
max_s = 3
[log]
level = \"debug\"
";

/// Before the workers of a device; see [`Device::lay_door`].
pub struct Door {
    shut: PathBuf,
    passed: PathBuf,
}

impl Door {
    /// Workers that are started now wait.
    pub fn shut(&self) {
        fs::write(&self.shut, b"").unwrap();
    }

    /// How many workers have passed it, ever.
    pub fn passed(&self) -> usize {
        fs::read_to_string(&self.passed).map_or(0, |lines| lines.lines().count())
    }

    /// Workers go on.
    pub fn open(&self) {
        // An error means that it stands open.
        let _ = fs::remove_file(&self.shut);
    }
}

/// A device's folder, as `sanderling provision device` makes it, and its state.
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    folder: PathBuf,
    run: PathBuf,
}

impl Device {
    /// Provisions a device of this fleet for this broker.
    pub fn provision(fleet: &Fleet, broker: &Broker, id: &str) -> Self {
        let folder = fleet.path("devices").join(id);
        let run = fleet.path("run").join(id);
        let state = fleet.path("state").join(id);
        fs::create_dir_all(&run).unwrap();
        let port = broker.port().to_string();
        let mut command = fleet.command();
        command.args(["provision", "device", id, "--host", Broker::HOST, "--port", &port]);
        command.arg("--installed-at").arg(&folder).arg("--state").arg(state);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let device = Self { id: id.parse().unwrap(), folder, run };
        let worker = program("sanderling-worker");
        let paths = format!("[paths]\nworker = {worker:?}\nruntime = {:?}\n{SETTINGS}", device.run);
        device.lay("00-tests", &paths);
        device
    }

    /// Its `agent.toml`.
    pub fn configuration(&self) -> PathBuf {
        self.file("agent.toml")
    }

    /// One of the files that it was provisioned with.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A file among those that do not survive a restart of the device, such as a sensor's socket.
    pub fn runtime(&self, name: &str) -> PathBuf {
        self.run.join(name)
    }

    /// Its certificate and key.
    pub fn credentials(&self) -> Credentials {
        Credentials { ca: self.file("ca.pem"), cert: self.file("device.pem"), key: self.file("device.key") }
    }

    /// Lays a fragment over its configuration.
    pub fn lay(&self, name: &str, toml: &str) -> PathBuf {
        let folder = self.file("agent.toml.d");
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join(format!("{name}.toml"));
        fs::write(&file, toml).unwrap();
        file
    }

    /// A sensor `name` that replays small files without a meaning, so many a second.
    pub fn lay_clock(&self, name: &str, rate: f64) {
        let file = self.runtime(&format!("{name}.bin"));
        fs::write(&file, b"tick").unwrap();
        self.lay(
            name,
            &format!("[sensor.{name}]\nkind = 'replay'\nfiles = [{file:?}]\nrate = {rate:?}\nloop = true\n"),
        );
    }

    /// Puts a door before its workers: from the next start of the agent on, a worker that is started while the door is shut waits
    /// before it does anything.
    pub fn lay_door(&self) -> Door {
        let (shut, program_file) = (self.runtime("door-is-shut"), self.runtime("worker"));
        let worker = program("sanderling-worker");
        let passed = self.runtime("door-was-passed");
        let script = format!(
            "#!/bin/sh\nwhile [ -e {shut:?} ]; do /bin/sleep 0.02; done\necho x >>{passed:?}\nexec /usr/bin/env -i {worker:?}\n"
        );
        self.lay_program(&program_file, &script);
        Door { shut, passed }
    }

    /// Puts in the place of its workers a program that says these bytes to the agent: first `ready`, then, when it had time to begin,
    /// `then`. It listens to nothing.
    pub fn lay_worker(&self, ready: &[u8], then: &[u8]) {
        let [first, second, program] = ["ready", "then", "worker"].map(|name| self.runtime(name));
        fs::write(&first, ready).unwrap();
        fs::write(&second, then).unwrap();
        let script = format!(
            "#!/bin/sh\n/bin/cat {first:?} >&3\n/bin/sleep 0.5\n/bin/cat {second:?} >&3\nexec /bin/sleep 1000\n"
        );
        self.lay_program(&program, &script);
    }

    fn lay_program(&self, program: &Path, script: &str) {
        fs::write(program, script).unwrap();
        fs::set_permissions(program, PermissionsExt::from_mode(0o755)).unwrap();
        self.lay("50-worker", &format!("[paths]\nworker = {program:?}\n"));
    }

    /// Starts the agent.
    pub fn start(&self) -> Process {
        self.start_with(|_| {})
    }

    /// Starts the agent by a command that is changed first.
    pub fn start_with(&self, change: impl FnOnce(&mut Command)) -> Process {
        let mut command = Command::new(program("sanderling-agent"));
        command.arg("--config").arg(self.configuration()).env_remove("JOURNAL_STREAM").env_remove("NOTIFY_SOCKET");
        change(&mut command);
        Process::start(format!("sanderling-agent of {}", self.id), &mut command)
    }
}
