//! Confinement, before a byte of the module or of a model is parsed.
//!
//! In force afterwards: no new privileges; an address-space limit made of the guest's and the native memory; no new descriptors; no core
//! dumps; death with the supervisor; the system calls of [`seccomp`] alone; and, where the kernel has landlock, no file system,
//! no TCP, no abstract sockets and no signals to other processes. The limits and the prctl calls are there on every kernel that we run
//! on, so that failing to set one is an error; landlock and seccomp may be missing, and then their names go into
//! `Ready.unconfined`.

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope};
use rustix::{
    io::Errno,
    process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit},
    thread::set_no_new_privs,
};
use sanderling_protocol::{
    deployment::{Grant, Limits},
    worker::{Start, state_memory},
};
use thiserror::Error;

use crate::seccomp;

/// Address space for the program itself, its stack and its allocator.
const BASE: u64 = 160 << 20;
/// A compiled module takes at most about this many bytes for each of its own.
const COMPILED: u64 = 12;
const MIB: u64 = 1 << 20;

/// Why the worker could not confine itself.
#[derive(Debug, Error)]
pub(crate) enum ConfineError {
    /// A system call that every kernel has.
    #[error("{what} failed: {errno}; the worker does not run a guest unconfined")]
    System {
        /// What was called.
        what: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
}

/// Confines the process for good. Returns the names of measures that this kernel does not give.
pub(crate) fn confine(start: &Start, ring_len: u64) -> Result<Vec<String>, ConfineError> {
    let said = |what| move |errno| ConfineError::System { what, errno };
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(said("PR_SET_PDEATHSIG"))?;
    set_no_new_privs(true).map_err(said("PR_SET_NO_NEW_PRIVS"))?;
    limit(Resource::Core, 0).map_err(said("RLIMIT_CORE"))?;
    limit(Resource::As, address_space(start, ring_len)).map_err(said("RLIMIT_AS"))?;
    let mut unconfined = landlocked();
    // After landlock, whose rule set is a descriptor too.
    limit(Resource::Nofile, 0).map_err(said("RLIMIT_NOFILE"))?;
    // Last: it forbids all of the above.
    if let Err(error) = seccomp::confine() {
        unconfined.push(format!("seccomp: {error}"));
    }
    Ok(unconfined)
}

fn limit(resource: Resource, most: u64) -> Result<(), Errno> {
    setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
}

fn address_space(start: &Start, ring_len: u64) -> u64 {
    let Limits { memory_mib, native_memory_mib, .. } = start.limits;
    [
        u64::from(memory_mib).saturating_mul(MIB),
        u64::from(native_memory_mib).saturating_mul(MIB),
        start.module.length.saturating_mul(COMPILED),
        start.grants.iter().map(|grant| if let Grant::State(quota) = grant { state_memory(*quota) } else { 0 }).sum(),
        ring_len,
    ]
    .into_iter()
    .fold(BASE, u64::saturating_add)
}

fn landlocked() -> Vec<String> {
    match restrict() {
        Ok(RulesetStatus::FullyEnforced) => Vec::new(),
        Ok(RulesetStatus::PartiallyEnforced) => vec!["landlock: network or scopes".to_owned()],
        Ok(RulesetStatus::NotEnforced) | Err(_) => vec!["landlock".to_owned()],
    }
}

/// Nothing is allowed: there is no rule.
fn restrict() -> Result<RulesetStatus, RulesetError> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V6))?
        .handle_access(AccessNet::from_all(ABI::V6))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        .restrict_self()?;
    Ok(status.ruleset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(memory_mib: u32, native_memory_mib: u32, length: u64) -> Start {
        let sha256 = sanderling_protocol::digest::Digest::of(b"");
        Start {
            name: "m".to_owned(),
            module: sanderling_protocol::worker::Blob { sha256, length },
            models: Vec::new(),
            execution: Default::default(),
            inputs: Vec::new(),
            config: String::new(),
            grants: Vec::new(),
            limits: Limits { memory_mib, native_memory_mib, ..Limits::default() },
        }
    }

    #[test]
    fn the_address_space_is_what_the_deployment_says_and_a_base() {
        assert_eq!(address_space(&start(1, 8, 10), 4096), BASE + 9 * MIB + 120 + 4096);
        assert_eq!(address_space(&start(1, 8, u64::MAX), 4096), u64::MAX);
        let keeping = Start { grants: vec![Grant::State(1 << 20)], ..start(1, 8, 0) };
        assert_eq!(address_space(&keeping, 0), BASE + 9 * MIB + state_memory(1 << 20));
    }
}
