//! The folders that the agent writes to, and the room on their disks.
//!
//! Invariant: nothing stays. What is written to try a folder is a file without a name, where the file system has that, and
//! else nothing is written.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use rustix::fs::{Access, CWD, Mode, OFlags, StatVfsMountFlags};

use super::{Finding, Outcome};
use crate::settings::Settings;

const AREA: &str = "disk";

/// Looks at state and runtime folder.
pub(super) fn examine(settings: &Settings) -> Vec<Finding> {
    let state = existing(&settings.paths.state);
    let mut findings = vec![folder("state", &settings.paths.state)];
    findings.push(room(state, settings.limits.reserve_bytes));
    findings.push(folder("runtime", &settings.paths.runtime));
    findings
}

/// The folder, or the nearest above it that is there: the agent makes the rest.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"))
}

fn folder(check: &'static str, path: &Path) -> Finding {
    let there = existing(path);
    let (outcome, says) = match write(there) {
        Ok(()) if there == path => (Outcome::Good, format!("{} can be written", path.display())),
        Ok(()) => (Outcome::Good, format!("{} is not there yet and can be made", path.display())),
        Err(error) => (
            Outcome::Bad,
            format!(
                "{} cannot be written: {error}; run this as the agent's user, mount it writable, or correct [paths] {check}",
                there.display()
            ),
        ),
    };
    Finding { area: AREA, check, outcome, says }
}

fn room(folder: &Path, reserve: u64) -> Finding {
    let (outcome, says) = match rustix::fs::statvfs(folder) {
        Err(error) => (Outcome::Bad, format!("{} cannot be measured: {error}", folder.display())),
        Ok(found) if found.f_flag.contains(StatVfsMountFlags::RDONLY) => {
            (Outcome::Bad, format!("{} is on a disk that is mounted read-only; mount it writable", folder.display()))
        }
        Ok(found) => enough(found.f_bavail.saturating_mul(found.f_frsize), reserve),
    };
    Finding { area: AREA, check: "room", outcome, says }
}

fn enough(free: u64, reserve: u64) -> (Outcome, String) {
    let says = format!("{} MiB are free, of which {} stay so ([limits] reserve_bytes)", free >> 20, reserve >> 20);
    if free <= reserve {
        (Outcome::Bad, format!("{says}; no deployment is pulled and nothing is kept before there is more"))
    } else if free < reserve.saturating_mul(2) {
        (Outcome::Lacking, format!("{says}; there is little for the next deployment"))
    } else {
        (Outcome::Good, says)
    }
}

/// Writes a little where it leaves nothing behind.
fn write(folder: &Path) -> io::Result<()> {
    let nameless = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    match rustix::fs::open(folder, nameless, Mode::RUSR | Mode::WUSR) {
        Ok(file) => {
            let mut file = File::from(file);
            file.write_all(&[0; 4096])?;
            file.sync_all()
        }
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {
            Ok(rustix::fs::accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, rustix::fs::AtFlags::EACCESS)?)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_tried_without_leaving_anything_in_it() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(folder("state", home.path()).outcome, Outcome::Good);
        let deep = folder("state", &home.path().join("a/b"));
        assert!(deep.outcome == Outcome::Good && deep.says.contains("can be made"), "{}", deep.says);
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
        // No user writes there, root included.
        let closed = folder("runtime", Path::new("/proc/self/x"));
        assert!(closed.outcome == Outcome::Bad && closed.says.contains("[paths] runtime"), "{}", closed.says);
    }

    #[test]
    fn less_room_than_the_reserve_is_bad_and_less_than_twice_is_told_of() {
        assert_eq!(enough(16 << 20, 16 << 20).0, Outcome::Bad);
        assert_eq!(enough(17 << 20, 16 << 20).0, Outcome::Lacking);
        assert_eq!(enough(32 << 20, 16 << 20).0, Outcome::Good);
        assert_eq!(enough(1, 0).0, Outcome::Good);
    }
}
