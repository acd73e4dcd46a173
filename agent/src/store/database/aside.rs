//! What becomes of a damaged database: it gets the name `state.redb.damaged.<n>`, and `n` is counted in
//! `state.redb.damages`.
//!
//! Invariants: the count never falls while either the count's file or a file that was set aside is whole: it is the larger
//! of the two. A count's file that does not carry its own digest counts for nothing.
//!
//! Limits: [`MOST_KEPT`] files are kept, the newest, each cut to [`MOST_BYTES`] bytes: they are for whoever looks into it.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use super::{beside, sealed, unsealed};
use crate::{
    atomic_file,
    store::disk::{Access, Disk, Kind, parent, read_short},
};

/// So many damaged databases are kept.
pub(super) const MOST_KEPT: usize = 2;
/// Of each, this many bytes.
pub(super) const MOST_BYTES: u64 = 4 << 20;

const COUNT: &str = ".damages";
const ASIDE: &str = ".damaged.";

/// How often the database of this path was set aside.
pub(super) fn count(disk: &dyn Disk, path: &Path) -> u32 {
    let named = kept(disk, path).last().map_or(0, |(number, _)| *number);
    written(disk, path).unwrap_or(0).max(named)
}

/// Sets a database aside and counts it. Gives the count.
///
/// # Errors
/// What the system says; the database is aside then, or is not.
pub(super) fn set_aside(disk: &dyn Disk, path: &Path) -> io::Result<u32> {
    let number = count(disk, path).saturating_add(1);
    let target = beside(path, &format!("{ASIDE}{number}"));
    disk.remove(&target)?;
    atomic_file::rename(disk, path, &target)?;
    // The name tells the number too: a count that cannot be written, and old ones that stay, are no reason to stop.
    if let Err(error) = write_count(disk, path, number) {
        tracing::warn!(%error, "the count of damaged databases was not written");
    }
    if let Err(error) = prune(disk, path) {
        tracing::warn!(%error, "older damaged databases were not removed");
    }
    Ok(number)
}

fn prune(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let kept = kept(disk, path);
    for (_, old) in kept.iter().rev().skip(MOST_KEPT) {
        disk.remove(old)?;
    }
    for (_, new) in kept.iter().rev().take(MOST_KEPT) {
        match disk.info(new)? {
            Some(info) if info.kind == Kind::File && info.length > MOST_BYTES => {
                disk.open(new, Access::Change)?.set_len(MOST_BYTES)?;
            }
            Some(info) if info.kind == Kind::Folder => {
                // Its name is the count; what it holds is not bounded.
                disk.remove(new)?;
                disk.open(new, Access::Make)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The databases that were set aside, by number.
fn kept(disk: &dyn Disk, path: &Path) -> Vec<(u32, PathBuf)> {
    let mut prefix: OsString = path.file_name().unwrap_or_default().to_owned();
    prefix.push(ASIDE);
    let prefix = prefix.to_string_lossy().into_owned();
    let number = |name: &OsString| name.to_str()?.strip_prefix(&prefix)?.parse::<u32>().ok();
    let names = disk.list(&parent(path)).unwrap_or_default();
    let mut kept: Vec<(u32, PathBuf)> =
        names.iter().filter_map(|name| Some((number(name)?, path.with_file_name(name)))).collect();
    kept.sort();
    kept
}

fn write_count(disk: &dyn Disk, path: &Path, number: u32) -> io::Result<()> {
    atomic_file::write(disk, &beside(path, COUNT), sealed(&number.to_string()).as_bytes())
}

fn written(disk: &dyn Disk, path: &Path) -> Option<u32> {
    unsealed(&read_short(disk, &beside(path, COUNT), 256).ok()??)?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::sim::SimDisk;

    fn put(disk: &SimDisk, path: &Path, length: usize) {
        disk.open(path, Access::Replace).unwrap().write_at(&vec![1; length], 0).unwrap();
    }

    #[test]
    fn keeps_the_newest_few_cut_to_their_bound() {
        let (disk, path) = (SimDisk::new(1), Path::new("/state.redb"));
        for number in 1..=5 {
            put(&disk, path, MOST_BYTES as usize + 1);
            assert_eq!(set_aside(&disk, path).unwrap(), number);
        }
        assert_eq!(count(&disk, path), 5);
        let kept = kept(&disk, path);
        assert_eq!(kept.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [4, 5]);
        assert!(kept.iter().all(|(_, path)| disk.peek(path).unwrap().len() as u64 == MOST_BYTES));
    }

    #[test]
    fn the_count_survives_the_loss_of_either_witness() {
        let (disk, path) = (SimDisk::new(1), Path::new("/state.redb"));
        for _ in 0..3 {
            put(&disk, path, 10);
            set_aside(&disk, path).unwrap();
        }
        let witness = beside(path, COUNT);
        for at in 0..disk.peek(&witness).unwrap().len() {
            let flipped = disk.copy(2);
            flipped.damage(&witness, |bytes| bytes[at] ^= 1).unwrap();
            assert_eq!(count(&flipped, path), 3, "byte {at}");
        }
        for (_, aside) in kept(&disk, path) {
            disk.remove(&aside).unwrap();
        }
        assert_eq!(count(&disk, path), 3);
    }

    #[test]
    fn a_folder_in_the_database_s_place_is_set_aside_and_emptied() {
        let (disk, path) = (SimDisk::new(1), Path::new("/state.redb"));
        disk.make_folder(&path.join("deep")).unwrap();
        assert_eq!(set_aside(&disk, path).unwrap(), 1);
        assert_eq!(disk.info(path).unwrap(), None);
        assert_eq!(count(&disk, path), 1);
    }
}
