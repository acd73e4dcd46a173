//! Finds the log again at the start: the newest segment is read, and of the others no more than their length.
//!
//! Where the newest checkpoint is damaged all segments are read. Records that were gone may come back then, and none that is there is lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use sanderling_protocol::digest::Digest;

use super::{
    Counts, Log,
    content::{Commit, Content},
    frame::{self, Frames},
    read::is_missing,
    segment::{Ordinals, Segment},
};
use crate::{
    atomic_file,
    store::disk::{Access, Disk, Kind, read_short},
};

/// No segment is longer: the commit that goes beyond its bound holds what waited in memory.
const MOST_BYTES: u64 = 16 << 20;
const END: &str = "end";

/// What was found.
#[derive(Debug)]
pub(in crate::outbox) struct Found {
    pub(in crate::outbox) log: Log,
    pub(in crate::outbox) counts: Counts,
    /// Records that are known to be lost.
    pub(in crate::outbox) lost: u64,
}

impl Found {
    /// Finds the log in a folder. Nothing is written. `confirmed` is the number that the database has; commits count without one where it has none.
    ///
    /// # Errors
    /// What the system says.
    pub(in crate::outbox) fn open(disk: Arc<dyn Disk>, folder: PathBuf, confirmed: Option<u64>) -> io::Result<Self> {
        let numbers = numbers(&*disk, &folder)?;
        let log = Log {
            disk,
            folder,
            segments: Vec::new(),
            active: None,
            placed: false,
            is_whole: false,
            counts: Counts::default(),
            next_number: numbers.last().map_or(1, |last| last.saturating_add(1)),
            next_order: 0,
            confirm: confirmed.unwrap_or(0),
            waiting: None,
            obsolete: Vec::new(),
            lost: Vec::new(),
            moved: BTreeMap::new(),
            changed: false,
        };
        let mut found = Self { log, counts: Counts { next_id: 1, ..Counts::default() }, lost: 0 };
        let confirmed = confirmed.unwrap_or(u64::MAX);
        let mut newest = None;
        for number in numbers.iter().rev() {
            let bytes = found.bytes(*number)?;
            let first = Frames::new(*number, &bytes).next().filter(|(range, _)| range.start == 0);
            match first.and_then(|(_, content)| Content::decode(content)) {
                Some(Content::Checkpoint(_)) => newest = Some((*number, bytes)),
                // Others were moved to it, and no checkpoint came to name it.
                Some(Content::Moved) => continue,
                _ => {}
            }
            break;
        }
        match &newest {
            Some((number, bytes)) => found.replay(*number, bytes, confirmed)?,
            None if numbers.is_empty() => {}
            None => found.rebuild(&numbers, confirmed)?,
        }
        found.compare_end();
        let log = &mut found.log;
        let known: BTreeSet<u64> = log.segments.iter().map(|segment| segment.number).collect();
        log.obsolete = numbers.into_iter().filter(|number| !known.contains(number)).collect();
        log.drop_empty();
        log.next_order = log.segments.last().map_or(0, |last| last.order + 1);
        let lost: u64 = log.take_lost().iter().map(|(_, part)| part.records).sum();
        found.lost += lost;
        Ok(found)
    }

    fn bytes(&self, number: u64) -> io::Result<Vec<u8>> {
        match self.log.disk.open(&self.log.path(number), Access::Read) {
            Ok(file) => {
                // The agent may have ended after a sync that failed.
                file.forget_cache()?;
                frame::read_all(&*file, MOST_BYTES)
            }
            Err(error) if is_missing(&error) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn count(&mut self, counts: Counts) {
        self.counts = Counts {
            run: self.counts.run.max(counts.run),
            dropped: self.counts.dropped.max(counts.dropped),
            next_id: self.counts.next_id.max(counts.next_id),
        };
    }

    /// Follows the newest segment from its checkpoint on.
    fn replay(&mut self, number: u64, bytes: &[u8], confirmed: u64) -> io::Result<()> {
        let mut active = Segment::new(number, 0);
        let mut frames = Frames::new(number, bytes);
        let mut holes = false;
        for (range, content) in frames.by_ref() {
            match Content::decode(content) {
                Some(Content::Checkpoint(checkpoint)) => {
                    self.count(checkpoint.counts);
                    self.log.confirm = self.log.confirm.max(checkpoint.confirm);
                    self.log.segments = checkpoint.segments;
                    active.order = self.log.segments.len() as u64;
                }
                Some(Content::Commit(commit)) => {
                    self.log.confirm = self.log.confirm.max(commit.confirm);
                    if commit.confirm > confirmed {
                        break;
                    }
                    holes |= self.follow(commit, &mut active);
                }
                _ => {}
            }
            active.length = range.end;
        }
        self.log.is_whole = !frames.damaged && active.length == bytes.len() as u64;
        self.log.segments.push(active);
        self.check_files()?;
        let last = self.log.segments.len() - 1;
        if holes {
            self.log.repair(last, 0)?;
        }
        Ok(())
    }

    /// Takes a commit in. True where records before it are missing.
    fn follow(&mut self, commit: Commit, active: &mut Segment) -> bool {
        self.count(commit.counts);
        let missing: Ordinals = (active.total..commit.before).collect();
        let holes = commit.before > active.total;
        self.lost += u64::from(commit.before.saturating_sub(active.total));
        missing.iter().for_each(|ordinal| active.gone.insert(ordinal));
        active.total = active.total.max(commit.before);
        for (channel, held) in &commit.records {
            active.add(channel, held.size);
        }
        for (segment, gone) in commit.gone {
            let known = self.log.segments.iter_mut().find(|known| known.number == segment);
            let known = known.or_else(|| (active.number == segment).then_some(&mut *active));
            if let Some(known) = known {
                known.remove(&gone.ordinals, &gone.parts);
            }
        }
        holes
    }

    /// A segment whose file is gone or too short has lost records.
    fn check_files(&mut self) -> io::Result<()> {
        let log = &mut self.log;
        for at in 0..log.segments.len() {
            let Some(segment) = log.segments.get(at).filter(|segment| !segment.is_empty()) else { continue };
            let info = log.disk.info(&log.path(segment.number))?;
            if info.is_none_or(|info| info.kind != Kind::File || info.length < segment.length) {
                log.repair(at, 0)?;
            }
        }
        Ok(())
    }

    /// Puts together what all segments say.
    fn rebuild(&mut self, numbers: &[u64], confirmed: u64) -> io::Result<()> {
        tracing::error!("the outbox's newest segment is damaged; all of them are read, and records may be sent again");
        let mut gone: BTreeMap<u64, Ordinals> = BTreeMap::new();
        // It says of itself that it is lost; how many records were in it nobody knows.
        self.lost += 1;
        for number in numbers {
            for (_, content) in self.contents(*number, confirmed)? {
                match content {
                    Content::Commit(commit) => {
                        self.count(commit.counts);
                        for (segment, of) in commit.gone {
                            let all = gone.entry(segment).or_default();
                            of.ordinals.iter().for_each(|ordinal| all.insert(ordinal));
                        }
                    }
                    Content::Checkpoint(checkpoint) => {
                        self.count(checkpoint.counts);
                        self.log.confirm = self.log.confirm.max(checkpoint.confirm);
                        gone.extend(checkpoint.segments.into_iter().map(|segment| (segment.number, segment.gone)));
                    }
                    Content::Moved => {}
                }
            }
        }
        let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
        // What others were moved to is newer than they are.
        for number in numbers.iter().rev() {
            let mut segment = Segment::new(*number, 0);
            segment.gone = gone.remove(number).unwrap_or_default();
            let mut first = u64::MAX;
            for (end, content) in self.contents(*number, confirmed)? {
                segment.length = end;
                let Content::Commit(commit) = content else { continue };
                self.lost += u64::from(commit.before.saturating_sub(segment.total));
                segment.total = segment.total.max(commit.before);
                for (channel, held) in commit.records {
                    first = first.min(held.id);
                    self.counts.next_id = self.counts.next_id.max(held.id.saturating_add(1));
                    if segment.gone.contains(segment.total) || !seen.insert(held.id) {
                        segment.gone.insert(segment.total);
                        segment.total += 1;
                    } else {
                        segment.add(&channel, held.size);
                    }
                }
            }
            found.push((first, segment));
        }
        found.sort_by_key(|(first, segment)| (*first, segment.number));
        let ordered = (0..).zip(found).map(|(order, (_, segment))| Segment { order, ..segment });
        self.log.segments = ordered.collect();
        Ok(())
    }

    /// What the frames of a segment say that count, and where each ends.
    fn contents(&self, number: u64, confirmed: u64) -> io::Result<Vec<(u64, Content)>> {
        let bytes = self.bytes(number)?;
        let frames = Frames::new(number, &bytes);
        let decoded = frames.filter_map(|(range, content)| Some((range.end, Content::decode(content)?)));
        let counts =
            |(_, content): &(u64, Content)| !matches!(content, Content::Commit(commit) if commit.confirm > confirmed);
        Ok(decoded.filter(counts).collect())
    }

    /// What the log said of its end, when it was closed, must be there.
    fn compare_end(&mut self) {
        let Some(End { number, length, total, left, counts }) = noted_end(&*self.log.disk, &self.log.folder) else {
            return;
        };
        self.count(counts);
        let Some(last) = self.log.segments.last() else {
            self.lost += left;
            return;
        };
        if last.number == number && last.length < length {
            tracing::error!(segment = number, "the end of the outbox is missing; records are lost");
            self.lost += u64::from(total.saturating_sub(last.total)).max(1);
        } else if last.number < number && self.log.segments.iter().all(|segment| segment.number != number) {
            tracing::error!(segment = number, "the newest segment of the outbox is missing; records are lost");
            self.lost += left.max(1);
        }
    }
}

/// The numbers of the segments that there are, in order.
fn numbers(disk: &dyn Disk, folder: &Path) -> io::Result<Vec<u64>> {
    let names = match disk.list(folder) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Vec::new(),
        names => names?,
    };
    let number = |name: std::ffi::OsString| name.to_str()?.strip_suffix(".log")?.parse().ok();
    let mut numbers: Vec<u64> = names.into_iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Where a log ended that was closed.
struct End {
    number: u64,
    length: u64,
    total: u32,
    /// Records that were left in the last segment.
    left: u64,
    counts: Counts,
}

/// Notes where a log ends that is closed.
pub(super) fn note_end(disk: &dyn Disk, folder: &Path, last: &Segment, counts: Counts) -> io::Result<()> {
    let left: u64 = last.parts.values().map(|part| part.records).sum();
    let Counts { run, dropped, next_id } = counts;
    let line = format!("{} {} {} {left} {run} {dropped} {next_id}", last.number, last.length, last.total);
    atomic_file::write(disk, &folder.join(END), format!("{line}\n{}\n", Digest::of(line.as_bytes())).as_bytes())
}

fn noted_end(disk: &dyn Disk, folder: &Path) -> Option<End> {
    let bytes = read_short(disk, &folder.join(END), 256).ok()??;
    let text = std::str::from_utf8(&bytes).ok()?;
    let (line, digest) = text.strip_suffix('\n')?.split_once('\n')?;
    if Digest::of(line.as_bytes()).to_string() != digest {
        return None;
    }
    let mut numbers = line.split(' ').map(str::parse::<u64>);
    let mut next = || numbers.next()?.ok();
    Some(End {
        number: next()?,
        length: next()?,
        total: u32::try_from(next()?).ok()?,
        left: next()?,
        counts: Counts { run: u32::try_from(next()?).ok()?, dropped: next()?, next_id: next()? },
    })
}
