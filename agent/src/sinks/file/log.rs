//! The file of a sink: whole lines, at most so many bytes, rotated.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Lines, lines::BEGINNING};
use crate::{
    sinks::{FileSettings, FileSync},
    store::disk::{self, Access, Disk, DiskFile},
};

/// What is read at a time in search of the end of the last whole line.
const STEP: usize = 4096;
/// No line is longer: a payload of 128 KiB in base64.
const LONGEST_LINE: u64 = 256 * 1024;

pub(super) struct LogFile {
    disk: Arc<dyn Disk>,
    settings: FileSettings,
    open: Option<Open>,
}

struct Open {
    file: Box<dyn DiskFile>,
    /// What is known to be whole.
    length: u64,
}

impl LogFile {
    pub(super) fn new(disk: Arc<dyn Disk>, settings: FileSettings) -> Self {
        Self { disk, settings, open: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.settings.path
    }

    /// Whether a file can hold a line of so many bytes.
    pub(super) fn fits(&self, length: usize) -> bool {
        u64::try_from(length).is_ok_and(|length| length <= self.settings.max_bytes.min(LONGEST_LINE))
    }

    /// Writes lines, and removes those that are written. Opens the file where that is not done yet.
    ///
    /// # Errors
    /// What the system says; the lines that are left are not in the file.
    pub(super) fn append(&mut self, lines: &mut Lines) -> io::Result<()> {
        loop {
            let most = self.settings.max_bytes;
            let open = self.opened()?;
            if lines.lengths.is_empty() {
                return Ok(());
            }
            let (count, bytes) = lines.fitting(most.saturating_sub(open.length));
            if count == 0 {
                self.rotate()?;
                continue;
            }
            if let Err(error) = open.file.write_at(bytes, open.length) {
                if open.file.set_len(open.length).is_err() {
                    // What is there now is looked at when it is opened again.
                    self.open = None;
                }
                return Err(error);
            }
            open.length = open.length.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            lines.remove(count);
        }
    }

    /// Puts what was written on disk.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        match &self.open {
            Some(open) => open.file.sync(),
            None => Ok(()),
        }
    }

    fn opened(&mut self) -> io::Result<&mut Open> {
        let open = match self.open.take() {
            Some(open) => open,
            None => self.open_anew()?,
        };
        Ok(self.open.insert(open))
    }

    fn open_anew(&self) -> io::Result<Open> {
        let path = &self.settings.path;
        let folder = disk::parent(path);
        disk::make_folder(&*self.disk, &folder)?;
        let file = self.disk.open(path, Access::Share)?;
        if self.settings.sync == FileSync::Interval {
            self.disk.sync_folder(&folder)?;
        }
        let found = file.len()?;
        let length = whole_lines(&*file, found)?;
        if length < found {
            tracing::warn!(path = %path.display(), bytes = found - length, "a torn last line was cut off");
            file.set_len(length)?;
        }
        Ok(Open { file, length })
    }

    /// The file becomes the newest of those that are kept, and the oldest goes.
    fn rotate(&mut self) -> io::Result<()> {
        let synced = self.settings.sync == FileSync::Interval;
        if let Some(open) = &self.open
            && synced
        {
            open.file.sync()?;
        }
        self.open = None;
        let path = &self.settings.path;
        for number in (1..self.settings.keep).rev() {
            match self.disk.rename(&kept(path, number), &kept(path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.settings.keep == 0 {
            self.disk.remove(path)?;
        } else {
            self.disk.rename(path, &kept(path, 1))?;
        }
        if synced { self.disk.sync_folder(&disk::parent(path)) } else { Ok(()) }
    }
}

/// The name of a file that was rotated; 1 is the newest.
fn kept(path: &Path, number: u32) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// How long the file is without what a power cut left of its last line.
///
/// # Errors
/// What the system says; [`io::ErrorKind::InvalidData`] where what it ends in is no part of a line of ours: it is somebody else's.
fn whole_lines(file: &dyn DiskFile, length: u64) -> io::Result<u64> {
    let mut from = length;
    let mut torn = Vec::new();
    while from > 0 && length - from <= LONGEST_LINE {
        let start = from.saturating_sub(STEP as u64);
        let mut part = vec![0; usize::try_from(from - start).unwrap_or(STEP)];
        if !disk::read_exact(file, &mut part, start)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(end) = part.iter().rposition(|byte| *byte == b'\n') {
            let tail = part.split_off(end + 1);
            from = start + (end as u64) + 1;
            torn.splice(..0, tail);
            return if is_ours(&torn) { Ok(from) } else { Err(foreign()) };
        }
        torn.splice(..0, part);
        from = start;
    }
    if from == 0 && is_ours(&torn) { Ok(0) } else { Err(foreign()) }
}

/// Whether these bytes can be what is left of a line: its beginning, and zeros where the disk has no content yet.
fn is_ours(torn: &[u8]) -> bool {
    let written = torn.iter().position(|byte| *byte == 0).unwrap_or(torn.len());
    let beginning = BEGINNING.len().min(written);
    torn.get(..beginning) == BEGINNING.get(..beginning)
}

fn foreign() -> io::Error {
    let what = "it ends in something that this sink did not write; move it away, or set another `path`";
    io::Error::new(io::ErrorKind::InvalidData, what)
}
