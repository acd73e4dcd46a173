//! The descriptors that a guest has, and what can be said of them.
//!
//! 0 to 2 are the standard streams. A command also has the directory `/dev` as descriptor 3, in which `stdin` is the frame once more, for programs that
//! want the name of a file: each time it is opened is a descriptor of its own, with a position of its own. What the guest closed stays
//! closed for the life of its instance.

use wasmi::errors::LinkerError;

use super::{
    Host, MODULE, Standard, code,
    wasi_errno::{BADF, INVAL, ISDIR, SPIPE, SUCCESS},
};
use crate::{
    GuestMemory,
    host::{HostState, Linker, charge_copy, lines::Stream},
};

/// The descriptor of the directory `/dev`.
pub(super) const DIRECTORY: i32 = 3;
/// The frame is open at most so many times at once, besides descriptor 0.
const MAX_FILES: usize = 8;

/// `filetype`.
const CHARACTER_DEVICE: u8 = 2;
const IS_DIRECTORY: u8 = 3;
const REGULAR_FILE: u8 = 4;

/// `rights`.
const READ: u64 = 1 << 1;
const SEEK: u64 = 1 << 2;
const TELL: u64 = 1 << 5;
const WRITE: u64 = 1 << 6;
const OPEN: u64 = 1 << 13;
const PATH_STAT: u64 = 1 << 18;
const STAT: u64 = 1 << 21;
const POLL: u64 = 1 << 27;
const OF_FRAME: u64 = READ | SEEK | TELL | STAT | POLL;

/// What is behind a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// Standard input where there is none: a reactor's.
    Nothing,
    /// The frame, to be read from this position on: standard input of a command.
    Input(usize),
    /// Standard output or standard error.
    Output(Stream),
    /// `/dev`.
    Directory,
    /// `/dev/stdin`, at this position.
    File(usize),
}

/// The state of a guest's descriptors.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Descriptors {
    closed: [bool; 4],
    /// How much of the frame was read from descriptor 0.
    input: usize,
    /// The positions in those that were opened.
    files: [Option<usize>; MAX_FILES],
}

impl Descriptors {
    /// Opens the frame once more; `None` where it is open too often.
    pub(super) fn open(&mut self) -> Option<i32> {
        let (file, fd) = self.files.iter_mut().zip(DIRECTORY + 1..).find(|(file, _)| file.is_none())?;
        *file = Some(0);
        Some(fd)
    }

    /// Moves the position of a descriptor that reads the frame.
    pub(super) fn move_to(&mut self, fd: i32, position: usize) {
        if fd == 0 {
            self.input = position;
        } else if let Some(file) = index(fd).and_then(|index| self.files.get_mut(index)) {
            *file = Some(position);
        }
    }

    /// Whether it was open.
    fn close(&mut self, fd: i32) -> bool {
        if let Some(closed) = usize::try_from(fd).ok().and_then(|fd| self.closed.get_mut(fd)) {
            return !std::mem::replace(closed, true);
        }
        index(fd).and_then(|index| self.files.get_mut(index)).is_some_and(|file| file.take().is_some())
    }
}

/// Which of the files that were opened.
fn index(fd: i32) -> Option<usize> {
    usize::try_from(fd.checked_sub(DIRECTORY + 1)?).ok()
}

/// What is behind a descriptor; `None` where it is not open.
pub(super) fn node(state: &HostState, fd: i32) -> Option<Node> {
    let descriptors = &state.own.descriptors;
    let command = state.standard == Standard::Frame;
    match usize::try_from(fd).ok().and_then(|fd| descriptors.closed.get(fd)) {
        Some(true) => return None,
        Some(false) => {}
        None => return index(fd).and_then(|index| *descriptors.files.get(index)?).map(Node::File),
    }
    match fd {
        0 if command => Some(Node::Input(descriptors.input)),
        0 => Some(Node::Nothing),
        1 => Some(Node::Output(Stream::Output)),
        2 => Some(Node::Output(Stream::Error)),
        _ => command.then_some(Node::Directory),
    }
}

/// The content that descriptors read: the frame.
pub(super) fn content(state: &HostState) -> &[u8] {
    state.frame.as_ref().map_or(&[], |frame| &*frame.bytes)
}

pub(super) fn register(linker: &mut Linker<'_>) -> Result<(), LinkerError> {
    linker.func_wrap(MODULE, "fd_close", |mut caller: Host<'_>, fd: i32| -> i32 { close(&mut caller, fd) })?;
    linker.func_wrap(MODULE, "fd_fdstat_get", |mut caller: Host<'_>, fd: i32, out: i32| -> i32 {
        describe(&mut caller, fd, out, |_, node| fdstat(node))
    })?;
    linker.func_wrap(MODULE, "fd_filestat_get", |mut caller: Host<'_>, fd: i32, out: i32| -> i32 {
        describe(&mut caller, fd, out, filestat)
    })?;
    linker.func_wrap(
        MODULE,
        "fd_seek",
        |mut caller: Host<'_>, fd: i32, offset: i64, whence: i32, out: i32| -> i32 {
            seek(&mut caller, fd, offset, whence, out)
        },
    )?;
    linker.func_wrap(MODULE, "fd_tell", |mut caller: Host<'_>, fd: i32, out: i32| -> i32 {
        seek(&mut caller, fd, 0, CURRENT, out)
    })?;
    Ok(())
}

fn close(caller: &mut Host<'_>, fd: i32) -> i32 {
    let state = caller.data_mut();
    if node(state, fd).is_some() && state.own.descriptors.close(fd) { SUCCESS } else { BADF }
}

fn describe<const N: usize>(caller: &mut Host<'_>, fd: i32, out: i32, record: fn(&HostState, Node) -> [u8; N]) -> i32 {
    charge_copy(caller, N);
    let Some(node) = node(caller.data(), fd) else { return BADF };
    let record = record(caller.data(), node);
    code(GuestMemory::split(caller).and_then(|(mut memory, _)| memory.write(out, &record)))
}

fn filetype(node: Node) -> u8 {
    match node {
        // A character device, so that C libraries write each line at once.
        Node::Nothing | Node::Input(_) | Node::Output(_) => CHARACTER_DEVICE,
        Node::Directory => IS_DIRECTORY,
        Node::File(_) => REGULAR_FILE,
    }
}

/// `fdstat`: type, flags, rights, and the rights of what is opened through it.
fn fdstat(node: Node) -> [u8; 24] {
    let (rights, inherited) = match node {
        Node::Nothing | Node::Input(_) => (READ | POLL, 0),
        Node::Output(_) => (WRITE | POLL, 0),
        Node::Directory => (OPEN | PATH_STAT | STAT, OF_FRAME),
        Node::File(_) => (OF_FRAME, 0),
    };
    let mut stat = [0; 24];
    let [kind, _, _, _, _, _, _, _, sets @ ..] = &mut stat;
    *kind = filetype(node);
    for (to, from) in sets.iter_mut().zip(rights.to_le_bytes().into_iter().chain(inherited.to_le_bytes())) {
        *to = from;
    }
    stat
}

/// `filestat`: the type, and the size of the frame where it is a file.
pub(super) fn filestat(state: &HostState, node: Node) -> [u8; 64] {
    let size = if matches!(node, Node::File(_)) { content(state).len() as u64 } else { 0 };
    let mut stat = [0; 64];
    let [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, kind, _, _, _, _, _, _, _, links, rest @ ..] = &mut stat;
    (*kind, *links) = (filetype(node), 1);
    for (to, from) in rest.iter_mut().skip(7).zip(size.to_le_bytes()) {
        *to = from;
    }
    stat
}

/// `whence`: from where a position is counted.
const START: i32 = 0;
const CURRENT: i32 = 1;
const END: i32 = 2;

/// Moves the position in a file, and writes it.
fn seek(caller: &mut Host<'_>, fd: i32, offset: i64, whence: i32, out: i32) -> i32 {
    let state = caller.data();
    let position = match node(state, fd) {
        None => return BADF,
        Some(Node::Directory) => return ISDIR,
        Some(Node::File(position)) => position,
        Some(_) => return SPIPE,
    };
    let base = match whence {
        START => 0,
        CURRENT => position,
        END => content(state).len(),
        _ => return INVAL,
    };
    let moved = i64::try_from(base).ok().and_then(|base| base.checked_add(offset));
    let Some(moved) = moved.and_then(|moved| usize::try_from(moved).ok()) else { return INVAL };
    code(GuestMemory::split(caller).and_then(|(mut memory, state)| {
        memory.write(out, &(moved as u64).to_le_bytes())?;
        state.own.descriptors.move_to(fd, moved);
        Ok(())
    }))
}
