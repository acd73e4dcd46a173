//! The fleet's folder: where the operator's tool keeps keys, the repository, the authority and what was provisioned.
//!
//! ```text
//! keys/{role}.pem            private signing keys; keep root and releases offline
//! repo/state.json            what is staged and which versions were signed
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
pub(crate) struct Home(PathBuf);

impl Home {
    /// The folder at `path`, which need not exist yet.
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// A file or folder inside.
    pub(crate) fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        self.0.join(inside)
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
        let folder = path.parent().unwrap_or(Path::new("."));
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
