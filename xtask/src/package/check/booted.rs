//! As a service that runs: the tree's own systemd starts the agent, stops it and starts it again.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{Packages, install, owned, provision, says, tree::Tree, unchanged};
use crate::clock;

const UNIT: &str = "sanderling-agent.service";
const RETRY: &str = "sanderling-agent-retry.service";
const LIMIT: Duration = Duration::from_secs(30);
const WRONG: &str = "/etc/sanderling/agent.toml.d/wrong.toml";
/// A shorter pause, so that the check does not wait for a minute.
const SHORT: &str = "/run/systemd/system/sanderling-agent-retry.service.d/short.conf";

pub(super) fn run(packages: &Packages<'_>, next: &Packages<'_>) -> Result<()> {
    let mut tree = Tree::new("booted")?;
    let before = tree.files()?;
    tree.boot()?;
    lifetime(&tree, packages, next).with_context(|| {
        let journal = tree.text(&["journalctl", "--no-pager", "--lines=30", "--output=short-monotonic"]);
        format!("the tree's journal ends with\n{}", journal.unwrap_or_default())
    })?;
    unchanged(&before, &tree.files()?)
}

fn lifetime(tree: &Tree, packages: &Packages<'_>, next: &Packages<'_>) -> Result<()> {
    install(tree, &[packages.agent, packages.tool])?;
    says(tree, &["systemctl", "is-enabled", UNIT], "enabled")?;
    // Nothing starts before the device is provisioned, and that is no failure.
    says(tree, &["systemctl", "is-active", UNIT], "inactive")?;
    says(tree, &["systemctl", "--failed", "--plain", "--no-legend"], "")?;
    provision(tree)?;
    started(tree).context("after provisioning")?;
    upgraded(tree, next).context("after the upgrade")?;
    killed(tree).context("after kill -9")?;
    refused(tree).context("with a configuration that is wrong")?;
    removed(tree).context("after the removal")?;
    tree.text(&["dpkg", "--purge", "sanderling-agent", "sanderling"])?;
    Ok(())
}

fn started(tree: &Tree) -> Result<()> {
    tree.text(&["systemctl", "start", UNIT])?;
    says(tree, &["systemctl", "is-active", UNIT], "active")?;
    owned(tree, "/var/lib/sanderling", "sanderling:sanderling 700")?;
    owned(tree, "/run/sanderling", "sanderling:sanderling 750")?;
    owned(tree, &format!("/proc/{}", process(tree)?), "sanderling:sanderling 555")
}

/// The later version runs, with the state of the earlier.
fn upgraded(tree: &Tree, next: &Packages<'_>) -> Result<()> {
    let (process, state) = (process(tree)?, state(tree)?);
    install(tree, &[next.agent])?;
    says(tree, &["systemctl", "is-active", UNIT], "active")?;
    ensure!(self::process(tree)? != process, "the agent of the earlier version still runs");
    ensure!(self::state(tree)? == state, "the state is another");
    Ok(())
}

/// It comes again by itself, without the pause that a wrong configuration has.
fn killed(tree: &Tree) -> Result<()> {
    let process = process(tree)?;
    tree.text(&["systemctl", "kill", "--signal=KILL", "--kill-who=main", UNIT])?;
    let again = || self::process(tree).ok().filter(|now| *now != process && *now != "0");
    clock::wait_for(LIMIT, again).context("it does not come again")?;
    says(tree, &["systemctl", "is-active", RETRY], "inactive")
}

/// The unit fails, where everybody sees it, and works again by itself once the configuration does.
fn refused(tree: &Tree) -> Result<()> {
    write(tree, WRONG, "nonsense = 1\n")?;
    let restart = tree.run(&["systemctl", "restart", UNIT])?;
    ensure!(!restart.status.success(), "it starts");
    says(tree, &["systemctl", "is-failed", UNIT], "failed")?;
    says(tree, &["systemctl", "is-active", RETRY], "activating")?;
    // Whoever stops it now does not find it running a minute later.
    tree.text(&["systemctl", "stop", UNIT])?;
    ended(tree)?;

    tree.text(&["mkdir", "-p", "/run/systemd/system/sanderling-agent-retry.service.d"])?;
    let short = "[Service]\nExecStart=\nExecStart=sleep 1\n";
    tree.text(&["sh", "-c", &format!("printf '{}' > {SHORT} && systemctl daemon-reload", short.replace('\n', "\\n"))])?;
    let _ = tree.run(&["systemctl", "start", UNIT])?;
    says(tree, &["systemctl", "is-failed", UNIT], "failed")?;
    fs::remove_file(tree.path(WRONG)).context("could not remove the fragment")?;
    let active = || tree.text(&["systemctl", "is-active", UNIT]).ok();
    clock::wait_for(LIMIT, active).context("it does not come again by itself")?;
    Ok(())
}

fn removed(tree: &Tree) -> Result<()> {
    // Also where it is between two attempts.
    write(tree, WRONG, "nonsense = 1\n")?;
    let _ = tree.run(&["systemctl", "restart", UNIT])?;
    tree.text(&["dpkg", "--remove", "sanderling-agent"])?;
    ended(tree)?;
    says(tree, &["find", "/proc", "-maxdepth", "1", "-user", "sanderling"], "")?;
    owned(tree, "/etc/sanderling/device.key", "root:sanderling 640")?;
    owned(tree, "/var/lib/sanderling", "sanderling:sanderling 700")
}

/// Nothing would start it again.
fn ended(tree: &Tree) -> Result<()> {
    let ended = || {
        (tree.text(&["systemctl", "show", "--property=ActiveState", "--value", RETRY]).ok()?.trim() == "inactive")
            .then_some(())
    };
    clock::wait_for(LIMIT, ended).context("it would be started again")
}

/// The number of the agent's process, as systemd knows it.
fn process(tree: &Tree) -> Result<String> {
    Ok(tree.text(&["systemctl", "show", "--property=MainPID", "--value", UNIT])?.trim().to_owned())
}

/// The files of the state that only a new device would have anew.
fn state(tree: &Tree) -> Result<String> {
    let state = tree.text(&["sh", "-c", "stat --format='%n %i %W' /var/lib/sanderling/*"])?;
    ensure!(state.lines().count() > 1, "the agent keeps {state}");
    Ok(state)
}

fn write(tree: &Tree, inside: &str, text: &str) -> Result<()> {
    fs::write(tree.path(inside), text).with_context(|| format!("could not write {inside}"))
}
