//! `sanderling-bench`: what is promised of speed and memory, measured.
//!
//! Purpose: prints a row for each figure that the design holds itself to, beside a reference that is measured in the same run on the
//! same machine: paired, taking turns, medians. `cargo xtask bench` builds what it measures and calls it.
//!
//! Invariants: a figure behind its budget is printed as such and fails nothing. Each group of rows runs in a process of its own, so
//! that memory of one does not count for another, and what cannot be measured costs its own rows alone; it is then named on
//! standard error, and the exit status is 1.
//!
//! Limits: absolute figures are those of this machine under what else it does; compare ratios.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints")]

mod groups;
mod kernels;
mod measure;
mod report;
mod rows;
mod settings;

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::{groups::Group, report::Table, settings::Settings};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sanderling-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything that was asked for could be measured.
fn run() -> Result<bool> {
    let settings = Settings::read()?;
    if let Some(group) = &settings.group {
        let found = Group::all().iter().find(|known| known.name == group.as_str());
        let rows = (found.context("there is no such group")?.measure)()?;
        for row in rows.iter().filter(|row| settings.wants(row.name)) {
            println!("{}", row.to_json());
        }
        return Ok(true);
    }
    let wanted = Group::all().iter().filter(|group| group.rows.iter().any(|row| settings.wants(row)));
    let wanted: Vec<&Group> = wanted.collect();
    if wanted.is_empty() {
        bail!(
            "no row is called so; there are {}",
            Group::all().iter().flat_map(|group| group.rows).copied().collect::<Vec<_>>().join(", ")
        );
    }
    let mut table = Table::new(settings.json);
    let mut complete = true;
    for group in wanted {
        let mut show = |row: Value| table.show(&row);
        if let Err(error) = measure(&settings, group, &mut show) {
            complete = false;
            eprintln!("sanderling-bench: {} could not be measured: {error:#}", group.rows.join(", "));
        }
    }
    table.end();
    Ok(complete)
}

/// Runs a group in a process of its own. Whatever it leaves behind ends with it.
fn measure(settings: &Settings, group: &Group, show: &mut dyn FnMut(Value)) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(&settings.passed).args(["--group", group.name]);
    command.env("SANDERLING_PROGRAMS", &settings.programs).env("SANDERLING_GUESTS", &settings.guests);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    let mut child = command.spawn().context("could not start")?;
    let output = child.stdout.take().context("no output")?;
    for line in BufReader::new(output).lines() {
        show(serde_json::from_str(&line?)?);
    }
    let status = child.wait()?;
    if !status.success() {
        if let Some(id) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            // An error means that nothing of it is left.
            let _ = kill_process_group(id, Signal::KILL);
        }
        bail!("{status}; what went wrong stands above");
    }
    Ok(())
}
