//! Confinement, before a byte of the module or of a model is parsed.
//!
//! [`confine`] takes every [`Measure`] in an order in which none is in the way of the next, and finds out of each whether it is in force. What
//! every kernel has must succeed. What a kernel or the supervisor may fail to give goes into `Ready.unconfined`, and the supervisor
//! decides whether to go on.
//!
//! Limits: `RLIMIT_AS` counts address space, not memory in use, so that it is set to what the program takes when it is confined and what its
//! guest may have beyond.

use std::{env, fs, io};

use rustix::{
    fs::{Mode, OFlags, SealFlags, fcntl_get_seals, fcntl_getfl},
    io::Errno,
    process::{
        Resource, Rlimit, Signal, chdir, getpgrp, getpid, getsid, parent_process_death_signal,
        set_parent_process_death_signal, setrlimit, umask,
    },
    thread::{CapabilitySet, CapabilitySets, capabilities, no_new_privs, set_capabilities, set_no_new_privs},
};
use sanderling_protocol::{
    deployment::{Grant, Limits},
    worker::{Measure, Missing, Start, state_memory},
};
use thiserror::Error;

use crate::{landlocked, seccomp};

/// The stack as far as it may grow, and what an allocator takes beyond what it is asked for.
const BEYOND: u64 = 24 << 20;
/// The address space of the program itself, where the kernel does not say.
const USUAL: u64 = 160 << 20;
/// A linear memory that grows is given up to so many times its size, of which it never touches more than that.
const GROWTH: u64 = 2;
/// A compiled module takes at most about this many bytes for each of its own.
const COMPILED: u64 = 12;
const MIB: u64 = 1 << 20;
/// Of 1000: what has less is ended later when memory runs out. Services have 0 unless told otherwise.
const OOM_SCORE: i32 = 500;

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

/// What keeps a measure from being in force, for people.
pub(crate) type Held = Result<(), String>;

/// Confines the process for good. Returns the measures that are not in force; what is `inherited` was looked at before.
pub(crate) fn confine(start: &Start, ring_len: u64, inherited: Held) -> Result<Vec<Missing>, ConfineError> {
    let said = |what| move |errno| ConfineError::System { what, errno };
    let mut missing = Vec::new();
    let mut found = |measure, held: Held| missing.extend(held.err().map(|why| Missing { measure, why }));
    found(Measure::Inherited, inherited);
    found(Measure::Session, own_session());
    found(Measure::Environment, empty_environment());
    // What is set through files, while they can still be opened.
    found(Measure::OomScore, raise_oom_score());
    found(Measure::CoreDumps, nothing_to_dump());
    let address_space = address_space(start, ring_len, in_use());
    chdir("/").map_err(said("chdir"))?;
    umask(Mode::from_raw_mode(0o777));
    die_with_parent().map_err(said("PR_SET_PDEATHSIG"))?;
    set_no_new_privs(true).map_err(said("PR_SET_NO_NEW_PRIVS"))?;
    limit(Resource::Core, 0).map_err(said("RLIMIT_CORE"))?;
    limit(Resource::As, address_space).map_err(said("RLIMIT_AS"))?;
    let landlocked = landlocked::restrict();
    found(Measure::Files, landlocked.files);
    found(Measure::Network, landlocked.network);
    found(Measure::Scopes, landlocked.scopes);
    // After landlock, whose rule set is a descriptor too.
    limit(Resource::Nofile, 0).map_err(said("RLIMIT_NOFILE"))?;
    found(Measure::Capabilities, no_capabilities());
    // Last: it forbids all of the above.
    found(
        Measure::SystemCalls,
        seccomp::confine().map_err(|error| format!("this kernel has no seccomp filters: {error}")),
    );
    Ok(missing)
}

/// Has the kernel end this process when its parent ends.
pub(crate) fn die_with_parent() -> Result<(), Errno> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if parent_process_death_signal()? == Some(Signal::KILL) { Ok(()) } else { Err(Errno::NOSYS) }
}

/// Whether no program that is executed can bring privileges.
pub(crate) fn no_new_privileges() -> Held {
    set_no_new_privs(true).map_err(|errno| errno.to_string())?;
    if no_new_privs().is_ok_and(|set| set) { Ok(()) } else { Err("the kernel does not keep it".to_owned()) }
}

/// Sets a limit, soft and hard.
pub(crate) fn limit(resource: Resource, most: u64) -> Result<(), Errno> {
    setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
}

/// Gives every capability up.
pub(crate) fn no_capabilities() -> Held {
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).map_err(|errno| format!("capset: {errno}"))?;
    match capabilities(None) {
        Ok(held) if held == none => Ok(()),
        Ok(held) => Err(format!("it still has {held:?}")),
        Err(errno) => Err(format!("capget: {errno}")),
    }
}

/// Asks the kernel to end this process before others, and looks whether it will.
pub(crate) fn raise_oom_score() -> Held {
    const FILE: &str = "/proc/self/oom_score_adj";
    let read = || fs::read_to_string(FILE).ok()?.trim().parse::<i32>().ok();
    if read().is_some_and(|score| score >= OOM_SCORE) {
        return Ok(());
    }
    let written = fs::write(FILE, OOM_SCORE.to_string());
    match (written, read()) {
        (_, Some(score)) if score >= OOM_SCORE => Ok(()),
        (Err(error), _) => Err(format!("{FILE}: {error}")),
        (Ok(()), score) => Err(format!("{FILE} says {score:?} after {OOM_SCORE} was written")),
    }
}

/// Leaves nothing of its memory to a core dump: `RLIMIT_CORE` does not hold where the kernel gives dumps to a program
/// (linux/Documentation/admin-guide/sysctl/kernel.rst, `core_pattern`).
pub(crate) fn nothing_to_dump() -> Held {
    const FILE: &str = "/proc/self/coredump_filter";
    match fs::write(FILE, "0") {
        Ok(()) => Ok(()),
        // A kernel that dumps no programs of this kind.
        Err(error) if error.kind() == io::ErrorKind::NotFound && fs::exists("/proc/self/stat").is_ok_and(|is| is) => {
            Ok(())
        }
        Err(error) => Err(format!("{FILE}: {error}")),
    }
}

/// Whether this process leads a session, and so a process group.
pub(crate) fn own_session() -> Held {
    let own = getpid();
    let leads = getpgrp() == own && getsid(None).is_ok_and(|session| session == own);
    if leads { Ok(()) } else { Err("it was started in the session or the group of another process".to_owned()) }
}

/// Whether nothing of the supervisor's environment came along.
pub(crate) fn empty_environment() -> Held {
    match env::vars_os().count() {
        0 => Ok(()),
        variables => Err(format!("it was started with {variables} variables")),
    }
}

/// Whether the ring keeps its size, and the blobs their content, whatever this process does.
pub(crate) fn unchangeable(ring: &impl rustix::fd::AsFd, blobs: &[rustix::fd::OwnedFd]) -> Held {
    let seals = fcntl_get_seals(ring).map_err(|errno| format!("the ring has no seals: {errno}"))?;
    if !seals.contains(SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL) {
        return Err(format!("the ring has only the seals {seals:?}"));
    }
    let read_only = |blob| fcntl_getfl(blob).is_ok_and(|flags| flags.intersection(OFlags::RWMODE) == OFlags::RDONLY);
    if blobs.iter().all(read_only) { Ok(()) } else { Err("a blob is open for writing".to_owned()) }
}

/// The address space that this process takes, in bytes; `None` where the kernel does not say.
pub(crate) fn in_use() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// What the process may take: what it has, the memory that it shares included, and what its module may use beyond.
fn address_space(start: &Start, ring_len: u64, in_use: Option<u64>) -> u64 {
    let Limits { memory_mib, native_memory_mib, capsule_kib, .. } = start.limits;
    let shared = ring_len.saturating_add(u64::from(capsule_kib) << 10);
    [
        u64::from(memory_mib).saturating_mul(GROWTH * MIB),
        u64::from(native_memory_mib).saturating_mul(MIB),
        start.module.length.saturating_mul(COMPILED),
        start.grants.iter().map(|grant| if let Grant::State(quota) = grant { state_memory(*quota) } else { 0 }).sum(),
        BEYOND,
    ]
    .into_iter()
    .fold(in_use.unwrap_or(USUAL.saturating_add(shared)), u64::saturating_add)
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
    fn the_address_space_is_what_the_deployment_says_beyond_what_is_in_use() {
        assert_eq!(address_space(&start(1, 8, 10), 4096, Some(70 * MIB)), 80 * MIB + 120 + BEYOND);
        assert_eq!(address_space(&start(1, 8, 10), 4096, None), USUAL + 4096 + 11 * MIB + 120 + BEYOND);
        assert_eq!(address_space(&start(1, 8, u64::MAX), 4096, Some(1)), u64::MAX);
        let keeping = Start { grants: vec![Grant::State(1 << 20)], ..start(1, 8, 0) };
        assert_eq!(address_space(&keeping, 0, Some(0)), 10 * MIB + state_memory(1 << 20) + BEYOND);
    }

    #[test]
    fn the_kernel_says_what_address_space_is_in_use() {
        let before = in_use().unwrap_or(0);
        let room = vec![0_u8; 256 << 20];
        assert!(in_use().is_some_and(|bytes| bytes >= before + (200 << 20)), "{before} and then {:?}", in_use());
        drop(room);
    }
}
