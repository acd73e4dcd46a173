//! A Debian system in a folder, to install packages in: as an image is filled, or booted with its own systemd.
//!
//! Limits: needs root (namespaces, chroot). A booted tree has the kernel of this machine and no devices, no network, no udev.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    clock,
    process::{find, output, run, step, target_dir},
    setup,
};

const SUITE: &str = "bookworm";
/// What the packages depend on, what looks at their manual pages, and what a first look at an image would need.
const INCLUDE: &str = "bash-completion,man-db,systemd,udev";
/// Terminals are this machine's.
const CUSTOMIZE: &str = r#"systemctl --quiet --root="$1" mask getty.target"#;

/// In namespaces of its own, so that nothing stays mounted. `$0` is the tree.
const CHROOT: &str = r#"mount --make-rprivate / && mount -t proc proc "$0/proc" && exec chroot "$0" "$@""#;
/// Into a group of processes of its own, below that of the caller: two systemds in one would take the other's services for
/// what is left of their own. `$1` is its name, `$2` what is run in it.
const GROUP: &str = r#"set -e
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    group="/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/$1"
else
    group="/sys/fs/cgroup/systemd$(sed -n 's/^[0-9]*:name=systemd://p' /proc/self/cgroup)/$1"
fi
mkdir -p "$group"
echo $$ > "$group/cgroup.procs"
exec unshare --mount --pid --uts --ipc --net --cgroup --fork --kill-child sh -c "$2" "$0""#;
/// A tree that is booted sees sysfs read-only, as in a container: systemd leaves devices alone then. It is the root of its
/// namespace, since the kernel makes no namespace of users, as the agent's unit has it, for a process in a chroot.
const BOOT: &str = r#"set -e
mount --make-rprivate /
mount --bind "$0" "$0"
mount -t proc proc "$0/proc"
mount -t sysfs -o ro sysfs "$0/sys"
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup2 "$0/sys/fs/cgroup"
else
    mount -t tmpfs tmpfs "$0/sys/fs/cgroup"
    mkdir "$0/sys/fs/cgroup/systemd"
    mount -t cgroup -o none,name=systemd cgroup "$0/sys/fs/cgroup/systemd"
fi
mount -t tmpfs tmpfs "$0/run"
mount -t tmpfs tmpfs "$0/tmp"
cd "$0"
pivot_root . mnt
exec env -i container=sanderling PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . sh -c 'umount -l /mnt && exec /lib/systemd/systemd'"#;

/// A file of a tree, as far as packages could change it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) size: u64,
    link: Option<PathBuf>,
}

/// A tree; removed when this is dropped, with what runs in it.
pub(super) struct Tree {
    folder: PathBuf,
    init: Option<(Child, u32)>,
}

impl Tree {
    /// Unpacks a fresh one; what it is made of is fetched once.
    pub(super) fn new(name: &str) -> Result<Self> {
        let folder = target_dir().join("package").join("trees").join(name);
        let tree = Self { folder, init: None };
        tree.remove()?;
        fs::create_dir_all(&tree.folder).with_context(|| format!("could not create {}", tree.folder.display()))?;
        let archive = archive()?;
        run(Command::new("tar").arg("-C").arg(&tree.folder).arg("--numeric-owner").arg("-xpf").arg(archive))?;
        Ok(tree)
    }

    /// Starts its systemd, and waits until it has started all.
    pub(super) fn boot(&mut self) -> Result<()> {
        let log = self.folder.with_extension("log");
        let errors = fs::File::create(&log).with_context(|| format!("could not write {}", log.display()))?;
        let mut child = Command::new("sh")
            .args(["-c", GROUP])
            .arg(&self.folder)
            .arg(group())
            .arg(BOOT)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .context("could not start unshare")?;
        let init = clock::wait_for(Duration::from_secs(10), || first(child.id()));
        let Some(init) = init else {
            let _ = child.kill();
            bail!("the tree's systemd did not start; see {}", log.display());
        };
        self.init = Some((child, init));
        let running = || {
            let said = self.run(&["systemctl", "is-system-running"]).ok()?;
            let said = String::from_utf8_lossy(&said.stdout).trim().to_owned();
            ["running", "degraded"].contains(&said.as_str()).then_some(said)
        };
        match clock::wait_for(Duration::from_secs(60), running).as_deref() {
            Some("running") => Ok(()),
            Some(_) => bail!("of the tree's own units failed: {}", self.text(&["systemctl", "--failed", "--plain"])?),
            None => bail!("the tree's systemd did not come up within a minute; see {}", log.display()),
        }
    }

    /// Runs a command in it, as root.
    pub(super) fn run(&self, words: &[&str]) -> Result<Output> {
        let mut command;
        if let Some((_, init)) = &self.init {
            command = Command::new("nsenter");
            command.args(["--target", &init.to_string(), "--all", "--root", "--wd", "--"]);
        } else {
            command = Command::new("unshare");
            command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", CHROOT]).arg(&self.folder);
        }
        command.args(words).stdin(Stdio::null()).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.envs([("LC_ALL", "C.UTF-8"), ("DEBIAN_FRONTEND", "noninteractive"), ("HOME", "/root")]);
        command.output().with_context(|| format!("could not start {}", words.join(" ")))
    }

    /// Runs a command that has to go well; what it printed.
    pub(super) fn text(&self, words: &[&str]) -> Result<String> {
        let output = self.run(words)?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("in the tree, {} ended with {}: {stdout}{stderr}", words.join(" "), output.status);
        }
        Ok(stdout)
    }

    /// A path of it, from outside.
    pub(super) fn path(&self, inside: &str) -> PathBuf {
        self.folder.join(inside.trim_start_matches('/'))
    }

    /// Every file and folder of it, by path, without what a booted tree has mounted.
    pub(super) fn files(&self) -> Result<BTreeMap<String, Entry>> {
        let mut found = BTreeMap::new();
        list(&self.folder, "", &mut found)?;
        Ok(found)
    }

    fn remove(&self) -> Result<()> {
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder).with_context(|| format!("could not remove {}", self.folder.display()))?;
        }
        Ok(())
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if let Some((mut child, init)) = self.init.take() {
            // The end of the first process of a namespace is the end of all in it.
            let _ = Command::new("kill").args(["-KILL", &init.to_string()]).status();
            let _ = child.wait();
            let mut folders = Command::new("find");
            folders.args(["/sys/fs/cgroup", "-depth", "-type", "d", "-path"]).arg(format!("*/{}*", group()));
            let _ = folders.args(["-exec", "rmdir", "{}", ";"]).status();
        }
        let _ = self.remove();
    }
}

/// The first process of the namespace that this one made, once it is no shell any more.
fn first(unshare: u32) -> Option<u32> {
    let name = fs::read_to_string(format!("/proc/{unshare}/comm")).ok()?;
    let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).ok()?;
    if name.trim() == "unshare" { children.trim().parse().ok() } else { None }
}

/// The name of the group of processes that a tree is booted in.
fn group() -> String {
    format!("sanderling-check-{}", std::process::id())
}

fn list(folder: &Path, inside: &str, found: &mut BTreeMap<String, Entry>) -> Result<()> {
    let failed = || format!("could not look at {}", folder.display());
    for entry in fs::read_dir(folder).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let meta = entry.metadata().with_context(failed)?;
        let path = format!("{inside}/{}", entry.file_name().to_string_lossy());
        let kind = meta.file_type();
        let size = if kind.is_file() { meta.len() } else { 0 };
        let link = if kind.is_symlink() { fs::read_link(entry.path()).ok() } else { None };
        if kind.is_dir() {
            list(&entry.path(), &path, found)?;
        }
        if !kind.is_socket() {
            found.insert(path, Entry { mode: meta.mode(), owner: (meta.uid(), meta.gid()), size, link });
        }
    }
    Ok(())
}

/// The system as mmdebstrap makes it, made anew where it is to be made otherwise.
fn archive() -> Result<PathBuf> {
    if output(Command::new("id").arg("-u"))?.trim() != "0" {
        bail!("packages are tried in a tree of their own, which needs root: run it as root");
    }
    if find("mmdebstrap").is_none() {
        setup::install(&["mmdebstrap"])?;
    }
    let folder = target_dir().join("package");
    let (archive, stamp) = (folder.join("tree.tar"), folder.join("tree.made-of"));
    let made_of = [SUITE, INCLUDE, CUSTOMIZE].join("\n");
    if archive.is_file() && fs::read_to_string(&stamp).is_ok_and(|before| before == made_of) {
        return Ok(archive);
    }
    step("making a Debian tree (two minutes, once)");
    let mut make = Command::new("mmdebstrap");
    make.args(["--quiet", "--variant=minbase", &format!("--include={INCLUDE}")]);
    make.arg(format!("--customize-hook={CUSTOMIZE}")).arg(SUITE).arg(&archive).arg("http://deb.debian.org/debian");
    run(make.stdout(std::io::stderr()))?;
    fs::write(&stamp, made_of).with_context(|| format!("could not write {}", stamp.display()))?;
    Ok(archive)
}
