//! The rest of WASI preview 1: making, changing and listing files, sockets and signals. There is nothing of it here, so that programs
//! which merely link these functions load. What names a descriptor that is not open answers `EBADF`, what names one that is
//! `ENOSYS` (or `ENOTSOCK`), and so does what names none.

use wasmi::{FuncType, Val, ValType, errors::LinkerError};

use super::{
    MODULE,
    descriptors::node,
    wasi_errno::{BADF, NOSYS, NOTSOCK},
};
use crate::host::Linker;

/// Name, parameters (`i` an i32, `I` an i64), and the answer where the first parameter is an open descriptor. Every one returns an i32.
const REFUSED: [(&str, &str, i32); 24] = [
    ("fd_advise", "iIIi", NOSYS),
    ("fd_allocate", "iII", NOSYS),
    ("fd_datasync", "i", NOSYS),
    ("fd_fdstat_set_flags", "ii", NOSYS),
    ("fd_fdstat_set_rights", "iII", NOSYS),
    ("fd_filestat_set_size", "iI", NOSYS),
    ("fd_filestat_set_times", "iIIi", NOSYS),
    ("fd_pwrite", "iiiIi", NOSYS),
    ("fd_readdir", "iiiIi", NOSYS),
    ("fd_renumber", "ii", NOSYS),
    ("fd_sync", "i", NOSYS),
    ("path_create_directory", "iii", NOSYS),
    ("path_filestat_set_times", "iiiiIIi", NOSYS),
    ("path_link", "iiiiiii", NOSYS),
    ("path_readlink", "iiiiii", NOSYS),
    ("path_remove_directory", "iii", NOSYS),
    ("path_rename", "iiiiii", NOSYS),
    ("path_symlink", "iiiii", NOSYS),
    ("path_unlink_file", "iii", NOSYS),
    ("sock_accept", "iii", NOTSOCK),
    ("sock_recv", "iiiiii", NOTSOCK),
    ("sock_send", "iiiii", NOTSOCK),
    ("sock_shutdown", "ii", NOTSOCK),
    ("proc_raise", "i", NOSYS),
];

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    REFUSED.iter().map(|(name, ..)| *name)
}

pub(super) fn register(linker: &mut Linker<'_>) -> Result<(), LinkerError> {
    for (name, parameters, open) in REFUSED {
        let signal = name == "proc_raise";
        let parameters = parameters.bytes().map(|kind| if kind == b'I' { ValType::I64 } else { ValType::I32 });
        let signature = FuncType::new(parameters, [ValType::I32]);
        linker.func_new(MODULE, name, signature, move |caller, parameters, results| {
            let fd = parameters.first().and_then(Val::i32).unwrap_or(-1);
            let errno = if signal || node(caller.data(), fd).is_some() { open } else { BADF };
            if let Some(result) = results.first_mut() {
                *result = Val::I32(errno);
            }
            Ok(())
        })?;
    }
    Ok(())
}
