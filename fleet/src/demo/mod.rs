//! `sanderling demo`: the main job on real parts, in one minute.
//!
//! A broker with mutual TLS in this process, a real agent with its worker beside it, real keys, and images that the model never saw.
//! What it shows is measured in that run; it succeeds only if everything held.

mod gateway;
mod observer;
mod score;
mod story;
mod summary;

use std::{cell::Cell, path::PathBuf};

use anyhow::Result;
use sanderling_protocol::reported::{DeploymentState, Reported};

use crate::clock::Stopwatch;

/// The programs and files that the demo shows; `cargo xtask demo` builds and names them.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct DemoOptions {
    /// The program sanderling-agent.
    #[arg(long)]
    agent: PathBuf,
    /// The program sanderling-worker.
    #[arg(long)]
    worker: PathBuf,
    /// The guest: surface-defect.wasm.
    #[arg(long)]
    module: PathBuf,
    /// The model.
    #[arg(long)]
    model: PathBuf,
    /// A later version of the model.
    #[arg(long)]
    next_model: PathBuf,
    /// The folder of held-out images and their labels.csv.
    #[arg(long)]
    images: PathBuf,
    /// Keep the demo's folder and say where it is.
    #[arg(long)]
    keep: bool,
}

/// Runs the demo; `false` where something did not hold.
pub(crate) async fn demo(options: &DemoOptions, json: bool) -> Result<bool> {
    let folder = tempfile::Builder::new().prefix("sanderling-demo-").tempdir()?;
    let tell = Tell { clock: Stopwatch::start(), shown: Cell::new(None) };
    let told = story::tell(options, folder.path(), &tell).await;
    if options.keep {
        eprintln!("the demo's folder is {}", folder.keep().display());
    }
    let summary = told?;
    summary.print(json)?;
    Ok(summary.ok())
}

/// Tells on standard error what happens, and when.
pub(crate) struct Tell {
    clock: Stopwatch,
    shown: Cell<Option<(u64, DeploymentState)>>,
}

impl Tell {
    /// A new chapter.
    fn step(&self, what: &str) {
        eprintln!("\n{:6.2} s  {what}", self.clock.elapsed().as_secs_f64());
    }

    /// Something that happened in it.
    fn seen(&self, what: impl std::fmt::Display) {
        eprintln!("{:6.2} s    {what}", self.clock.elapsed().as_secs_f64());
    }

    /// How far a deployment is, each state once.
    fn deployment(&self, reported: Option<&Reported>) {
        let Some(Reported { deployment: Some(deployment), metadata, .. }) = reported else { return };
        let before = self.shown.replace(Some((deployment.version, deployment.state)));
        if before == self.shown.get() {
            return;
        }
        if before.map(|(version, _)| version) != Some(deployment.version) {
            self.seen(format_args!(
                "trust verified: root {}, timestamp {}, snapshot {}, deployments {}",
                metadata.root, metadata.timestamp, metadata.snapshot, deployment.version
            ));
        }
        let held = deployment.progress.map(|progress| format!(", {} of {} bytes held", progress.held, progress.total));
        self.seen(format_args!("deployment {}: {:?}{}", deployment.name, deployment.state, held.unwrap_or_default()));
    }
}
