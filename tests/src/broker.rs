//! A real Mosquitto with the configuration that `sanderling provision broker` writes.
//!
//! Two things are changed in that configuration: it listens on loopback alone, and its log tells every packet, so that a test can
//! count what was sent to a device.

use std::{fs, net::TcpListener, path::PathBuf, process::Command};

use rustix::process::geteuid;

use crate::{Fleet, PATIENCE, Process, until};

/// So many ports are tried: between choosing one and listening on it, another program may take it.
const ATTEMPTS: usize = 5;

/// The broker of one fleet. It can be stopped and started again on the same port, with what it has kept.
pub struct Broker {
    configuration: PathBuf,
    port: u16,
    process: Option<Process>,
    earlier: Vec<String>,
}

/// A message that the broker sent to a client, as its log tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The topic.
    pub topic: String,
    /// Length of the payload in bytes.
    pub bytes: u64,
}

impl Broker {
    /// Where it listens.
    pub const HOST: &str = "127.0.0.1";

    /// Provisions and starts a broker on a free port.
    pub fn start(fleet: &Fleet) -> Self {
        Self::reached_at(Self::HOST, fleet)
    }

    /// The same for devices that reach this host by another address.
    pub fn reached_at(host: &str, fleet: &Fleet) -> Self {
        for _ in 0..ATTEMPTS {
            let port = free_port();
            fleet.run(["provision", "broker", "--host", host, "--port", &port.to_string()]);
            let configuration = adapt(fleet, port);
            let mut broker = Self { configuration, port, process: None, earlier: Vec::new() };
            if broker.try_start() {
                return broker;
            }
        }
        panic!("mosquitto did not start on any of {ATTEMPTS} ports");
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops it; it writes down what it keeps.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.terminate(PATIENCE);
            self.earlier.extend(process.lines());
        }
    }

    /// Ends it as a power cut would: what it has not written down is gone.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
            self.earlier.extend(process.lines());
        }
    }

    /// Starts it again on its port.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "the broker runs already");
        assert!(self.try_start(), "mosquitto did not start again on port {}", self.port);
    }

    fn try_start(&mut self) -> bool {
        let mut command = Command::new(mosquitto());
        command.arg("-c").arg(&self.configuration);
        let mut process = Process::start("mosquitto", &mut command);
        let runs = until(PATIENCE, || {
            let said = process.lines().iter().any(|line| line.ends_with(" running"));
            (said || !process.is_running()).then_some(said)
        });
        if runs == Some(true) {
            self.process = Some(process);
        }
        self.process.is_some()
    }

    /// What it sent to a client so far, of topics that contain `topic`.
    pub fn sent(&self, client: &str, topic: &str) -> Vec<Sent> {
        let start = format!("Sending PUBLISH to {client} ");
        let now = self.process.iter().flat_map(Process::lines);
        let lines = self.earlier.iter().cloned().chain(now);
        let sent = lines.filter_map(|line| parse_sent(line.split_once(&start)?.1));
        sent.filter(|sent| sent.topic.contains(topic)).collect()
    }

    /// What it says of itself and of connections so far, since it was started last.
    pub fn lines(&self) -> Vec<String> {
        self.process.iter().flat_map(Process::lines).collect()
    }

    /// Lets it tell in its log by which certificate each client comes: their whole subjects are then their names, which the fleet's access
    /// list does not know, so everybody may do everything.
    pub fn tell_subjects(&mut self) {
        self.stop();
        let list = self.configuration.with_file_name("everything.acl");
        fs::write(&list, "pattern readwrite #\n").unwrap();
        let text = fs::read_to_string(&self.configuration).unwrap();
        let lines = text.lines().map(|line| match line {
            "use_identity_as_username true" => "use_subject_as_username true".to_owned(),
            line if line.starts_with("acl_file ") => format!("acl_file {}", list.display()),
            line => line.to_owned(),
        });
        let text: Vec<String> = lines.collect();
        fs::write(&self.configuration, text.join("\n") + "\n").unwrap();
        self.start_again();
    }

    /// As [`Self::sent`], since the client connected last.
    pub fn sent_since_connect(&self, client: &str, topic: &str) -> Vec<Sent> {
        let start = format!("Sending PUBLISH to {client} ");
        let connected = format!(" as {client} (");
        let lines = self.process.iter().flat_map(Process::lines).collect::<Vec<_>>();
        let began = lines.iter().rposition(|line| line.contains("New client connected") && line.contains(&connected));
        let lines = lines.iter().skip(began.unwrap_or(0));
        let sent = lines.filter_map(|line| parse_sent(line.split_once(&start)?.1));
        sent.filter(|sent| sent.topic.contains(topic)).collect()
    }
}

/// `(d0, q1, r1, m7, 'topic', ... (123 bytes))`
fn parse_sent(rest: &str) -> Option<Sent> {
    let (_, quoted) = rest.split_once('\'')?;
    let (topic, after) = quoted.split_once('\'')?;
    let (_, bytes) = after.split_once("... (")?;
    Some(Sent { topic: topic.to_owned(), bytes: bytes.split_once(' ')?.0.parse().ok()? })
}

fn free_port() -> u16 {
    TcpListener::bind((Broker::HOST, 0)).and_then(|listener| listener.local_addr()).unwrap().port()
}

fn adapt(fleet: &Fleet, port: u16) -> PathBuf {
    let generated = fleet.path("broker/mosquitto.conf");
    let text = fs::read_to_string(&generated).unwrap();
    let mut text = text.replace(&format!("listener {port}\n"), &format!("listener {port} {}\n", Broker::HOST));
    // Started by root, it would become another user, who may not read the key.
    if geteuid().is_root() && !text.lines().any(|line| line.starts_with("user ")) {
        text.push_str("user root\n");
    }
    text.push_str("log_dest stderr\nlog_type all\n");
    let adapted = fleet.path("broker/tests.conf");
    fs::write(&adapted, text).unwrap();
    adapted
}

/// Debian installs it where only root's path looks.
fn mosquitto() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join("mosquitto")).find(|program| program.is_file()).unwrap_or_else(|| {
        panic!("mosquitto is missing: `cargo xtask test` installs it, or `apt-get install mosquitto`")
    })
}
