//! As much of the tar format (POSIX ustar) as capsules need: regular files with short names, one after the other.

use std::str;

use thiserror::Error;

/// Archives are made of blocks of this size, in bytes.
pub const BLOCK: usize = 512;

const NAME: std::ops::Range<usize> = 0..100;
const MODE: std::ops::Range<usize> = 100..108;
const OWNER: std::ops::Range<usize> = 108..116;
const GROUP: std::ops::Range<usize> = 116..124;
const SIZE: std::ops::Range<usize> = 124..136;
const TIME: std::ops::Range<usize> = 136..148;
const SUM: std::ops::Range<usize> = 148..156;
const KIND: usize = 156;
const MAGIC: std::ops::Range<usize> = 257..265;

/// Why bytes are not an archive.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TarError {
    /// A header's sum is wrong.
    #[error("the tar header at byte {0} is damaged")]
    Header(usize),
    /// A file is longer than the archive.
    #[error("the tar file is cut off in {0:?}; fetch it again")]
    CutOff(String),
}

/// Appends a file to an archive. The name has at most 100 bytes.
pub fn put(archive: &mut Vec<u8>, name: &str, content: &[u8], seconds: u64) {
    let mut header = [0; BLOCK];
    let mut field = |place: std::ops::Range<usize>, text: &[u8]| {
        for (to, from) in header.get_mut(place).unwrap_or_default().iter_mut().zip(text) {
            *to = *from;
        }
    };
    field(NAME, name.as_bytes());
    field(MODE, b"0000644\0");
    field(OWNER, b"0000000\0");
    field(GROUP, b"0000000\0");
    field(SIZE, format!("{:011o}\0", content.len()).as_bytes());
    field(TIME, format!("{seconds:011o}\0").as_bytes());
    field(SUM, b"        ");
    field(KIND..KIND + 1, b"0");
    field(MAGIC, b"ustar\x0000");
    let sum = format!("{:06o}\0 ", sum(&header));
    for (to, from) in header.get_mut(SUM).unwrap_or_default().iter_mut().zip(sum.bytes()) {
        *to = from;
    }
    archive.extend_from_slice(&header);
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(BLOCK), 0);
}

/// Ends an archive.
pub fn end(archive: &mut Vec<u8>) {
    archive.resize(archive.len() + 2 * BLOCK, 0);
}

fn sum(header: &[u8; BLOCK]) -> u32 {
    header.iter().map(|byte| u32::from(*byte)).sum()
}

/// The files of an archive: name and content.
#[derive(Debug)]
pub struct Files<'a> {
    archive: &'a [u8],
    at: usize,
}

impl<'a> Files<'a> {
    /// Those of `archive`.
    pub fn new(archive: &'a [u8]) -> Self {
        Self { archive, at: 0 }
    }

    fn file(&mut self, header: &'a [u8; BLOCK]) -> Result<(&'a str, &'a [u8]), TarError> {
        let damaged = TarError::Header(self.at);
        let field = |place| header.get(place).unwrap_or_default();
        let mut blank = *header;
        blank.get_mut(SUM).unwrap_or_default().fill(b' ');
        if octal(field(SUM)) != Some(u64::from(sum(&blank))) {
            return Err(damaged);
        }
        let name = field(NAME).split(|byte| *byte == 0).next().unwrap_or_default();
        let name = str::from_utf8(name).map_err(|_| damaged.clone())?;
        let length = octal(field(SIZE)).and_then(|length| usize::try_from(length).ok()).ok_or(damaged)?;
        let from = self.at + BLOCK;
        let cut_off = || TarError::CutOff(name.to_owned());
        let end = from.checked_add(length).ok_or_else(cut_off)?;
        let content = self.archive.get(from..end).ok_or_else(cut_off)?;
        self.at = end.checked_next_multiple_of(BLOCK).ok_or_else(cut_off)?;
        Ok((name, content))
    }
}

impl<'a> Iterator for Files<'a> {
    type Item = Result<(&'a str, &'a [u8]), TarError>;

    fn next(&mut self) -> Option<Self::Item> {
        let header = self.archive.get(self.at..)?.first_chunk::<BLOCK>()?;
        if header.iter().all(|byte| *byte == 0) {
            return None;
        }
        let file = self.file(header);
        if file.is_err() {
            self.at = self.archive.len();
        }
        Some(file)
    }
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = field.split(|byte| matches!(byte, 0 | b' ')).find(|part| !part.is_empty())?;
    u64::from_str_radix(str::from_utf8(text).ok()?, 8).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_they_were_put() {
        let mut archive = Vec::new();
        put(&mut archive, "a.json", b"{}", 1_795_000_000);
        put(&mut archive, "b.bin", &[9; 1025], 0);
        put(&mut archive, "c", b"", 0);
        end(&mut archive);
        let files: Vec<_> = Files::new(&archive).collect::<Result<_, _>>().unwrap();
        assert_eq!(files, [("a.json", &b"{}"[..]), ("b.bin", &[9; 1025]), ("c", b"")]);
        assert_eq!(archive.len() % BLOCK, 0);
    }

    #[test]
    fn the_programs_of_others_read_it_too() {
        let mut archive = Vec::new();
        put(&mut archive, "a.json", b"{}", 1_795_000_000);
        end(&mut archive);
        let folder = std::env::temp_dir().join(format!("sanderling-tar-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("a.tar");
        std::fs::write(&file, &archive).unwrap();
        let listed = std::process::Command::new("tar").arg("-tvf").arg(&file).output().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.starts_with("-rw-r--r--") && listed.trim_end().ends_with("a.json"), "{listed}");
    }

    fn first(archive: &[u8]) -> Option<Result<(&str, &[u8]), TarError>> {
        Files::new(archive).next()
    }

    #[test]
    fn a_file_that_is_cut_off_or_a_header_that_is_damaged_is_refused() {
        let mut archive = Vec::new();
        put(&mut archive, "b.bin", &[9; 1025], 0);
        assert_eq!(first(&archive[..BLOCK + 1024]), Some(Err(TarError::CutOff("b.bin".into()))));
        archive[0] ^= 1;
        assert_eq!(first(&archive), Some(Err(TarError::Header(0))));
        assert_eq!(first(&archive[..BLOCK - 1]), None);
    }
}
