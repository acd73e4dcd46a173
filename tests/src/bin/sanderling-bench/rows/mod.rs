//! The groups of rows, one file each.

pub(crate) mod copy;
pub(crate) mod first;
pub(crate) mod images;
pub(crate) mod inference;
pub(crate) mod interpreter;
pub(crate) mod isolated;
pub(crate) mod memory;
pub(crate) mod outbox;
pub(crate) mod pull;
mod pulse;
pub(crate) mod recording;
pub(crate) mod workers;
