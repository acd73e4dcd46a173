//! Which system calls write, sync, rename, unlink, truncate, make or send, and on what.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use nix::{libc, unistd::Pid};

use super::registers::Registers;

/// A path is at most this long, in bytes, as the kernel has it.
const LONGEST_PATH: usize = 4096;

/// Where a call says what it works on.
#[derive(Clone, Copy)]
enum Target {
    /// The argument that is a descriptor.
    Descriptor(usize),
    /// The argument that is the address of an absolute path.
    Path(usize),
}

/// What a call works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Object {
    /// A file or folder.
    File(PathBuf),
    /// A socket.
    Socket,
    /// A pipe, a counter of events, memory without a name, the log.
    Other,
}

/// A call that leaves a mark outside the process: its name and what it works on.
pub(super) fn recognise(process: Pid, registers: &Registers) -> Option<(&'static str, Object)> {
    let (name, target) = kind(registers)?;
    let object = match target {
        // Standard input, output and error: the log.
        Target::Descriptor(at) if registers.argument(at) < 3 => Object::Other,
        Target::Descriptor(at) => {
            let link = fs::read_link(format!("/proc/{process}/fd/{}", registers.argument(at))).ok()?;
            match link.to_str() {
                Some(text) if text.starts_with("socket:") => Object::Socket,
                _ if link.is_absolute() => Object::File(link),
                _ => Object::Other,
            }
        }
        Target::Path(at) => Object::File(path(process, registers.argument(at))?),
    };
    Some((name, object))
}

fn kind(registers: &Registers) -> Option<(&'static str, Target)> {
    let creates = |at: usize| registers.argument(at) & u64::from(libc::O_CREAT.cast_unsigned()) != 0;
    Some(match registers.number() {
        libc::SYS_write => ("write", Target::Descriptor(0)),
        libc::SYS_pwrite64 => ("pwrite", Target::Descriptor(0)),
        libc::SYS_writev => ("writev", Target::Descriptor(0)),
        libc::SYS_pwritev => ("pwritev", Target::Descriptor(0)),
        libc::SYS_pwritev2 => ("pwritev2", Target::Descriptor(0)),
        libc::SYS_fsync => ("fsync", Target::Descriptor(0)),
        libc::SYS_fdatasync => ("fdatasync", Target::Descriptor(0)),
        libc::SYS_sync_file_range => ("sync_file_range", Target::Descriptor(0)),
        libc::SYS_ftruncate => ("ftruncate", Target::Descriptor(0)),
        libc::SYS_fallocate => ("fallocate", Target::Descriptor(0)),
        libc::SYS_sendfile => ("sendfile", Target::Descriptor(0)),
        libc::SYS_copy_file_range => ("copy_file_range", Target::Descriptor(2)),
        libc::SYS_sendto => ("sendto", Target::Descriptor(0)),
        libc::SYS_sendmsg => ("sendmsg", Target::Descriptor(0)),
        libc::SYS_sendmmsg => ("sendmmsg", Target::Descriptor(0)),
        libc::SYS_openat if creates(2) => ("openat", Target::Path(1)),
        libc::SYS_mkdirat => ("mkdirat", Target::Path(1)),
        libc::SYS_unlinkat => ("unlinkat", Target::Path(1)),
        libc::SYS_renameat => ("renameat", Target::Path(1)),
        libc::SYS_renameat2 => ("renameat2", Target::Path(1)),
        libc::SYS_linkat => ("linkat", Target::Path(3)),
        libc::SYS_truncate => ("truncate", Target::Path(0)),
        _ => return old_kind(registers.number(), creates(1)),
    })
}

/// The older calls by path, which only older processors' kernels have.
#[cfg(target_arch = "x86_64")]
fn old_kind(number: i64, creates: bool) -> Option<(&'static str, Target)> {
    Some(match number {
        libc::SYS_open if creates => ("open", Target::Path(0)),
        libc::SYS_creat => ("creat", Target::Path(0)),
        libc::SYS_mkdir => ("mkdir", Target::Path(0)),
        libc::SYS_rmdir => ("rmdir", Target::Path(0)),
        libc::SYS_unlink => ("unlink", Target::Path(0)),
        libc::SYS_rename => ("rename", Target::Path(0)),
        libc::SYS_link => ("link", Target::Path(1)),
        _ => return None,
    })
}

#[cfg(target_arch = "aarch64")]
fn old_kind(_number: i64, _creates: bool) -> Option<(&'static str, Target)> {
    None
}

/// The text at an address of a process, up to its zero byte.
fn path(process: Pid, address: u64) -> Option<PathBuf> {
    let mut text = vec![0; LONGEST_PATH];
    // A short read ends where the mapping does.
    let length = File::open(format!("/proc/{process}/mem")).ok()?.read_at(&mut text, address).ok()?;
    let end = text[..length].iter().position(|byte| *byte == 0)?;
    let text = std::str::from_utf8(&text[..end]).ok()?;
    Some(Path::new(text).to_owned())
}
