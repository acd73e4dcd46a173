//! Files that are there as a whole or not at all.
//!
//! Invariant: after [`write()`] returns, a power cut leaves the new content; before it returns, the old or the new, never a
//! mixture: the bytes go to a temporary file beside, are synced, renamed, and the folder is synced.
//! Failure modes: an error leaves the old file, or the new one where only the last sync failed; a temporary file that a power
//! cut left is overwritten by the next write.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use crate::store::disk::{Access, Disk, parent};

/// Writes a file with this content, for this user alone.
///
/// # Errors
/// What the system says: no space, no permission, no such folder.
pub fn write(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary(path)?;
    let written = write_synced(disk, &temporary, bytes).and_then(|()| rename(disk, &temporary, path));
    if written.is_err() {
        // The write's error is the one that tells; a file that stays is overwritten next time.
        let _ = disk.remove(&temporary);
    }
    written
}

/// Renames a file whose content is synced, and syncs the folder.
///
/// # Errors
/// What the system says.
pub fn rename(disk: &dyn Disk, from: &Path, to: &Path) -> io::Result<()> {
    disk.rename(from, to)?;
    disk.sync_folder(&parent(to))
}

/// The name under which a file is made before it gets its own.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] where the path has no file name.
pub fn temporary(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(".tmp");
    Ok(path.with_file_name(temporary))
}

fn write_synced(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = match disk.open(path, Access::Replace) {
        // A folder in its place, by whatever accident.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            disk.remove(path)?;
            disk.open(path, Access::Replace)?
        }
        opened => opened?,
    };
    file.write_at(bytes, 0)?;
    file.sync()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::disk::SystemDisk;

    #[test]
    fn replaces_the_content_and_leaves_nothing_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        write(&SystemDisk, &path, b"old, and longer").unwrap();
        write(&SystemDisk, &path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::create_dir(&path).unwrap();
        assert!(write(&SystemDisk, &path, b"new").is_err());
        assert!(path.is_dir());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write(&SystemDisk, &folder.path().join("absent/x"), b"").is_err());
    }

    #[test]
    fn a_folder_in_the_way_of_the_temporary_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::create_dir_all(temporary(&path).unwrap().join("deep")).unwrap();
        write(&SystemDisk, &path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}
