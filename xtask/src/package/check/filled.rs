//! As an image is filled: a chroot in which no systemd runs.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::{FLEET, Packages, install, owned, provision, says, tree::Tree, unchanged};

const UNIT: &str = "sanderling-agent.service";

pub(super) fn run(packages: &Packages<'_>, next: &Packages<'_>) -> Result<()> {
    let tree = Tree::new("filled")?;
    let before = tree.files()?;
    install(&tree, &[packages.agent, packages.tool])?;
    installed(&tree).context("after the installation")?;
    documented(&tree)?;
    provision(&tree)?;
    provisioned(&tree).context("provisioned as docs/installing.md says")?;
    upgraded(&tree, packages, next).context("after the upgrade")?;
    removed(&tree).context("after the removal")?;
    tree.text(&["dpkg", "--purge", "sanderling-agent", "sanderling"])?;
    unchanged(&before, &tree.files()?)?;
    // Whoever purges what is installed means the same.
    install(&tree, &[packages.agent])?;
    provision_again(&tree)?;
    tree.text(&["dpkg", "--purge", "sanderling-agent"])?;
    unchanged(&before, &tree.files()?)
}

fn installed(tree: &Tree) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    says(tree, &["sanderling-agent", "--version"], &format!("sanderling-agent {version}"))?;
    says(tree, &["sanderling", "--version"], &format!("sanderling {version}"))?;
    let check = tree.run(&["sanderling-agent", "check"])?;
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    ensure!(check.status.code() == Some(78) && said.contains("sanderling provision device"), "check says {said}");
    // What the worker needs of the system is there, where the agent looks for it.
    let worker = tree.text(&["ldd", "/usr/libexec/sanderling/sanderling-worker"])?;
    ensure!(!worker.contains("not found"), "the worker lacks libraries: {worker}");
    says(
        tree,
        &["sh", "-c", "getent passwd sanderling | cut -d: -f5-"],
        "Sanderling agent:/var/lib/sanderling:/usr/sbin/nologin",
    )?;
    says(tree, &["sh", "-c", "getent group gpio iio | cut -d: -f1"], "gpio\niio")?;
    says(tree, &["systemctl", "is-enabled", UNIT], "enabled")?;
    owned(tree, "/etc/sanderling", "root:sanderling 750")?;
    owned(tree, "/etc/sanderling/agent.toml.d", "root:sanderling 750")?;
    owned(tree, "/usr/bin/sanderling-agent", "root:root 755")?;
    owned(tree, "/usr/libexec/sanderling/sanderling-worker", "root:root 755")?;
    // The example as it is shipped is one: every key of it is known.
    tree.text(&["sh", "-c", "grep -q '^\\[broker\\]' /usr/share/doc/sanderling-agent/examples/agent.toml"])?;
    says(tree, &["dpkg-query", "--show", "--showformat=${Conffiles}", "sanderling-agent", "sanderling"], "")?;
    // The budget of the unit's hardening, in tenths.
    let unit = format!("/usr/lib/systemd/system/{UNIT}");
    tree.text(&["systemd-analyze", "security", "--offline=true", "--threshold=15", &unit])?;
    Ok(())
}

/// Every manual page is found and is well formed, and the shell completes.
fn documented(tree: &Tree) -> Result<()> {
    let listed = tree.text(&["dpkg", "-L", "sanderling-agent", "sanderling"])?;
    let pages: Vec<&str> =
        listed.lines().filter(|path| path.starts_with("/usr/share/man/") && path.ends_with(".gz")).collect();
    ensure!(pages.len() > 30, "there are {} manual pages", pages.len());
    for page in ["sanderling-agent", "sanderling", "sanderling-repo-publish"] {
        says(tree, &["sh", "-c", &format!("man -w {page} >/dev/null && echo found")], "found")?;
    }
    let script = format!(
        "for page in {}; do man --warnings --encoding=UTF-8 --pager=cat -l $page >/dev/null; done",
        pages.join(" ")
    );
    let rendered = tree.run(&["sh", "-c", &script])?;
    ensure!(rendered.stderr.is_empty(), "man says {}", String::from_utf8_lossy(&rendered.stderr));
    let complete = "source /usr/share/bash-completion/completions/sanderling; COMP_WORDS=(sanderling prov) COMP_CWORD=1; \
                    _sanderling sanderling prov sanderling; echo \"${COMPREPLY[*]}\"";
    says(tree, &["bash", "-c", complete], "provision")
}

/// The agent reads what was copied, and nobody else the key.
fn provisioned(tree: &Tree) -> Result<()> {
    owned(tree, "/etc/sanderling/device.key", "root:sanderling 640")?;
    let agent = ["runuser", "-u", "sanderling", "--", "sanderling-agent", "check"];
    says(tree, &agent, "/etc/sanderling/agent.toml: the configuration is right")?;
    let other = tree.run(&["runuser", "-u", "nobody", "--", "cat", "/etc/sanderling/device.key"])?;
    ensure!(!other.status.success(), "nobody can read the device's key");
    // What an agent that ran would have left.
    tree.text(&["install", "-d", "-o", "sanderling", "-g", "sanderling", "-m", "700", "/var/lib/sanderling"])?;
    tree.text(&["runuser", "-u", "sanderling", "--", "touch", "/var/lib/sanderling/kept"])?;
    Ok(())
}

fn upgraded(tree: &Tree, packages: &Packages<'_>, next: &Packages<'_>) -> Result<()> {
    let kept = kept(tree)?;
    install(tree, &[next.agent, next.tool])?;
    ensure!(kept == self::kept(tree)?, "configuration or state changed");
    says(tree, &["systemctl", "is-enabled", UNIT], "enabled")?;
    // What the administrator decided stays.
    tree.text(&["systemctl", "disable", UNIT])?;
    install(tree, &[packages.agent])?;
    says(tree, &["systemctl", "is-enabled", UNIT], "disabled").context("disabled by hand")?;
    tree.text(&["systemctl", "enable", UNIT])?;
    install(tree, &[next.agent])?;
    says(tree, &["systemctl", "is-enabled", UNIT], "enabled")
}

fn removed(tree: &Tree) -> Result<()> {
    let kept = kept(tree)?;
    tree.text(&["dpkg", "--remove", "sanderling-agent", "sanderling"])?;
    ensure!(kept == self::kept(tree)?, "configuration or state changed");
    for gone in ["/usr/bin/sanderling-agent", "/usr/libexec/sanderling", "/usr/lib/sysusers.d/sanderling.conf"] {
        ensure!(!tree.path(gone).exists(), "{gone} is left");
    }
    Ok(())
}

/// What outlives everything but a purge: owners, modes and digests.
fn kept(tree: &Tree) -> Result<String> {
    let script = "find /etc/sanderling /var/lib/sanderling -printf '%p %u:%g %m\\n' | sort; \
                  find /etc/sanderling /var/lib/sanderling -type f -exec sha256sum {} + | sort";
    let kept = tree.text(&["sh", "-c", script])?;
    ensure!(kept.contains("device.key") && kept.contains("/var/lib/sanderling/kept"), "there is only {kept}");
    Ok(kept)
}

fn provision_again(tree: &Tree) -> Result<()> {
    let device = tree.path(FLEET).join("fleet/devices/gw-1/device.key");
    let to = tree.path("/etc/sanderling/device.key");
    fs::copy(&device, &to).with_context(|| format!("could not copy {}", device.display()))?;
    Ok(())
}
