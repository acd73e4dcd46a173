//! The outbox's tables in redb: records by channel and id, and a few values.
//!
//! A record's value: wall time in ms (i64), monotonic time in µs (u64), run (u32), all little-endian, then the payload.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use redb::{ReadableTable, TableDefinition, TableError};

use super::{
    queue::{Held, Queue},
    size,
};
use crate::{
    state::{self, Rows},
    store::{StoreError, database::Database},
};

const RECORDS: TableDefinition<'static, (&str, u64), &[u8]> = TableDefinition::new("outbox");
const VALUES: TableDefinition<'static, &str, u64> = TableDefinition::new("outbox_values");
const RUN: &str = "run";
const DROPPED: &str = "dropped";
const HEADER: usize = 8 + 8 + 4;

/// What an earlier run left.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The number of this run.
    pub(super) run: u32,
    pub(super) next_id: u64,
    pub(super) dropped: u64,
    /// Records and bytes by channel.
    pub(super) channels: BTreeMap<String, (u64, u64)>,
}

/// What one commit writes.
pub(super) struct Batch<'a> {
    pub(super) run: u32,
    pub(super) dropped: u64,
    pub(super) removals: &'a BTreeSet<(String, u64)>,
    pub(super) queues: &'a BTreeMap<String, Queue>,
    pub(super) rows: &'a Rows,
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

    /// Counts what is there. The number of this run is stored with its first batch.
    pub(super) fn load(&self) -> Result<Found, StoreError> {
        self.0.read(|transaction| {
            let mut found = Found { run: 1, next_id: 1, ..Found::default() };
            if let Some(records) = opened(transaction.open_table(RECORDS))? {
                for entry in records.iter()? {
                    let (key, value) = entry?;
                    let (channel, id) = key.value();
                    let (records, bytes) = found.channels.entry(channel.to_owned()).or_default();
                    *records += 1;
                    *bytes += size(channel, value.value().get(HEADER..).unwrap_or_default());
                    found.next_id = found.next_id.max(id.saturating_add(1));
                }
            }
            if let Some(values) = opened(transaction.open_table(VALUES))? {
                let value = |name| Ok::<u64, redb::Error>(values.get(name)?.map_or(0, |value| value.value()));
                found.run = u32::try_from(value(RUN)?.wrapping_add(1) & u64::from(u32::MAX)).unwrap_or(0);
                found.dropped = value(DROPPED)?;
            }
            Ok(found)
        })
    }

    /// The first record of a channel from `from` on that is not `gone`.
    pub(super) fn first(
        &self,
        channel: &str,
        from: u64,
        gone: impl Fn(u64) -> bool,
    ) -> Result<Option<Held>, StoreError> {
        self.0.read(|transaction| {
            let Some(records) = opened(transaction.open_table(RECORDS))? else { return Ok(None) };
            for entry in records.range((channel, from)..=(channel, u64::MAX))? {
                let (key, value) = entry?;
                let (_, id) = key.value();
                if !gone(id) {
                    return Ok(Some(decode(channel, id, value.value())));
                }
            }
            Ok(None)
        })
    }

    /// Writes and removes in one transaction.
    pub(super) fn commit(&self, batch: &Batch<'_>) -> Result<(), StoreError> {
        self.0.write(|transaction| {
            let mut records = transaction.open_table(RECORDS)?;
            for (channel, id) in batch.removals {
                records.remove((channel.as_str(), *id))?;
            }
            for (channel, queue) in batch.queues {
                for held in &queue.held {
                    records.insert((channel.as_str(), held.id), encode(held).as_slice())?;
                }
            }
            let mut values = transaction.open_table(VALUES)?;
            values.insert(RUN, u64::from(batch.run))?;
            values.insert(DROPPED, batch.dropped)?;
            state::table::write(transaction, batch.rows)
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

fn encode(held: &Held) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + held.payload.len());
    bytes.extend_from_slice(&held.wall_ms.to_le_bytes());
    bytes.extend_from_slice(&u64::try_from(held.mono.as_micros()).unwrap_or(u64::MAX).to_le_bytes());
    bytes.extend_from_slice(&held.run.to_le_bytes());
    bytes.extend_from_slice(&held.payload);
    bytes
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
