//! What the module keeps over restarts and updates, with the grant `state:<bytes>`.
//!
//! Changes are seen at once, and kept when the call ends well: after a fault all is as it was when the frame began. A new version of the
//! module begins with what the old one kept last; where it is rolled back, what it changed is forgotten.

use alloc::{vec, vec::Vec};

use super::{Errno, check, host};
use crate::errno::ENOENT;

/// Room for most values, so that they take one call of the host.
const USUAL: usize = 256;

/// The value of a key, `None` where it has none.
///
/// # Errors
/// `EACCES` without the grant, `EINVAL` for an empty key, `E2BIG` for one of more than 256 bytes.
pub fn get(key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Errno> {
    let key = key.as_ref();
    let mut value = vec![0; USUAL];
    let mut length = match check(host::state_get(key, &mut value)) {
        Err(Errno(ENOENT)) => return Ok(None),
        length => length?,
    };
    if length > value.len() {
        value.resize(length, 0);
        length = check(host::state_get(key, &mut value))?;
    }
    value.truncate(length);
    Ok(Some(value))
}

/// Sets the value of a key.
///
/// # Errors
/// `EACCES` without the grant, `ENOSPC` above its quota or 4096 keys, `EINVAL` for an empty key, `E2BIG` for one of more than 256
/// bytes or a value of more than 64 KiB.
pub fn set(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), Errno> {
    check(host::state_set(key.as_ref(), value.as_ref())).map(|_| ())
}

/// Forgets the value of a key; whether there was one.
///
/// # Errors
/// As [`get`].
pub fn delete(key: impl AsRef<[u8]>) -> Result<bool, Errno> {
    match check(host::state_delete(key.as_ref())) {
        Err(Errno(ENOENT)) => Ok(false),
        result => result.map(|_| true),
    }
}
