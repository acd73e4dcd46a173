//! The demo's gateway: a real agent process with a configuration of its own, ended by its handle.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::DemoOptions;
use crate::home;

/// The gateway's device id.
pub(super) const DEVICE: &str = "demo-gateway";
/// The name of its sensor.
pub(super) const SENSOR: &str = "cam0";
/// Images a second that the sensor gives.
const RATE: u32 = 400;

/// A running agent.
pub(super) struct Gateway {
    child: Child,
    log: PathBuf,
}

impl Gateway {
    /// Starts the agent with the provisioned configuration in `folder`, and the held-out images as its camera.
    pub(super) fn start(options: &DemoOptions, folder: &Path) -> Result<Self> {
        let quoted = |path: &Path| -> Result<String> {
            let path = path.canonicalize().with_context(|| format!("could not find {}", path.display()))?;
            Ok(serde_json::to_string(&path.to_string_lossy())?)
        };
        let fragment = format!(
            "[paths]\nworker = {worker}\nruntime = {runtime}\n\n[report]\nmin_s = 0.1\n\n[sensor.{SENSOR}]\nkind = \"replay\"\npath = {images}\nrate = {RATE}\nloop = true\n",
            worker = quoted(&options.worker)?,
            runtime = quoted(folder)?,
            images = quoted(&options.images)?,
        );
        home::write(&folder.join("agent.toml.d/demo.toml"), fragment.as_bytes())?;
        let log = folder.join("agent.log");
        let file = std::fs::File::create(&log).with_context(|| format!("could not make {}", log.display()))?;
        let child = Command::new(&options.agent)
            .arg("--config")
            .arg(folder.join("agent.toml"))
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("could not start {}", options.agent.display()))?;
        Ok(Self { child, log })
    }

    /// An error with the end of its log where the agent has ended.
    pub(super) fn check(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        bail!("the agent ended with {status}; its log ends: {}", self.log_end());
    }

    /// The last lines of its log.
    pub(super) fn log_end(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(20)).copied().collect::<Vec<_>>().join("\n")
    }

    /// The agent's process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // The workers die with it: they ask the kernel for that.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The proportional set size of a process in KiB: its own memory, and its share of what it shares.
pub(super) fn pss_kib(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("could not read {path}"))?;
    let line = text.lines().find(|line| line.starts_with("Pss:")).context("no Pss line")?;
    line.split_whitespace().nth(1).and_then(|figure| figure.parse().ok()).context("no figure in the Pss line")
}
