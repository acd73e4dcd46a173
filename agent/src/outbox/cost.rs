//! What the outbox costs the disk, measured: bytes that pass the disk's port over bytes of records, beside what the same records cost as rows
//! of a redb table, as they were kept before the log.
//!
//! Counted of a record: its channel and its payload. Counted of the disk: every byte that is asked to be written, of records, checkpoints and
//! the database; and whole pages of 4 KiB, each counted once for each sync, which is what a file system writes at least.
//!
//! Numbers and no time, so that every machine finds the same.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use redb::TableDefinition;
use sanderling_protocol::deployment::Channel;

use super::{DrainSettings, Outbox};
use crate::{
    clock::Now,
    settings::OutboxSettings,
    store::{
        StoreError,
        counted::{CountedDisk, Passed},
        database::Database,
        sim::SimDisk,
    },
};

const CHANNEL: &str = "data/scratch/defects";
/// Records that are stored and then acknowledged.
const RECORDS: usize = 4000;
const TABLE: TableDefinition<'static, (&str, u64), &[u8]> = TableDefinition::new("rows");
const VALUES: TableDefinition<'static, &str, u64> = TableDefinition::new("values");

/// What is written for each byte of records.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// While the link is down.
    pub stored: f64,
    /// Once it is up: what is acknowledged is removed.
    pub removed: f64,
    /// Both, in whole pages for each sync.
    pub pages: f64,
}

impl Cost {
    /// Bytes that are written in all for each byte of records.
    pub fn both(&self) -> f64 {
        self.stored + self.removed
    }

    fn of(stored: Passed, removed: Passed, bytes: usize) -> Self {
        let records = (RECORDS * (bytes + CHANNEL.len())) as f64;
        let over = |written: u64| written as f64 / records;
        Self { stored: over(stored.written), removed: over(removed.written), pages: over(stored.pages + removed.pages) }
    }
}

fn disk() -> Result<(CountedDisk, Database), StoreError> {
    let disk = SimDisk::new(1);
    disk.set_room(1 << 30);
    let disk = CountedDisk::new(Arc::new(disk));
    let database = Database::open_on(Arc::new(disk.clone()), Path::new("/state"))?;
    Ok((disk, database))
}

/// Some thousand records of so many bytes, stored in batches, then acknowledged in batches.
///
/// # Errors
/// [`StoreError`].
pub fn outbox(batch: usize, bytes: usize) -> Result<Cost, StoreError> {
    let (disk, database) = disk()?;
    let settings = OutboxSettings {
        max_bytes: 1 << 30,
        event_max_bytes: 1 << 20,
        commit_interval: Duration::from_millis(100),
        drain: DrainSettings::default(),
    };
    let mut outbox = Outbox::open(database, settings)?;
    outbox.configure([(CHANNEL.to_owned(), Channel { max_bytes: 1 << 30, ..Channel::default() })]);
    let now = |at: usize| Now { wall_ms: 1_800_000_000_000 + at as i64, mono: Duration::from_millis(at as u64) };
    let payload = Bytes::from(vec![b'x'; bytes]);
    let begun = disk.passed();
    for at in 0..RECORDS / batch {
        // As one frame, so that a batch is one commit however many records it has.
        let records = (0..batch).map(|_| (CHANNEL.to_owned(), payload.clone())).collect();
        outbox.push_frame(records, Default::default(), now(at))?;
        outbox.flush()?;
    }
    let stored = disk.passed();
    for at in 0..RECORDS / batch {
        let mut left = batch;
        while left > 0 {
            let records = outbox.next_unsent(left, now(at))?;
            left -= records.len();
            records.iter().for_each(|record| outbox.acked(record.id, now(at)));
        }
        outbox.flush()?;
    }
    Ok(Cost::of(stored.since(begun), disk.passed().since(stored), bytes))
}

/// The same, each record a row of a redb table.
///
/// # Errors
/// [`StoreError`].
pub fn redb(batch: usize, bytes: usize) -> Result<Cost, StoreError> {
    let (disk, database) = disk()?;
    let value = vec![b'x'; bytes + 20];
    let ids = |at: usize| (at * batch..(at + 1) * batch).map(|id| id as u64);
    let begun = disk.passed();
    for at in 0..RECORDS / batch {
        database.write(|transaction| {
            let mut rows = transaction.open_table(TABLE)?;
            for id in ids(at) {
                rows.insert((CHANNEL, id), value.as_slice())?;
            }
            transaction.open_table(VALUES)?.insert("dropped", 0)?;
            Ok(())
        })?;
    }
    let stored = disk.passed();
    for at in 0..RECORDS / batch {
        database.write(|transaction| {
            let mut rows = transaction.open_table(TABLE)?;
            for id in ids(at) {
                rows.remove((CHANNEL, id))?;
            }
            transaction.open_table(VALUES)?.insert("dropped", 0)?;
            Ok(())
        })?;
    }
    Ok(Cost::of(stored.since(begun), disk.passed().since(stored), bytes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn write_amplification_stays_within_three_at_a_hundred_records_where_rows_of_redb_do_not() {
        println!(
            "| batch | payload | log: stored | removed | both | in pages | redb: stored | removed | both | in pages |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|");
        for bytes in [200, 1024] {
            for batch in [1, 10, 100] {
                let (log, redb) = (outbox(batch, bytes).unwrap(), redb(batch, bytes).unwrap());
                let row = |cost: &Cost| {
                    format!("{:.2} | {:.2} | {:.2} | {:.2}", cost.stored, cost.removed, cost.both(), cost.pages)
                };
                println!("| {batch} | {bytes} | {} | {} |", row(&log), row(&redb));
                assert!(log.both() < redb.both());
                assert!(batch < 100 || (log.both() <= 1.2 && log.pages <= 3.0), "{log:?}");
                assert!(batch < 100 || bytes > 200 || redb.both() > 3.0, "{redb:?}");
            }
        }
    }

    /// The port's figures are those of a real file: the kernel counts the pages that this process makes dirty.
    #[test]
    #[ignore = "counts what the whole process writes: run it alone, on a file system that is on a disk"]
    fn the_kernel_counts_as_many_pages() {
        let io = || {
            let text = std::fs::read_to_string("/proc/self/io").unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap();
            line.parse::<u64>().unwrap()
        };
        for batch in [1, 10, 100] {
            let folder = tempfile::tempdir_in(std::env::var_os("SANDERLING_DISK").unwrap_or(".".into())).unwrap();
            let disk = CountedDisk::new(Arc::new(crate::store::disk::SystemDisk));
            let database = Database::open_on(Arc::new(disk.clone()), folder.path()).unwrap();
            let settings = OutboxSettings {
                max_bytes: 1 << 30,
                event_max_bytes: 1 << 20,
                commit_interval: Duration::from_millis(100),
                drain: DrainSettings::default(),
            };
            let mut outbox = Outbox::open(database, settings).unwrap();
            let (before, kernel) = (disk.passed(), io());
            for _ in 0..1000 / batch {
                let records = (0..batch).map(|_| (CHANNEL.to_owned(), Bytes::from(vec![b'x'; 200]))).collect();
                outbox.push_frame(records, Default::default(), Now::default()).unwrap();
                outbox.flush().unwrap();
            }
            let (port, kernel) = (disk.passed().since(before), io() - kernel);
            println!("batches of {batch}: {} bytes, {} in pages, {kernel} by the kernel", port.written, port.pages);
            assert!(kernel <= port.pages * 5 / 4 + 65_536, "{kernel}");
        }
    }
}
