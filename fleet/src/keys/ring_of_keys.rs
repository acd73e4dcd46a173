//! All private keys that are at hand, found by their ids.

use std::{collections::BTreeMap, path::PathBuf};

use sanderling_protocol::tuf::{
    Key, Role,
    author::{KeyPair, Signer},
};

use super::read;
use crate::home::Home;

/// A threshold cannot be met with the private keys that are at hand.
#[derive(Debug, thiserror::Error)]
#[error(
    "{threshold} of the {role} keys must sign and {here} are here (not here: {missing}): bring them to {folders} or name their folder with --keys{unusable}"
)]
pub(crate) struct MissingKeys {
    role: String,
    threshold: u32,
    here: usize,
    missing: String,
    folders: String,
    unusable: String,
}

/// The private keys in the folders where keys lie.
#[derive(Debug)]
pub(crate) struct KeyRing {
    keys: BTreeMap<String, (PathBuf, KeyPair)>,
    folders: Vec<PathBuf>,
    unusable: Vec<String>,
}

impl KeyRing {
    /// Reads every `*.pem` there. A folder or file that cannot be read is named only where a key turns out to be missing.
    pub(crate) fn open(home: &Home) -> Self {
        let mut ring = Self { keys: BTreeMap::new(), folders: home.key_folders().to_vec(), unusable: Vec::new() };
        for folder in home.key_folders() {
            match std::fs::read_dir(folder) {
                Ok(entries) => {
                    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
                    files.sort();
                    files
                        .into_iter()
                        .filter(|file| file.extension().is_some_and(|end| end == "pem"))
                        .for_each(|file| ring.take(file));
                }
                Err(error) => ring.unusable.push(format!("{}: {error}", folder.display())),
            }
        }
        ring
    }

    fn take(&mut self, file: PathBuf) {
        match read(&file).and_then(|pair| Ok((pair.key_id()?, pair))) {
            Ok((id, pair)) => drop(self.keys.entry(id).or_insert((file, pair))),
            Err(error) => self.unusable.push(format!("{error:#}")),
        }
    }

    /// The file of the key of this id.
    pub(crate) fn file(&self, id: &str) -> Option<&PathBuf> {
        self.keys.get(id).map(|(file, _)| file)
    }

    /// Every key that is at hand, by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &PathBuf, &KeyPair)> {
        self.keys.iter().map(|(id, (file, pair))| (id, file, pair))
    }

    /// The keys of a role that are at hand, each once; an error where they are fewer than its threshold.
    pub(crate) fn signers(
        &self,
        name: &str,
        role: &Role,
        keys: &BTreeMap<String, Key>,
    ) -> Result<Vec<&dyn Signer>, MissingKeys> {
        // Metadata that another tool made may list our keys under other ids.
        let same = |id: &str| {
            let listed = keys.get(id)?;
            let by_value = || self.keys.values().find(|(_, pair)| pair.key().keyval == listed.keyval);
            self.keys.get(id).or_else(by_value).map(|(_, pair)| pair)
        };
        let (here, missing): (Vec<_>, Vec<_>) =
            role.keyids.iter().map(|id| (id, same(id))).partition(|(_, pair)| pair.is_some());
        let signers: Vec<&dyn Signer> =
            here.into_iter().filter_map(|(_, pair)| pair.map(|pair| pair as &dyn Signer)).collect();
        if signers.len() as u64 >= u64::from(role.threshold.get()) {
            return Ok(signers);
        }
        let missing: Vec<&str> = missing.iter().map(|(id, _)| id.as_str()).collect();
        let folders: Vec<String> = self.folders.iter().map(|folder| folder.display().to_string()).collect();
        Err(MissingKeys {
            role: name.to_owned(),
            threshold: role.threshold.get(),
            here: signers.len(),
            missing: missing.join(", "),
            folders: folders.join(", "),
            unusable: self.unusable.iter().map(|cause| format!("; {cause}")).collect(),
        })
    }
}
