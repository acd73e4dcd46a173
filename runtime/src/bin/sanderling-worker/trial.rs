//! Tries one measure of confinement, for `sanderling-agent doctor`: takes it as [`confine`] does, and then does what it forbids.
//!
//! The process ends with 0 and without a word where the measure held, with 1 and what went on instead on standard error where it did not. Some
//! measures show in another end, which whoever started the process looks for: by `SIGSYS` for [`Measure::SystemCalls`], by `SIGABRT` without a
//! core dump for [`Measure::CoreDumps`]. For [`Measure::ParentDeath`] a second process is left behind, which says so if it lives on.

#![allow(unsafe_code)]

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::{
        fd::OwnedFd,
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream},
    },
    process::{Command, Stdio},
    ptr::null_mut,
    thread,
    time::Duration,
};

use rustix::{
    fs::ftruncate,
    io::Errno,
    mm::{MapFlags, ProtFlags, mmap},
    process::{Resource, getpid, getppid, test_kill_process},
};
use sanderling_protocol::worker::{FIRST_BLOB_FD, Measure, RING_FD};

use crate::{
    confine::{self, Held},
    landlocked, seccomp, shared,
};

/// What the second process of [`Measure::ParentDeath`] is called with.
pub(crate) const ORPHAN: &str = "--orphan";
/// Address space that is left to a process that tries to take more, in bytes.
const LEFT: u64 = 16 << 20;
/// What it tries to take, in bytes.
const TAKEN: usize = 64 << 20;

/// Takes the measure, and tries it.
pub(crate) fn attempt(measure: Measure) -> Held {
    match measure {
        Measure::SystemCalls => system_calls(),
        Measure::NoNewPrivileges => confine::no_new_privileges(),
        Measure::Capabilities => confine::no_capabilities(),
        Measure::ParentDeath => leave_an_orphan(),
        Measure::AddressSpace => address_space(),
        Measure::Descriptors => descriptors(),
        Measure::CoreDumps => core_dumps(),
        Measure::Inherited => inherited(),
        Measure::Session => confine::own_session(),
        Measure::Environment => confine::empty_environment(),
        Measure::Files => files(),
        Measure::Network => network(),
        Measure::Scopes => scopes(),
        Measure::OomScore => confine::raise_oom_score(),
    }
}

fn words(what: &'static str) -> impl Fn(Errno) -> String {
    move |errno| format!("{what}: {errno}")
}

fn system_calls() -> Held {
    confine::no_new_privileges()?;
    seccomp::confine().map_err(|error| format!("this kernel has no seccomp filters: {error}"))?;
    drop(File::open("/dev/null"));
    Err("a call that is not on the list did not end the process".to_owned())
}

fn address_space() -> Held {
    let taken = || Vec::<u8>::new().try_reserve_exact(TAKEN);
    taken().map_err(|error| format!("there is no memory to try it with: {error}"))?;
    let in_use = confine::in_use().ok_or("the kernel does not say what is in use (/proc/self/status)")?;
    confine::limit(Resource::As, in_use.saturating_add(LEFT)).map_err(words("RLIMIT_AS"))?;
    if taken().is_err() { Ok(()) } else { Err("more address space was given than the limit allows".to_owned()) }
}

fn descriptors() -> Held {
    confine::limit(Resource::Nofile, 0).map_err(words("RLIMIT_NOFILE"))?;
    match File::open("/dev/null") {
        Err(error) if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => Ok(()),
        Err(error) => Err(format!("opening a file failed, but with: {error}")),
        Ok(_) => Err("a descriptor beyond the limit was given".to_owned()),
    }
}

fn core_dumps() -> Held {
    confine::limit(Resource::Core, 0).map_err(words("RLIMIT_CORE"))?;
    confine::nothing_to_dump()?;
    std::process::abort()
}

fn inherited() -> Held {
    let take = |fd| shared::inherited(fd).map_err(|error| error.to_string());
    let (ring, blob) = (take(RING_FD)?, take(FIRST_BLOB_FD)?);
    let blobs = [blob];
    confine::unchangeable(&ring, &blobs)?;
    let length = |fd: &OwnedFd| rustix::fs::fstat(fd).map_err(words("fstat")).map(|stat| stat.st_size.unsigned_abs());
    let [blob] = blobs;
    let size = length(&ring)?;
    for wanted in [0, size.saturating_add(4096)] {
        if ftruncate(&ring, wanted).is_ok() {
            return Err(format!("the ring of {size} bytes could be made {wanted} bytes long"));
        }
    }
    // SAFETY: a new mapping at a place of the kernel's choosing, which nobody uses.
    if unsafe { mmap(null_mut(), 1, ProtFlags::WRITE, MapFlags::SHARED, &blob, 0) }.is_ok() {
        return Err("a blob could be mapped for writing".to_owned());
    }
    let mut blob = File::from(blob);
    if blob.write(b"x").is_ok() || blob.set_len(0).is_ok() {
        return Err("a blob could be changed".to_owned());
    }
    Ok(())
}

fn files() -> Held {
    confine::no_new_privileges()?;
    landlocked::restrict().files?;
    refused(File::open("/").map(drop), "a folder could be opened")
}

fn network() -> Held {
    confine::no_new_privileges()?;
    landlocked::restrict().network?;
    // Nobody listens there; the kernel must refuse before it finds out.
    refused(TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], 1))).map(drop), "a connection was tried")
}

fn scopes() -> Held {
    let name = format!("sanderling-worker-{}", getpid().as_raw_nonzero());
    let address = UnixAddr::from_abstract_name(name).map_err(|error| error.to_string())?;
    let _listener = UnixListener::bind_addr(&address).map_err(|error| format!("an abstract socket: {error}"))?;
    let parent = getppid().ok_or("it has no parent to try a signal on")?;
    confine::no_new_privileges()?;
    landlocked::restrict().scopes?;
    refused(UnixStream::connect_addr(&address).map(drop), "an abstract socket from outside could be connected to")?;
    refused(test_kill_process(parent).map_err(io::Error::from), "a signal to another process was let through")
}

fn refused(result: io::Result<()>, otherwise: &str) -> Held {
    match result {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(format!("{otherwise} ({error})")),
        Ok(()) => Err(otherwise.to_owned()),
    }
}

/// Starts a process that is to die with this one, and ends when it has prepared for that.
fn leave_an_orphan() -> Held {
    let mut command = Command::new("/proc/self/exe");
    command.arg(ORPHAN).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("/proc/self/exe: {error}"))?;
    let mut prepared = [0];
    let pipe = child.stdout.as_mut().ok_or("no pipe to the second process")?;
    pipe.read_exact(&mut prepared).map_err(|_| "the second process could not prepare for it".to_owned())
}

/// The second process: is ended by the kernel when its parent ends, or says that it was not.
pub(crate) fn orphan() -> Held {
    let parent = getppid();
    confine::die_with_parent().map_err(words("PR_SET_PDEATHSIG"))?;
    io::stdout().write_all(b"x").and_then(|()| io::stdout().flush()).map_err(|error| error.to_string())?;
    while getppid() == parent {
        thread::sleep(Duration::from_millis(1));
    }
    Err("a process outlived its parent".to_owned())
}
