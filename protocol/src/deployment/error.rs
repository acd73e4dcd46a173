//! Why a deployment is refused.

use thiserror::Error;

use super::{MAX_DOCUMENT, MAX_SOURCE, SCHEMA};

/// Why a deployment document is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DeploymentError {
    /// The document is too long to be looked at.
    #[error("the deployment is {length} bytes long; at most {MAX_DOCUMENT} are read")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Not JSON of the expected form, an unknown field included.
    #[error("the deployment does not parse: {0}")]
    Form(String),
    /// Written for another version of Sanderling.
    #[error("the deployment has schema {found:?}; this agent understands {SCHEMA:?}")]
    Schema {
        /// The schema it names.
        found: String,
    },
    /// A name is empty, too long, or has a character outside `[A-Za-z0-9._-]`.
    #[error("{what} {name:?} is not a name: 1 to 64 characters of A-Z a-z 0-9 . _ - are")]
    Name {
        /// What is named.
        what: &'static str,
        /// The name found.
        name: String,
    },
    /// Two things have one name.
    #[error("{what} {name:?} stands there twice")]
    Twice {
        /// What is named.
        what: &'static str,
        /// The name found twice.
        name: String,
    },
    /// A number is outside its range.
    #[error("module {module}: {field} is {value}; allowed is {min} to {max}")]
    Range {
        /// The module's name.
        module: String,
        /// The field, as in the document.
        field: &'static str,
        /// The value found.
        value: u64,
        /// The smallest allowed.
        min: u64,
        /// The largest allowed.
        max: u64,
    },
    /// More entries than are allowed.
    #[error("{what}: {count} entries; at most {max} are allowed")]
    TooMany {
        /// The list.
        what: &'static str,
        /// Its length.
        count: usize,
        /// The most allowed.
        max: usize,
    },
    /// A channel is emitted to but not described, or described but not granted.
    #[error("module {module}: channel {channel:?} {problem}")]
    Channel {
        /// The module's name.
        module: String,
        /// The channel's name.
        channel: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A module is to be given what no module emits.
    #[error(
        "module {module}: its input {input} is no channel of this deployment; name a module of it, and a channel that it has"
    )]
    NoChannel {
        /// The module's name.
        module: String,
        /// The input, as module and channel.
        input: String,
    },
    /// A module would be given what it brings about itself.
    #[error("the modules feed each other in a circle: {path}; take one of these inputs out")]
    Cycle {
        /// The modules, in the order in which records go round.
        path: String,
    },
    /// The name of a channel as an input does not fit a frame's header.
    #[error(
        "module {module}: the input {input:?} has a name of {length} bytes; frames have room for {MAX_SOURCE}, so shorten the module's name or the channel's"
    )]
    LongSource {
        /// The module's name.
        module: String,
        /// The input, as module and channel.
        input: String,
        /// Its length in bytes.
        length: usize,
    },
    /// Records are no series, so no window can be cut of them.
    #[error("module {module}: the input {input} gives records, of which no window can be cut; take another policy")]
    WindowOfRecords {
        /// The module's name.
        module: String,
        /// The input, as module and channel.
        input: String,
    },
    /// A rate is no number, or not one that a device can keep.
    #[error("module {module}: sample.per_second is {value}; allowed is 0.0001 to 100000")]
    Rate {
        /// The module's name.
        module: String,
        /// The value found.
        value: String,
    },
    /// This version of the agent cannot do what is asked.
    #[error("module {module}: {what} is not supported by this agent; {cure}")]
    Unsupported {
        /// The module's name.
        module: String,
        /// What is asked for.
        what: String,
        /// What to do.
        cure: &'static str,
    },
    /// The deployment gives a module what its release does not allow it.
    #[error(
        "module {module}: grant {grant:?} exceeds the ceiling of its release, which allows {allowed}; take it out, or release the module anew with a higher ceiling"
    )]
    GrantAboveCeiling {
        /// The module's name.
        module: String,
        /// The grant that is asked for.
        grant: String,
        /// The grants of the ceiling, for people.
        allowed: String,
    },
    /// The deployment gives a module more memory than its release allows it.
    #[error(
        "module {module}: memory_mib {asked} exceeds the ceiling of its release, which allows {allowed}; lower it, or release the module anew with a higher ceiling"
    )]
    MemoryAboveCeiling {
        /// The module's name.
        module: String,
        /// What is asked for, in MiB.
        asked: u32,
        /// The ceiling, in MiB.
        allowed: u32,
    },
    /// The deployment gives a module more time for a frame than its release allows it.
    #[error(
        "module {module}: deadline_ms {asked} exceeds the ceiling of its release, which allows {allowed}; lower it, or release the module anew with a higher ceiling"
    )]
    DeadlineAboveCeiling {
        /// The module's name.
        module: String,
        /// What is asked for, in milliseconds.
        asked: u32,
        /// The ceiling, in milliseconds.
        allowed: u32,
    },
}
