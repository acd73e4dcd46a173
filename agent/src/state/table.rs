//! The rows of modules' state in redb, by space (empty for what is committed, else the identity of the deployment on trial),
//! module and key. A row's value is one byte, 1 for a value and 0 for one that a trial has deleted, and the value.

use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};
use sanderling_protocol::{
    digest::Digest,
    worker::{StateValue, check_key, check_value},
};

use super::{Row, RowKey, Rows};
use crate::store::{StoreError, database::Database};

const STATE: TableDefinition<'static, (&str, &str, &[u8]), &[u8]> = TableDefinition::new("module_state");
const DELETED: u8 = 0;
const VALUE: u8 = 1;

/// Every row that is there. What has no meaning is passed over.
///
/// # Errors
/// [`StoreError`].
pub fn load(database: &Database) -> Result<Rows, StoreError> {
    database.read(read)
}

fn read(transaction: &ReadTransaction) -> Result<Rows, redb::Error> {
    let mut rows = Rows::new();
    let table = match transaction.open_table(STATE) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(rows),
        Err(error) => return Err(error.into()),
    };
    for entry in table.iter()? {
        let (key, value) = entry?;
        let (space, module, key) = key.value();
        let trial = if space.is_empty() { Ok(None) } else { space.parse().map(Some) };
        let row = match value.value().split_first() {
            Some((&VALUE, value)) if check_value(value).is_ok() => Row::Value(StateValue::from(value)),
            Some((&DELETED, [])) => Row::Deleted,
            _ => continue,
        };
        if let (Ok(trial), Ok(())) = (trial, check_key(key)) {
            rows.insert(RowKey { trial, module: module.to_owned(), key: key.into() }, row);
        }
    }
    Ok(rows)
}

/// Changes rows within a transaction.
///
/// # Errors
/// What redb says.
pub(crate) fn write(transaction: &WriteTransaction, rows: &Rows) -> Result<(), redb::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut table = transaction.open_table(STATE)?;
    for (RowKey { trial, module, key }, row) in rows {
        let space = trial.map(|trial| trial.to_string()).unwrap_or_default();
        let place = (space.as_str(), module.as_str(), &**key);
        match row {
            Row::Value(value) => {
                let mut bytes = Vec::with_capacity(1 + value.len());
                bytes.push(VALUE);
                bytes.extend_from_slice(value);
                table.insert(place, bytes.as_slice())?;
            }
            Row::Deleted => drop(table.insert(place, [DELETED].as_slice())?),
            Row::Gone => drop(table.remove(place)?),
        }
    }
    Ok(())
}

/// Makes rows of what was on trial follow the slots, within the transaction that stores these: what the committed deployment changed
/// on trial takes the place of what was there; what others changed is removed, but for the one that is on trial now.
///
/// # Errors
/// What redb says.
pub(crate) fn settle(
    transaction: &WriteTransaction,
    committed: Option<&Digest>,
    trial: Option<&Digest>,
) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(STATE)?;
    let [committed, trial] = [committed, trial].map(|identity| identity.map(Digest::to_string));
    let mut rows = Vec::new();
    // The space of what is committed comes first.
    for entry in table.range(("\0", "", &[][..])..)? {
        let (key, value) = entry?;
        let (space, module, key) = key.value();
        if Some(space) != trial.as_deref() {
            let value = (Some(space) == committed.as_deref()).then(|| value.value().to_vec());
            rows.push((space.to_owned(), module.to_owned(), key.to_vec(), value));
        }
    }
    for (space, module, key, value) in rows {
        table.remove((space.as_str(), module.as_str(), key.as_slice()))?;
        let place = ("", module.as_str(), key.as_slice());
        match value {
            None => {}
            Some(value) if value.first() == Some(&VALUE) => drop(table.insert(place, value.as_slice())?),
            Some(_) => drop(table.remove(place)?),
        }
    }
    Ok(())
}
