//! The directory `/dev` of a command, and the one file in it: `stdin`, the frame, to be read.

use wasmi::errors::LinkerError;

use super::{
    Host, MODULE, code,
    descriptors::{DIRECTORY, Node, filestat, node},
    wasi_errno::{ACCES, BADF, EXIST, MFILE, NOENT, NOTDIR, SUCCESS},
};
use crate::{
    GuestMemory,
    host::{Errno, Linker, at_most, charge_copy},
};

const NAME: &[u8] = b"/dev";
const FILE: &[u8] = b"stdin";
/// A path is read at most this far; there is no longer one.
const MAX_PATH: usize = 4096;

/// `oflags`.
const CREATE: i32 = 1 << 0;
const MUST_BE_DIRECTORY: i32 = 1 << 1;
const MUST_BE_NEW: i32 = 1 << 2;
const TRUNCATE: i32 = 1 << 3;
/// `rights`: to write.
const WRITE: i64 = 1 << 6;

pub(super) fn register(linker: &mut Linker<'_>) -> Result<(), LinkerError> {
    linker.func_wrap(MODULE, "fd_prestat_get", |mut caller: Host<'_>, fd: i32, out: i32| -> i32 {
        prestat(&mut caller, fd, out)
    })?;
    linker.func_wrap(MODULE, "fd_prestat_dir_name", |mut caller: Host<'_>, fd: i32, ptr: i32, len: i32| -> i32 {
        directory_name(&mut caller, fd, ptr, len)
    })?;
    linker.func_wrap(
        MODULE,
        "path_open",
        |mut caller: Host<'_>,
         fd: i32,
         _: i32,
         path: i32,
         len: i32,
         flags: i32,
         rights: i64,
         _: i64,
         _: i32,
         out: i32|
         -> i32 { open(&mut caller, fd, (path, len), flags, rights, out) },
    )?;
    linker.func_wrap(
        MODULE,
        "path_filestat_get",
        |mut caller: Host<'_>, fd: i32, _: i32, path: i32, len: i32, out: i32| -> i32 {
            path_filestat(&mut caller, fd, (path, len), out)
        },
    )?;
    Ok(())
}

/// Writes that it is a directory, and the length of its name.
fn prestat(caller: &mut Host<'_>, fd: i32, out: i32) -> i32 {
    if fd != DIRECTORY || node(caller.data(), fd) != Some(Node::Directory) {
        return BADF;
    }
    let length = NAME.len() as u64;
    code(GuestMemory::split(caller).and_then(|(mut memory, _)| memory.write(out, &(length << 32).to_le_bytes())))
}

fn directory_name(caller: &mut Host<'_>, fd: i32, ptr: i32, len: i32) -> i32 {
    if node(caller.data(), fd) != Some(Node::Directory) {
        return BADF;
    }
    code(GuestMemory::split(caller).and_then(|(mut memory, _)| {
        if (len.cast_unsigned() as usize) < NAME.len() {
            return Err(Errno::INVAL);
        }
        memory.write(ptr, NAME)
    }))
}

/// Whether a path names the file; an errno where it cannot.
fn look_up(caller: &mut Host<'_>, fd: i32, (path, len): (i32, i32)) -> Result<(), i32> {
    charge_copy(caller, at_most(len, MAX_PATH));
    match node(caller.data(), fd) {
        Some(Node::Directory) => {}
        Some(_) => return Err(NOTDIR),
        None => return Err(BADF),
    }
    let (memory, _) = GuestMemory::split(caller).map_err(|errno| code(Err(errno)))?;
    let path = memory.read(path, len).map_err(|errno| code(Err(errno)))?;
    if path == FILE { Ok(()) } else { Err(NOENT) }
}

fn open(caller: &mut Host<'_>, fd: i32, path: (i32, i32), flags: i32, rights: i64, out: i32) -> i32 {
    match look_up(caller, fd, path) {
        // Nothing can be made here.
        Err(NOENT) if flags & CREATE != 0 => return ACCES,
        Err(errno) => return errno,
        Ok(()) => {}
    }
    match flags {
        flags if flags & CREATE != 0 && flags & MUST_BE_NEW != 0 => return EXIST,
        flags if flags & MUST_BE_DIRECTORY != 0 => return NOTDIR,
        flags if flags & TRUNCATE != 0 || rights & WRITE != 0 => return ACCES,
        _ => {}
    }
    let opened = GuestMemory::split(caller).and_then(|(mut memory, state)| {
        memory.read_array::<4>(out)?;
        state.own.descriptors.open().map(|fd| memory.write(out, &fd.to_le_bytes())).transpose()
    });
    match opened {
        Ok(Some(())) => SUCCESS,
        Ok(None) => MFILE,
        Err(errno) => code(Err(errno)),
    }
}

fn path_filestat(caller: &mut Host<'_>, fd: i32, path: (i32, i32), out: i32) -> i32 {
    if let Err(errno) = look_up(caller, fd, path) {
        return errno;
    }
    let stat = filestat(caller.data(), Node::File(0));
    code(GuestMemory::split(caller).and_then(|(mut memory, _)| memory.write(out, &stat)))
}
