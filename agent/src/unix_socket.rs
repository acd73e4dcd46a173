//! Unix sockets that local programs connect to: made with mode 0660, removed when they are done with.
//!
//! Invariants: the socket file has at most mode 0660 from its first moment. What lies at its path is replaced only if it is a socket
//! that nobody listens to.
//!
//! Failure modes: what the system says, and a sentence where something else lies at the path.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixListener as StdListener,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::Mode,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with},
};
use tokio::net::{UnixListener, UnixStream};

/// sockaddr_un has room for 108 bytes, a terminating zero included.
pub const LONGEST_PATH: usize = 107;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// A socket that is listened to. Its file goes when it is dropped.
#[derive(Debug)]
pub struct Listening {
    listener: UnixListener,
    path: PathBuf,
}

impl Listening {
    /// Waits for the next program that connects.
    ///
    /// # Errors
    /// What the system says.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

/// Listens at a path.
///
/// # Errors
/// What the system says, or what lies there that is not to be replaced.
pub fn listen(path: &Path) -> io::Result<Listening> {
    clear(path)?;
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    // Linux gives the file the socket's own mode, less the umask: it is open to nobody else even for a moment.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o660))?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    let made = Made(path);
    rustix::net::listen(&socket, BACKLOG)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    let listener = UnixListener::from_std(StdListener::from(socket))?;
    std::mem::forget(made);
    Ok(Listening { listener, path: path.to_owned() })
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// A file that goes again unless it is kept.
struct Made<'a>(&'a Path);

impl Drop for Made<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
}

/// Removes a socket that nobody listens to.
fn clear(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::other("something that is no socket lies there; remove it, or set another `path`"));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::Error::other("another program listens there; stop it, or set another `path`")),
        Err(_) => fs::remove_file(path),
    }
}
