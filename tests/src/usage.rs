//! What a process and a folder take, as the kernel counts it.

use std::{fs, path::Path};

use crate::Process;

impl Process {
    /// How many files, sockets and pipes it has open.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// Memory that is its own, in bytes: resident and not of a file.
    pub fn own_memory(&self) -> u64 {
        self.status("RssAnon:")
    }

    /// The most memory that was resident since [`Process::reset_peak`], pages of files included, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// Memory that is resident now, pages of files included, in bytes.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// Begins to measure the peak anew.
    pub fn reset_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").unwrap();
    }

    fn status(&self, field: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
    }
}

/// The bytes that the files below a folder take on disk.
pub fn taken_by(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let taken = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => taken_by(&entry.path()),
        Ok(found) => found.blocks() * 512,
        // It was removed meanwhile.
        Err(_) => 0,
    });
    taken.sum()
}
