//! The disk as the store sees it: a port of files and folders, and its adapter to the system's.
//!
//! Purpose: every byte of the store passes here, so that the same code runs on the device's disk ([`SystemDisk`]) and on a
//! disk that loses power, space and bits by a seed ([`super::sim::SimDisk`]).
//!
//! What a caller may rely on, and no more: what [`DiskFile::sync`] said yes to survives a power cut; what was written since
//! may be there, be lost, or be there in part and in any order. A name that was made, changed or removed survives once
//! [`Disk::sync_folder`] said yes; a rename alone never loses both files. After a sync that failed, the system may hold in
//! memory what the disk does not have and will not write it again: [`DiskFile::forget_cache`] makes reads tell the truth.
//!
//! Failure modes: whatever the system says. What is not a regular file is [`io::ErrorKind::InvalidData`] where a file is
//! opened. Limits: none of its own.

use std::{
    ffi::OsString,
    fmt::Debug,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Advice, FallocateFlags, OFlags},
    io::Errno,
};

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To be read.
    Read,
    /// To be read and written; it must be there.
    Change,
    /// To be read and written; it is made where it is missing, for this user alone.
    Make,
    /// As [`Access::Make`], and for this user's group to read.
    Share,
    /// As [`Access::Make`], and emptied.
    Replace,
}

impl Access {
    /// Whether the file may be written.
    pub fn writes(self) -> bool {
        self != Self::Read
    }

    /// Whether a file that is missing is made.
    pub fn makes(self) -> bool {
        matches!(self, Self::Make | Self::Share | Self::Replace)
    }
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// Something else: a link, a socket, a device.
    Other,
}

/// What is known of a name without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// What it is.
    pub kind: Kind,
    /// Its length in bytes.
    pub length: u64,
    /// What it takes on the disk, in bytes.
    pub taken: u64,
}

/// Files and folders.
pub trait Disk: Debug + Send + Sync {
    /// Opens a regular file.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::InvalidData`] where it is no regular file.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>>;

    /// What a name stands for, `None` where there is none.
    ///
    /// # Errors
    /// What the system says.
    fn info(&self, path: &Path) -> io::Result<Option<Info>>;

    /// The names in a folder, in no order.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>>;

    /// Makes a folder for this user alone, and those above it; one that is there is no error.
    ///
    /// # Errors
    /// What the system says.
    fn make_folder(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name; a file of that name is replaced.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file, or a folder with all that is in it; nothing there is no error.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Puts a folder's names on disk.
    ///
    /// # Errors
    /// What the system says.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// What is free for this user on the disk of a folder, in bytes.
    ///
    /// # Errors
    /// What the system says.
    fn free(&self, folder: &Path) -> io::Result<u64>;

    /// An id of the time since the machine was started: it changes with every power cut.
    fn boot(&self) -> String;
}

/// An open file. Places are byte offsets from its start.
pub trait DiskFile: Debug + Send + Sync {
    /// Its length in bytes.
    ///
    /// # Errors
    /// What the system says.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has no bytes.
    ///
    /// # Errors
    /// What the system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads at a place; less than asked for, or nothing, at the end.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of it at a place.
    ///
    /// # Errors
    /// What the system says; then some of it may be written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Sets the length; new bytes are zero.
    ///
    /// # Errors
    /// What the system says.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// Sets the length of an empty file, and takes the room for it now where the file system can.
    ///
    /// # Errors
    /// What the system says: a full disk shows here and not half-way.
    fn reserve(&self, length: u64) -> io::Result<()>;

    /// Puts content and length on disk.
    ///
    /// # Errors
    /// What the system says; then it is not known what is on disk: see [`Self::forget_cache`].
    fn sync(&self) -> io::Result<()>;

    /// Has these bytes written to disk by and by, so that less is left for [`Self::sync`]. Nothing may rely on it.
    fn begin_writing(&self, _offset: u64, _length: u64) {}

    /// Locks it against all other openings, without waiting; false where another holds it. Closing unlocks.
    ///
    /// # Errors
    /// What the system says.
    fn try_lock(&self) -> io::Result<bool>;

    /// Unlocks it.
    ///
    /// # Errors
    /// What the system says.
    fn unlock(&self) -> io::Result<()>;

    /// Drops what the system holds of it in memory and has no reason to write, so that reads come from the disk.
    ///
    /// # Errors
    /// What the system says.
    fn forget_cache(&self) -> io::Result<()>;

    /// The file for others to read, at its start: a worker is given it.
    ///
    /// # Errors
    /// What the system says.
    fn into_file(self: Box<Self>) -> io::Result<File>;
}

/// Fills the buffer from a place; false where the file ends before.
///
/// # Errors
/// What the system says.
pub fn read_exact(file: &dyn DiskFile, mut buffer: &mut [u8], mut offset: u64) -> io::Result<bool> {
    while !buffer.is_empty() {
        match file.read_at(buffer, offset) {
            Ok(0) => return Ok(false),
            Ok(read) => {
                buffer = buffer.get_mut(read..).unwrap_or_default();
                offset = offset.saturating_add(read as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// The content of a file of at most `most` bytes; `None` where there is no file, or a longer one.
///
/// # Errors
/// What the system says.
pub fn read_short(disk: &dyn Disk, path: &Path, most: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, Access::Read) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => return Ok(None),
        opened => opened?,
    };
    let Some(length) = usize::try_from(file.len()?).ok().filter(|length| *length <= most) else { return Ok(None) };
    let mut bytes = vec![0; length];
    Ok(read_exact(&*file, &mut bytes, 0)?.then_some(bytes))
}

/// Whether the medium cannot give a file's bytes back: they are as good as damaged.
pub fn is_unreadable(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::IO.raw_os_error())
}

pub(super) fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file")
}

/// [`Disk`] of the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(access.writes());
        options.create(access.makes()).truncate(access == Access::Replace);
        // Whoever put a pipe in a file's place must not make the agent wait for its other end.
        let pipes = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
        let file =
            match options.mode(if access == Access::Share { 0o640 } else { 0o600 }).custom_flags(pipes).open(path) {
                Err(error) if error.kind() == io::ErrorKind::IsADirectory => return Err(not_a_file()),
                opened => opened?,
            };
        if file.metadata()?.is_file() { Ok(Box::new(SystemFile(file))) } else { Err(not_a_file()) }
    }

    fn info(&self, path: &Path) -> io::Result<Option<Info>> {
        let found = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found?,
        };
        let kind = match found.file_type() {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_dir() => Kind::Folder,
            _ => Kind::Other,
        };
        Ok(Some(Info { kind, length: found.len(), taken: found.blocks().saturating_mul(512) }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => fs::remove_dir_all(path),
            removed => removed,
        };
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn free(&self, folder: &Path) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(folder)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn boot(&self) -> String {
        fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
    }
}

#[derive(Debug)]
struct SystemFile(File);

impl DiskFile for SystemFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn reserve(&self, length: u64) -> io::Result<()> {
        if length == 0 {
            return Ok(());
        }
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, length) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => self.0.set_len(length),
            reserved => Ok(reserved?),
        }
    }

    fn sync(&self) -> io::Result<()> {
        // The length is synced with the data; only times are not.
        self.0.sync_data()
    }

    fn try_lock(&self) -> io::Result<bool> {
        match self.0.try_lock() {
            Ok(()) => Ok(true),
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn unlock(&self) -> io::Result<()> {
        self.0.unlock()
    }

    fn begin_writing(&self, offset: u64, length: u64) {
        // Linux begins to write what is dirty, and lets go of what is clean: nothing of what was written just now.
        let _ = rustix::fs::fadvise(&self.0, offset, std::num::NonZeroU64::new(length), Advice::DontNeed);
    }

    fn forget_cache(&self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(&self.0, 0, None, Advice::DontNeed)?)
    }

    fn into_file(self: Box<Self>) -> io::Result<File> {
        Ok(self.0)
    }
}

/// Makes a folder and those above it, so that their names survive a power cut.
///
/// # Errors
/// What the system says.
pub fn make_folder(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    for folder in path.ancestors().filter(|folder| !folder.as_os_str().is_empty()) {
        if disk.info(folder)?.is_some() {
            break;
        }
        missing.push(folder);
    }
    disk.make_folder(path)?;
    missing.into_iter().try_for_each(|folder| disk.sync_folder(&parent(folder)))
}

/// The folder that a path is in.
pub fn parent(path: &Path) -> PathBuf {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::create_dir(&path).unwrap();
        for access in [Access::Read, Access::Change, Access::Make, Access::Replace] {
            let error = SystemDisk.open(&path, access).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{access:?}");
        }
        SystemDisk.remove(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        assert_eq!(SystemDisk.open(&path, Access::Read).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(SystemDisk.info(&path).unwrap().unwrap().kind, Kind::Other);
    }

    #[test]
    fn removes_whatever_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        SystemDisk.remove(&path).unwrap();
        fs::create_dir_all(path.join("deep/deeper")).unwrap();
        fs::write(path.join("deep/file"), b"1").unwrap();
        SystemDisk.remove(&path).unwrap();
        assert_eq!(SystemDisk.info(&path).unwrap(), None);
    }

    #[test]
    fn one_opening_locks_out_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let open = || SystemDisk.open(&folder.path().join("x"), Access::Make).unwrap();
        let (first, second) = (open(), open());
        assert!(first.try_lock().unwrap());
        assert!(!second.try_lock().unwrap());
        drop(first);
        assert!(second.try_lock().unwrap());
    }
}
