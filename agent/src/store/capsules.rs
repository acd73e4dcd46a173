//! Capsules as files: `capsules/<number>-<id>.tar`, numbered in the order in which they were kept.
//!
//! Invariants: a capsule is there as a whole or not at all. There are never more than the configuration says, in number and in
//! bytes: the oldest go first.
//!
//! Failure modes: whatever the disk says; a capsule that cannot be kept is left out and harms nothing. Files with other names are
//! left alone.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use sanderling_protocol::capsule::{CapsuleId, Listed};

use super::disk::{Access, Disk, Kind};
use crate::atomic_file;

/// How many capsules are kept, and how large they may be together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// In number.
    pub most: usize,
    /// In bytes.
    pub bytes: u64,
    /// What must stay free on the disk, in bytes.
    pub reserve: u64,
}

/// The folder of capsules.
#[derive(Debug)]
pub struct CapsuleFolder {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    room: Room,
}

struct Found {
    number: u64,
    listed: Listed,
    path: PathBuf,
}

impl CapsuleFolder {
    /// The capsules in `capsules/` of the state directory; the folder is made with the first.
    pub fn new(disk: Arc<dyn Disk>, state: &Path, room: Room) -> Self {
        Self { disk, folder: state.join("capsules"), room }
    }

    /// Keeps a capsule; the oldest make room.
    ///
    /// # Errors
    /// What the disk says; `StorageFull` where it is larger than all of them may be, or the disk has no room.
    pub fn keep(&self, id: &CapsuleId, capsule: &[u8]) -> io::Result<()> {
        let length = u64::try_from(capsule.len()).unwrap_or(u64::MAX);
        if self.room.most == 0 || length > self.room.bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.disk.make_folder(&self.folder)?;
        let mut found = self.found()?;
        let number = found.last().map_or(1, |last| last.number.saturating_add(1));
        let mut taken: u64 = found.iter().map(|one| one.listed.length).sum();
        while found.len() >= self.room.most || taken.saturating_add(length) > self.room.bytes {
            let oldest = found.remove(0);
            self.disk.remove(&oldest.path)?;
            taken = taken.saturating_sub(oldest.listed.length);
        }
        if self.disk.free(&self.folder)? < self.room.reserve.saturating_add(length) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        atomic_file::write(&*self.disk, &self.folder.join(format!("{number:010}-{id}.tar")), capsule)
    }

    /// The capsules that there are, oldest first.
    ///
    /// # Errors
    /// What the disk says.
    pub fn list(&self) -> io::Result<Vec<Listed>> {
        Ok(self.found()?.into_iter().map(|one| one.listed).collect())
    }

    /// A part of a capsule, and the length of the whole; `None` where there is no such capsule.
    ///
    /// # Errors
    /// What the disk says.
    pub fn read(&self, id: &CapsuleId, offset: u64, most: usize) -> io::Result<Option<(Vec<u8>, u64)>> {
        let Some(found) = self.found()?.into_iter().find(|one| one.listed.id == *id) else { return Ok(None) };
        let file = self.disk.open(&found.path, Access::Read)?;
        let length = file.len()?;
        let wanted = length.saturating_sub(offset).min(u64::try_from(most).unwrap_or(u64::MAX));
        let mut part = vec![0; usize::try_from(wanted).unwrap_or(0)];
        super::disk::read_exact(&*file, &mut part, offset)?;
        Ok(Some((part, length)))
    }

    fn found(&self) -> io::Result<Vec<Found>> {
        if self.disk.info(&self.folder)?.is_none() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for name in self.disk.list(&self.folder)? {
            let path = self.folder.join(&name);
            let Some((number, id)) = name.to_str().and_then(parse) else { continue };
            let Some(info) = self.disk.info(&path)?.filter(|info| info.kind == Kind::File) else { continue };
            found.push(Found { number, listed: Listed { id, length: info.length }, path });
        }
        found.sort_unstable_by_key(|one| one.number);
        Ok(found)
    }
}

fn parse(name: &str) -> Option<(u64, CapsuleId)> {
    let (number, id) = name.strip_suffix(".tar")?.split_once('-')?;
    Some((number.parse().ok()?, id.parse().ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::disk::SystemDisk;
    use sanderling_protocol::digest::Digest;

    fn folder(state: &Path, most: usize, bytes: u64) -> CapsuleFolder {
        CapsuleFolder::new(Arc::new(SystemDisk), state, Room { most, bytes, reserve: 0 })
    }

    fn id(number: u8) -> CapsuleId {
        CapsuleId::of(&Digest::of(&[number]))
    }

    fn ids(folder: &CapsuleFolder) -> Vec<CapsuleId> {
        folder.list().unwrap().into_iter().map(|listed| listed.id).collect()
    }

    #[test]
    fn the_oldest_make_room_in_number_and_in_bytes() {
        let state = tempfile::tempdir().unwrap();
        let three = folder(state.path(), 3, 1000);
        assert_eq!(three.list().unwrap(), []);
        for number in 1..=5 {
            three.keep(&id(number), &[number; 100]).unwrap();
        }
        assert_eq!(ids(&three), [id(3), id(4), id(5)]);
        three.keep(&id(6), &[6; 850]).unwrap();
        assert_eq!(ids(&three), [id(5), id(6)]);
        assert_eq!(three.keep(&id(7), &[7; 1001]).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(ids(&three), [id(5), id(6)], "what does not fit drives nothing out");
    }

    #[test]
    fn a_capsule_is_read_in_parts_and_survives_a_restart() {
        let state = tempfile::tempdir().unwrap();
        folder(state.path(), 3, 1000).keep(&id(1), b"0123456789").unwrap();
        let again = folder(state.path(), 3, 1000);
        assert_eq!(again.read(&id(1), 0, 4).unwrap(), Some((b"0123".to_vec(), 10)));
        assert_eq!(again.read(&id(1), 8, 4).unwrap(), Some((b"89".to_vec(), 10)));
        assert_eq!(again.read(&id(1), 99, 4).unwrap(), Some((Vec::new(), 10)));
        assert_eq!(again.read(&id(2), 0, 4).unwrap(), None);
    }

    #[test]
    fn what_else_lies_in_the_folder_is_left_alone() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("capsules");
        std::fs::create_dir_all(path.join("0000000001-0123456789abcdef.tar")).unwrap();
        std::fs::write(path.join("notes.txt"), b"mine").unwrap();
        let one = folder(state.path(), 1, 1000);
        one.keep(&id(1), b"a").unwrap();
        one.keep(&id(2), b"b").unwrap();
        assert_eq!(ids(&one), [id(2)]);
        assert!(path.join("notes.txt").exists());
    }
}
