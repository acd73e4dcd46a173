//! The fleet's folder: where the operator's tool keeps keys, the repository, the authority and what was provisioned.
//!
//! ```text
//! keys/{role}.pem            private signing keys, further ones {role}-2.pem and so on; keep root and releases offline
//! repo/state.json            what is staged and which versions were signed
//! repo/published.json        which snapshots were published
//! repo/root-signing.json     a root that waits for signatures
//! repo/lock                  held by the command that changes the repository
//! repo/metadata/             signed TUF metadata, as it is published
//! repo/blobs/{sha256}        modules, models and deployments
//! authority/                 the certificate authority of broker, devices and operator
//! broker/                    Mosquitto's configuration, access list, certificate and key
//! operator/                  the operator's certificate and key
//! devices/{id}/              all that one device gets: agent.toml, certificate, key, CA, root.json
//! ```

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// A fleet's folder.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    folder: PathBuf,
    keys: Vec<PathBuf>,
}

impl Home {
    /// The folder at `path`, which need not exist yet.
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        let folder = path.into();
        Self { keys: vec![folder.join("keys")], folder }
    }

    /// Looks for private keys in these folders too, such as a token that is plugged in for signing.
    pub(crate) fn with_keys(mut self, folders: &[PathBuf]) -> Self {
        self.keys.extend_from_slice(folders);
        self
    }

    /// A file or folder inside.
    pub(crate) fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        self.folder.join(inside)
    }

    /// The folders where private keys lie; the fleet's own comes first.
    pub(crate) fn key_folders(&self) -> &[PathBuf] {
        &self.keys
    }

    /// Keeps other commands from changing the repository, until the file is dropped. Waits for one that does now.
    pub(crate) fn lock(&self) -> Result<fs::File> {
        let path = self.path("repo/lock");
        let open = || -> std::io::Result<fs::File> {
            fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
            let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(fs::TryLockError::WouldBlock) => {
                    eprintln!("waiting for another sanderling that works in {}", self.folder.display());
                }
                Err(fs::TryLockError::Error(error)) => return Err(error),
            }
            file.lock()?;
            Ok(file)
        };
        open().with_context(|| format!("could not lock {}", path.display()))
    }
}

/// Reads a file; an error names it.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("could not read {}", path.display()))
}

/// Reads a text; an error names the file.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))
}

/// Writes a file that everybody may read, whole or not at all.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<()> {
    replace(path, content, 0o644)
}

/// Writes a file that only its owner may read.
pub(crate) fn write_secret(path: &Path, content: &[u8]) -> Result<()> {
    replace(path, content, 0o600)
}

fn replace(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let write = || -> std::io::Result<()> {
        // A name alone lies in the folder that we are in.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let temporary = path.with_extension("new");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(folder)?.sync_all()
    };
    write().with_context(|| format!("could not write {}", path.display()))
}
