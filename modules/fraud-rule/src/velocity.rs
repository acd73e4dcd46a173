//! How many payments of an account came within a span of time: what is kept of earlier ones, and what is forgotten.
//!
//! Each instance sees one payment, so that the times of earlier ones are kept with the host's state functions. An account belongs by its hash to
//! one of [`SETS`] sets, and each set is one key: a payment reads and writes no more than [`ACCOUNTS`] accounts with the times of their last
//! payments. A further account takes the place of the one in its set that paid longest ago. Of an account nothing but its hash is kept.
//!
//! Limits: all sets together hold 2,048 accounts, in at most `2048 * (32 + 11 * payments)` bytes. Where the grant gives less, a set forgets those
//! of its accounts that paid longest ago, and at last the payment at hand; the log says so.

use sanderling_guest::{
    errno::{EACCES, ENOSPC},
    sdk::{self, Errno, Fault, Level, state},
};

use crate::{Payment, config::Velocity};

const SETS: u64 = 256;
/// Accounts of a set.
const ACCOUNTS: usize = 8;

/// An account's hash, and when its last payments were, in the order in which they came. A set has the one that paid last at its end.
type Known = (u64, Vec<i64>);

/// Whether the deployment lets the module keep something.
pub(crate) fn check_grant() -> Result<(), Fault> {
    match state::get(key(0)) {
        Err(Errno(EACCES)) => {
            sdk::log(Level::Error, "the module's config: velocity takes the grant state:<bytes>");
            Err(Fault::CONFIG)
        }
        result => Ok(result.map(|_| ())?),
    }
}

/// Counts the payments of an account within the window that ends with this one, itself included, as far as they are remembered; and
/// remembers it.
pub(crate) fn count(rule: &Velocity, payment: &Payment) -> Result<usize, Errno> {
    let account = hash(&payment.account);
    let key = key(account % SETS);
    let mut set: Vec<Known> =
        state::get(&key)?.and_then(|value| serde_json::from_slice(&value).ok()).unwrap_or_default();
    let at = set.iter().position(|(known, _)| *known == account);
    let (_, mut times) = at.map_or_else(|| (account, Vec::new()), |at| set.remove(at));
    let before = payment.at.saturating_sub(rule.window_s.get().into());
    let earlier = times.iter().filter(|time| **time > before && **time <= payment.at).count();
    times.push(payment.at);
    keep_last(&mut times, rule.payments.get().into());
    set.push((account, times));
    keep_last(&mut set, ACCOUNTS);
    keep(&key, set)?;
    Ok(earlier + 1)
}

fn keep_last<T>(list: &mut Vec<T>, most: usize) {
    list.drain(..list.len().saturating_sub(most));
}

fn keep(key: &str, mut set: Vec<Known>) -> Result<(), Errno> {
    loop {
        match state::set(key, serde_json::to_vec(&set).unwrap_or_default()) {
            Err(Errno(ENOSPC)) if set.len() > 1 => drop(set.remove(0)),
            Err(Errno(ENOSPC)) => {
                let line =
                    "velocity does not see a payment that there is no room to remember: raise the grant state:<bytes>";
                sdk::log(Level::Error, line);
                return Ok(());
            }
            result => return result,
        }
    }
}

fn key(set: u64) -> String {
    format!("velocity/{set}")
}

/// FNV-1a: the same in each version of the module.
fn hash(account: &str) -> u64 {
    account.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
