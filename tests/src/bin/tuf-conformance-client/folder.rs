//! Trusted metadata in files, one a role: `root.json`, `timestamp.json`, …

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sanderling_protocol::tuf::Trusted;

/// All but what RFC 3986, section 2.3, leaves as it is.
const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A name as one part of an address or a path: no slash is left in it.
pub(crate) fn quoted(name: &str) -> String {
    utf8_percent_encode(name, &RESERVED).to_string()
}

/// The folder of the trusted metadata.
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Trusts again what lies here; what cannot be trusted any more counts as not there.
    pub(crate) fn load(&self) -> Result<Trusted> {
        let files = self.files()?;
        let root = files.get("root").with_context(|| format!("there is no root.json in {}", self.path.display()))?;
        Ok(Trusted::restore(root, &files)?.trusted)
    }

    /// Makes what lies here the same as what is trusted.
    pub(crate) fn save(&self, trusted: &Trusted) -> Result<()> {
        let wanted: BTreeMap<&str, &[u8]> = trusted.files().collect();
        for (role, bytes) in &wanted {
            let file = self.file(role);
            fs::write(&file, bytes).with_context(|| format!("{}", file.display()))?;
        }
        for role in self.files()?.keys().filter(|role| !wanted.contains_key(role.as_str())) {
            fs::remove_file(self.file(role))?;
        }
        Ok(())
    }

    fn file(&self, role: &str) -> PathBuf {
        self.path.join(format!("{}.json", quoted(role)))
    }

    fn files(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(&self.path).with_context(|| format!("{}", self.path.display()))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"));
            if let Some(name) = name {
                files.insert(percent_decode_str(name).decode_utf8()?.into_owned(), fs::read(&path)?);
            }
        }
        Ok(files)
    }
}
