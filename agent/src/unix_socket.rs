//! Unix sockets that local programs connect to.
//!
//! Invariants: the file has mode 0660 from its first moment, and is removed when the listener is dropped. What lies at its path is
//! replaced only if it is a socket that nobody listens to.
//!
//! Failure modes: what the system says, and what lies in the way, each with what to do.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::Mode;
use tokio::net::{UnixListener, UnixStream};

/// A socket that is listened to.
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

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Listens at a path.
///
/// # Errors
/// What the system says, or what lies there that is not to be replaced.
pub fn listen(path: &Path) -> io::Result<Listening> {
    clear(path)?;
    // The file must not be open to all even for a moment. Nothing else runs on this thread meanwhile, and what another
    // thread creates has fewer rights for that moment, not more.
    let before = rustix::process::umask(Mode::from_raw_mode(0o117));
    let listener = UnixListener::bind(path);
    rustix::process::umask(before);
    let listening = Listening { listener: listener?, path: path.to_owned() };
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    Ok(listening)
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
