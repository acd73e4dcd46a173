//! An open file of the simulated disk.

use std::{
    fs::File,
    io::{self, Seek, Write},
};

use rustix::fs::MemfdFlags;

use super::{Dice, Fault, Lie, SimDisk, State, content::Content, faults::Verdict, tree::Id};
use crate::store::disk::DiskFile;

/// [`DiskFile`] on a [`SimDisk`].
#[derive(Debug)]
pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) id: Id,
    pub(super) opening: u64,
}

impl SimFile {
    /// Makes a change of the content. One that fails or is cut is made for a part of it, as `part` does.
    fn change(
        &self,
        grown_to: usize,
        whole: impl FnOnce(&mut Content),
        part: impl FnOnce(&mut Content, &mut Dice),
    ) -> io::Result<()> {
        let mut state = self.disk.state();
        let verdict = state.faults.change()?;
        let growth = grown_to.saturating_sub(state.tree.content(self.id)?.bytes().len());
        let full = growth > 0 && state.tree.used().saturating_add(growth as u64) > state.room;
        let State { tree, dice, faults, .. } = &mut *state;
        let content = tree.content_mut(self.id)?;
        match verdict {
            Verdict::Done if full => Err(Fault::NoSpace.error()),
            Verdict::Done => {
                whole(content);
                Ok(())
            }
            Verdict::Fails(fault) => {
                part(content, dice);
                Err(fault.error())
            }
            Verdict::Cut => {
                if dice.percent(50) {
                    part(content, dice);
                }
                faults.alive()
            }
        }
    }
}

/// A file of this disk ends before here, so that a wrong place is an error and not a wish for memory.
const END: u64 = 1 << 40;

fn index(place: u64) -> io::Result<usize> {
    let place = Some(place).filter(|place| *place < END).and_then(|place| usize::try_from(place).ok());
    place.ok_or_else(|| io::ErrorKind::FileTooLarge.into())
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state();
        state.faults.alive()?;
        Ok(state.tree.content(self.id)?.bytes().len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        state.faults.alive()?;
        let content = state.tree.content(self.id)?;
        let rest = content.bytes().get(index(offset)?..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        if content.is_spoilt(index(offset)?, read) {
            return Err(Fault::Broken.error());
        }
        if let (Some(place), Some(bytes)) = (buffer.get_mut(..read), rest.get(..read)) {
            place.copy_from_slice(bytes);
        }
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let at = index(offset)?;
        self.change(
            at.saturating_add(bytes.len()),
            |content| content.write(bytes, at),
            |content, dice| content.write(bytes.get(..dice.place(bytes.len())).unwrap_or_default(), at),
        )
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let length = index(length)?;
        // A hole takes no room.
        self.change(0, |content| content.set_len(length), |_, _| ())
    }

    fn reserve(&self, length: u64) -> io::Result<()> {
        let length = index(length)?;
        self.change(length, |content| content.set_len(length), |content, dice| content.set_len(dice.place(length)))
    }

    fn sync(&self) -> io::Result<()> {
        let lies = self.disk.state().lie == Some(Lie::Sync);
        self.change(
            0,
            |content| {
                if !lies {
                    content.sync()
                }
            },
            Content::fail_sync,
        )
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut state = self.disk.state();
        state.faults.alive()?;
        Ok(*state.locks.entry(self.id).or_insert(self.opening) == self.opening)
    }

    fn unlock(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.locks.get(&self.id) == Some(&self.opening) {
            state.locks.remove(&self.id);
        }
        Ok(())
    }

    fn forget_cache(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.faults.alive()?;
        if state.lie != Some(Lie::ForgetCache) {
            state.tree.content_mut(self.id)?.forget();
        }
        Ok(())
    }

    fn into_file(self: Box<Self>) -> io::Result<File> {
        let bytes = {
            let state = self.disk.state();
            state.faults.alive()?;
            state.tree.content(self.id)?.bytes().to_vec()
        };
        let mut file = File::from(rustix::fs::memfd_create("file", MemfdFlags::CLOEXEC)?);
        file.write_all(&bytes)?;
        file.rewind()?;
        Ok(file)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let _ = self.unlock();
    }
}
