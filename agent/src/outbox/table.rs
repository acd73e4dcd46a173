//! The outbox's part of the database: the number that makes commits of the log count, modules' state, and the records that a version of the agent
//! before the log has left.
//!
//! A record of such a version lies by channel and id; its value is wall time in ms (i64), monotonic time in µs (u64), run (u32), all
//! little-endian, then the payload.

use std::time::Duration;

use bytes::Bytes;
use redb::{ReadableTable, TableDefinition, TableError};

use super::{queue::Held, size};
use crate::{
    state::{self, Rows},
    store::{StoreError, database::Database},
};

const RECORDS: TableDefinition<'static, (&str, u64), &[u8]> = TableDefinition::new("outbox");
const VALUES: TableDefinition<'static, &str, u64> = TableDefinition::new("outbox_values");
const RUN: &str = "run";
const DROPPED: &str = "dropped";
const CONFIRM: &str = "confirm";
const HEADER: usize = 8 + 8 + 4;
/// So many old records are taken over at once, and no more once they have [`OLD_BYTES`].
const OLD_RECORDS: usize = 64;
const OLD_BYTES: u64 = 128 * 1024;

/// What the database says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Values {
    /// The number up to which commits count; `None` where there never was one.
    pub(super) confirmed: Option<u64>,
    /// The number of an old version's last run.
    pub(super) run: u32,
    /// What an old version had dropped.
    pub(super) dropped: u64,
}

/// What one transaction changes.
pub(super) struct Change<'a> {
    pub(super) rows: &'a Rows,
    pub(super) confirm: Option<u64>,
    /// Old records that are in the log now.
    pub(super) old: &'a [(String, Held)],
}

#[derive(Debug)]
pub(super) struct Table(Database);

impl Table {
    pub(super) fn new(database: Database) -> Self {
        Self(database)
    }

    /// [`Database::losses`].
    pub(super) fn losses(&self) -> u32 {
        self.0.losses()
    }

    pub(super) fn values(&self) -> Result<Values, StoreError> {
        self.0.read(|transaction| {
            let Some(values) = opened(transaction.open_table(VALUES))? else { return Ok(Values::default()) };
            let value = |name| Ok::<Option<u64>, redb::Error>(values.get(name)?.map(|value| value.value()));
            let run = u32::try_from(value(RUN)?.unwrap_or(0)).unwrap_or(0);
            Ok(Values { confirmed: value(CONFIRM)?, run, dropped: value(DROPPED)?.unwrap_or(0) })
        })
    }

    /// Some of the records that an old version left, in order by channel.
    pub(super) fn old_records(&self) -> Result<Vec<(String, Held)>, StoreError> {
        self.0.read(|transaction| {
            let mut old = Vec::new();
            let Some(records) = opened(transaction.open_table(RECORDS))? else { return Ok(old) };
            let mut bytes = 0;
            for entry in records.iter()? {
                let (key, value) = entry?;
                let (channel, id) = key.value();
                let held = decode(channel, id, value.value());
                bytes += held.size;
                old.push((channel.to_owned(), held));
                if old.len() >= OLD_RECORDS || bytes >= OLD_BYTES {
                    break;
                }
            }
            Ok(old)
        })
    }

    /// The highest id of the records that an old version left.
    pub(super) fn last_old_id(&self) -> Result<u64, StoreError> {
        self.0.read(|transaction| {
            let Some(records) = opened(transaction.open_table(RECORDS))? else { return Ok(0) };
            let mut last = 0;
            for entry in records.iter()? {
                last = last.max(entry?.0.value().1);
            }
            Ok(last)
        })
    }

    pub(super) fn change(&self, change: &Change<'_>) -> Result<(), StoreError> {
        self.0.write(|transaction| {
            if let Some(confirm) = change.confirm {
                transaction.open_table(VALUES)?.insert(CONFIRM, confirm)?;
            }
            if !change.old.is_empty() {
                let mut records = transaction.open_table(RECORDS)?;
                for (channel, held) in change.old {
                    records.remove((channel.as_str(), held.id))?;
                }
            }
            state::table::write(transaction, change.rows)
        })
    }
}

/// A table that was never written has nothing in it.
fn opened<T>(table: Result<T, TableError>) -> Result<Option<T>, TableError> {
    match table {
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        opened => opened.map(Some),
    }
}

/// A value that is too short reads as an empty record of 1970, which its channel's age limit drops.
fn decode(channel: &str, id: u64, value: &[u8]) -> Held {
    let payload = value.get(HEADER..).unwrap_or_default();
    let mut held = Held {
        id,
        size: size(channel, payload),
        run: 0,
        wall_ms: 0,
        mono: Duration::ZERO,
        payload: Bytes::copy_from_slice(payload),
        place: None,
    };
    if let Some((wall, rest)) = value.split_first_chunk::<8>()
        && let Some((mono, rest)) = rest.split_first_chunk::<8>()
        && let Some((run, _)) = rest.split_first_chunk::<4>()
    {
        held.wall_ms = i64::from_le_bytes(*wall);
        held.mono = Duration::from_micros(u64::from_le_bytes(*mono));
        held.run = u32::from_le_bytes(*run);
    }
    held
}

/// Writes records as the version before the log did.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) fn write_old(database: &Database, run: u32, dropped: u64, old: &[(&str, u64, i64, &[u8])]) {
    let written = database.write(|transaction| {
        let mut records = transaction.open_table(RECORDS)?;
        for (channel, id, wall_ms, payload) in old {
            let mut bytes = wall_ms.to_le_bytes().to_vec();
            bytes.extend_from_slice(&7_000_000_u64.to_le_bytes());
            bytes.extend_from_slice(&run.to_le_bytes());
            bytes.extend_from_slice(payload);
            records.insert((*channel, *id), bytes.as_slice())?;
        }
        let mut values = transaction.open_table(VALUES)?;
        values.insert(RUN, u64::from(run))?;
        values.insert(DROPPED, dropped)?;
        Ok(())
    });
    written.unwrap();
}
