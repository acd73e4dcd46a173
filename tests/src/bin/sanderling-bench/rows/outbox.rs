//! What the outbox writes for each byte of records, beside the rows of a redb table. Counted at the disk's port, on the simulated disk: the same on
//! every machine.

use anyhow::Result;
use sanderling_agent::outbox::cost::{self, Cost};

use crate::report::{Budget, Row};

/// A record as modules emit them: a short line of JSON.
const BYTES: usize = 200;

/// Measures the rows.
pub(crate) fn measure() -> Result<Vec<Row>> {
    [("outbox-amplification-1", 1), ("outbox-amplification-10", 10), ("outbox-amplification-100", 100)]
        .map(|(name, batch)| row(name, batch))
        .into_iter()
        .collect()
}

fn row(name: &'static str, batch: usize) -> Result<Row> {
    let (log, redb) = (cost::outbox(batch, BYTES)?, cost::redb(batch, BYTES)?);
    let Cost { stored, removed, pages } = log;
    let what = format!(
        "written for a byte of records of {BYTES} bytes, {batch} to a sync: {stored:.2} to store, {removed:.2} to remove; {pages:.2} in whole pages (redb {:.2})",
        redb.pages
    );
    let row = Row::new(name, what, "x", log.both()).beside("rows of redb", redb.both());
    Ok(if batch == 100 { row.within(Budget::AtMost(3.0)) } else { row })
}
