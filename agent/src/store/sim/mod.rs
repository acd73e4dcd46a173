//! A disk in memory that fails by a seed: the fake of [`super::disk`].
//!
//! It keeps what is on the medium apart from what is only written. When the power goes, every 512-byte sector that was not
//! synced has, by chance, its old content or any that it was given since; so a write may be lost, kept or torn, and later
//! writes may be there without earlier ones. Changes of names that were not synced are lost or kept one by one; a rename may
//! be half done (both names), never lost with both. A file's length is kept apart from its bytes.
//!
//! A sync that fails leaves some sectors unwritten and takes all as written, as Linux does: reads still show them until
//! [`DiskFile::forget_cache`], and a later sync does not write them.
//!
//! Not modelled: tears within a sector. A disk that says yes and does nothing ([`Lie`]) is there to see that a proof finds it out.

mod content;
mod dice;
mod faults;
mod file;
mod tree;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use self::{
    content::Content,
    faults::{Faults, Plan, Verdict},
    file::SimFile,
    tree::{Id, Node, Tree},
};
pub use self::{content::SECTOR, dice::Dice, faults::Fault};
use super::disk::{Access, Disk, DiskFile, Info, Kind};

/// What a disk says yes to without doing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// [`DiskFile::sync`].
    Sync,
    /// [`Disk::sync_folder`].
    SyncFolder,
    /// [`DiskFile::forget_cache`].
    ForgetCache,
}

/// [`Disk`] in memory; clones share it.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

struct State {
    tree: Tree,
    /// Who holds a file's lock, by opening.
    locks: BTreeMap<Id, u64>,
    openings: u64,
    dice: Dice,
    faults: Faults,
    room: u64,
    boots: u64,
    lie: Option<Lie>,
}

impl std::fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimDisk").finish_non_exhaustive()
    }
}

impl SimDisk {
    /// An empty disk of 64 MiB; chance goes by the seed.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            tree: Tree::new(),
            locks: BTreeMap::new(),
            openings: 0,
            dice: Dice::new(seed),
            faults: Faults::default(),
            room: 64 << 20,
            boots: 0,
            lie: None,
        })))
    }

    /// How many changes were asked for so far: writes, syncs, and changes of names.
    pub fn changes(&self) -> u64 {
        self.state().faults.changes
    }

    /// The power goes in the middle of the change that comes after `changes` others.
    pub fn cut_after(&self, changes: u64) {
        self.state().faults.plan = Plan::Cut { at: changes };
    }

    /// The change that comes after `changes` others fails, and, where `lasting`, all that follow.
    pub fn fail_after(&self, changes: u64, fault: Fault, lasting: bool) {
        self.state().faults.plan = Plan::Fail { at: changes, fault, lasting };
    }

    /// Nothing more goes wrong.
    pub fn heal(&self) {
        self.state().faults.plan = Plan::Nothing;
    }

    /// Whether the power is out.
    pub fn is_off(&self) -> bool {
        self.state().faults.off
    }

    /// Cuts the power, if that has not happened yet, and gives it back.
    pub fn power_cycle(&self) {
        let mut state = self.state();
        let State { tree, dice, locks, faults, boots, .. } = &mut *state;
        let keep = [0, 10, 50, 90, 100].get(dice.place(5)).copied().unwrap_or(50);
        tree.cut(keep, dice);
        locks.clear();
        *faults = Faults { changes: faults.changes, ..Faults::default() };
        *boots += 1;
    }

    /// From now on the disk lies.
    pub fn lie(&self, lie: Option<Lie>) {
        self.state().lie = lie;
    }

    /// How many bytes files may have in all.
    pub fn set_room(&self, bytes: u64) {
        self.state().room = bytes;
    }

    /// The paths of all files.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state().tree.files().into_keys().collect()
    }

    /// The bytes of a file as a reader sees them.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`]; [`io::ErrorKind::InvalidData`] for a folder.
    pub fn peek(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state();
        Ok(state.tree.content(state.tree.find(path)?)?.bytes().to_vec())
    }

    /// Changes the bytes of a file on the medium, as worn flash does.
    ///
    /// # Errors
    /// As [`Self::peek`].
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut state = self.state();
        let id = state.tree.find(path)?;
        state.tree.content_mut(id)?.damage(change);
        Ok(())
    }

    /// A range of a file cannot be read until it is written again, as on a bad block.
    ///
    /// # Errors
    /// As [`Self::peek`].
    pub fn spoil(&self, path: &Path, range: Range<usize>) -> io::Result<()> {
        let mut state = self.state();
        let id = state.tree.find(path)?;
        state.tree.content_mut(id)?.spoil(range);
        Ok(())
    }

    /// A disk with the same files, all of it synced, and chance of its own.
    pub fn copy(&self, seed: u64) -> Self {
        let copy = Self::new(seed);
        {
            let state = self.state();
            let mut other = copy.state();
            other.tree = state.tree.clone();
            other.room = state.room;
        }
        copy
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No change is left half-made by a panic: there is none under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change of names, or fails.
    fn change_names(&self, change: impl FnOnce(&mut Tree) -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state();
        match state.faults.change()? {
            Verdict::Done => change(&mut state.tree),
            Verdict::Fails(fault) => Err(fault.error()),
            Verdict::Cut => {
                if state.dice.percent(50) {
                    change(&mut state.tree)?;
                }
                state.faults.alive()
            }
        }
    }

    fn find(&self, path: &Path) -> io::Result<Option<Id>> {
        let state = self.state();
        state.faults.alive()?;
        match state.tree.find(path) {
            Ok(id) => Ok(Some(id)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let found = self.find(path)?;
        if access.writes() {
            self.state().faults.writable()?;
        }
        let id = match found {
            Some(id) => id,
            None if access.makes() => {
                self.change_names(|tree| tree.link(path, Node::File(Content::default())).map(drop))?;
                self.state().tree.find(path)?
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        let mut state = self.state();
        let empty = state.tree.content(id)?.bytes().is_empty();
        state.openings += 1;
        let file = SimFile { disk: self.clone(), id, opening: state.openings };
        drop(state);
        if access == Access::Replace && !empty {
            file.set_len(0)?;
        }
        Ok(Box::new(file))
    }

    fn info(&self, path: &Path) -> io::Result<Option<Info>> {
        let Some(id) = self.find(path)? else { return Ok(None) };
        Ok(Some(match self.state().tree.node(id)? {
            Node::File(content) => {
                let length = content.bytes().len() as u64;
                Info { kind: Kind::File, length, taken: length.next_multiple_of(SECTOR as u64) }
            }
            Node::Folder(_) => Info { kind: Kind::Folder, length: 0, taken: 0 },
        }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let id = self.find(folder)?.ok_or(io::ErrorKind::NotFound)?;
        self.state().tree.names(id)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        let mut above: Vec<&Path> = path.ancestors().filter(|path| path.file_name().is_some()).collect();
        above.reverse();
        for folder in above {
            match self.find(folder)? {
                Some(id) => drop(self.state().tree.names(id).map_err(|_| io::ErrorKind::AlreadyExists)?),
                None => self.change_names(|tree| tree.link(folder, Node::Folder(tree::Folder::default())).map(drop))?,
            }
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change_names(|tree| tree.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match self.find(path)? {
            Some(_) => self.change_names(|tree| tree.unlink(path)),
            None => Ok(()),
        }
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        match state.faults.change()? {
            Verdict::Done if state.lie == Some(Lie::SyncFolder) => Ok(()),
            Verdict::Done => state.tree.sync_folder(path),
            Verdict::Fails(fault) => Err(fault.error()),
            Verdict::Cut => state.faults.alive(),
        }
    }

    fn free(&self, _folder: &Path) -> io::Result<u64> {
        let state = self.state();
        state.faults.alive()?;
        Ok(state.room.saturating_sub(state.tree.used()))
    }

    fn boot(&self) -> String {
        self.state().boots.to_string()
    }
}

#[cfg(test)]
mod tests;
