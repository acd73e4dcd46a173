//! The rest of WASI preview 1: files, directories, sockets and signals. There are none here, so that programs which merely link these
//! functions load. What names a descriptor that is not open answers `EBADF`, what names one of the standard descriptors
//! `ENOSYS` (or `ENOTSOCK`), and so does what names none.

use wasmi::{FuncType, Linker, Val, ValType, errors::LinkerError};

use super::{
    MODULE,
    wasi_errno::{BADF, NOSYS, NOTSOCK},
};
use crate::host::HostState;

/// Name, parameters (`i` an i32, `I` an i64), and the answer for a standard descriptor as the first parameter. Every one returns an i32.
const REFUSED: [(&str, &str, i32); 29] = [
    ("fd_advise", "iIIi", NOSYS),
    ("fd_allocate", "iII", NOSYS),
    ("fd_datasync", "i", NOSYS),
    ("fd_fdstat_set_flags", "ii", NOSYS),
    ("fd_fdstat_set_rights", "iII", NOSYS),
    ("fd_filestat_set_size", "iI", NOSYS),
    ("fd_filestat_set_times", "iIIi", NOSYS),
    ("fd_pread", "iiiIi", NOSYS),
    // No directory is open, whatever the descriptor.
    ("fd_prestat_dir_name", "iii", BADF),
    ("fd_prestat_get", "ii", BADF),
    ("fd_pwrite", "iiiIi", NOSYS),
    ("fd_readdir", "iiiIi", NOSYS),
    ("fd_renumber", "ii", NOSYS),
    ("fd_sync", "i", NOSYS),
    ("path_create_directory", "iii", BADF),
    ("path_filestat_get", "iiiii", BADF),
    ("path_filestat_set_times", "iiiiIIi", BADF),
    ("path_link", "iiiiiii", BADF),
    ("path_open", "iiiiiIIii", BADF),
    ("path_readlink", "iiiiii", BADF),
    ("path_remove_directory", "iii", BADF),
    ("path_rename", "iiiiii", BADF),
    ("path_symlink", "iiiii", BADF),
    ("path_unlink_file", "iii", BADF),
    ("sock_accept", "iii", NOTSOCK),
    ("sock_recv", "iiiiii", NOTSOCK),
    ("sock_send", "iiiii", NOTSOCK),
    ("sock_shutdown", "ii", NOTSOCK),
    ("proc_raise", "i", NOSYS),
];

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    REFUSED.iter().map(|(name, ..)| *name)
}

pub(super) fn register(linker: &mut Linker<HostState>) -> Result<(), LinkerError> {
    for (name, parameters, standard) in REFUSED {
        let signal = name == "proc_raise";
        let parameters = parameters.bytes().map(|kind| if kind == b'I' { ValType::I64 } else { ValType::I32 });
        let signature = FuncType::new(parameters, [ValType::I32]);
        linker.func_new(MODULE, name, signature, move |caller, parameters, results| {
            let fd = parameters.first().and_then(Val::i32).unwrap_or(-1);
            let errno = if signal || caller.data().own.descriptors.is_open(fd) { standard } else { BADF };
            if let Some(result) = results.first_mut() {
                *result = Val::I32(errno);
            }
            Ok(())
        })?;
    }
    Ok(())
}
