//! WASI's arguments and environment, out of the deployment's `config`.
//!
//! Arguments are the program's name, which is always the same, and then `config.args`, an array of strings. The environment
//! is `config.env`, an object of strings. What has another form gives nothing, and so does a string that C could not hold. Both
//! are made once, when the module is loaded.

use serde_json::Value;

use super::{Host, SUCCESS, code};
use crate::{
    GuestMemory,
    host::{Errno, charge_copy},
};

/// A string is charged as so many bytes more than it has.
const COPIED_PER_STRING: usize = 64;
/// What every program is called.
const PROGRAM: &str = "module";

/// The arguments and the environment of a guest.
#[derive(Debug, Default)]
pub(crate) struct Strings {
    pub(super) arguments: List,
    pub(super) environment: List,
}

/// Strings, each ended by a zero byte.
#[derive(Debug, Default)]
pub(super) struct List {
    bytes: Vec<u8>,
    count: usize,
}

impl Strings {
    /// Out of a `config`, as JSON text.
    pub(crate) fn of(config: &str) -> Self {
        let config: Value = serde_json::from_str(config).unwrap_or_default();
        let mut strings = Self::default();
        strings.arguments.push(PROGRAM);
        for argument in arguments(&config).unwrap_or_default() {
            strings.arguments.push(argument);
        }
        for (name, value) in environment(&config).unwrap_or_default() {
            if !name.is_empty() && !name.contains('=') {
                strings.environment.push(&format!("{name}={value}"));
            }
        }
        strings
    }
}

fn arguments(config: &Value) -> Option<Vec<&str>> {
    config.get("args")?.as_array()?.iter().map(Value::as_str).collect()
}

fn environment(config: &Value) -> Option<Vec<(&str, &str)>> {
    config.get("env")?.as_object()?.iter().map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect()
}

impl List {
    fn push(&mut self, text: &str) {
        if !text.contains('\0') {
            self.bytes.extend_from_slice(text.as_bytes());
            self.bytes.push(0);
            self.count += 1;
        }
    }

    fn strings(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.split_inclusive(|byte| *byte == 0)
    }
}

/// Writes how many strings there are, and how long they are together.
pub(super) fn sizes(caller: &mut Host<'_>, list: fn(&Strings) -> &List, count: i32, size: i32) -> i32 {
    code(GuestMemory::split(caller).and_then(|(mut memory, state)| {
        let list = list(&state.strings);
        memory.write(count, &word(list.count)?)?;
        memory.write(size, &word(list.bytes.len())?)
    }))
}

/// Writes the strings to `bytes`, and where each begins to `pointers`.
pub(super) fn get(caller: &mut Host<'_>, list: fn(&Strings) -> &List, pointers: i32, bytes: i32) -> i32 {
    let result = GuestMemory::split(caller).and_then(|(mut memory, state)| {
        let list = list(&state.strings);
        let mut at = bytes;
        for (string, index) in list.strings().zip(0_i32..) {
            memory.write(pointers.wrapping_add(index.wrapping_mul(4)), &at.to_le_bytes())?;
            memory.write(at, string)?;
            at = at.wrapping_add(i32::try_from(string.len()).map_err(|_| Errno::FAULT)?);
        }
        Ok(list.bytes.len() + COPIED_PER_STRING * list.count)
    });
    charge_copy(caller, result.unwrap_or(0));
    result.map_or_else(|error| code(Err(error)), |_| SUCCESS)
}

fn word(number: usize) -> Result<[u8; 4], Errno> {
    u32::try_from(number).map(u32::to_le_bytes).map_err(|_| Errno::INVAL)
}
