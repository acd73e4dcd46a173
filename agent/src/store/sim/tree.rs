//! The names on the simulated disk: which are on the medium, and which changes the system has yet to write.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    io,
    path::{Component, Path},
};

use super::{Dice, content::Content};

/// A file or a folder, by number.
pub(super) type Id = u64;
const ROOT: Id = 0;
/// So many in a hundred of the renames that a power cut meets are half done: both names stand for the file.
const HALF_DONE: u64 = 10;

#[derive(Clone, Debug)]
pub(super) enum Node {
    File(Content),
    Folder(Folder),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Folder {
    medium: BTreeMap<OsString, Id>,
    names: BTreeMap<OsString, Id>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Link(OsString, Id),
    Unlink(OsString),
    Rename { from: OsString, to: OsString, id: Id },
}

impl Folder {
    fn make(&mut self, change: Change) {
        apply(&mut self.names, &change, false);
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self) {
        self.medium.clone_from(&self.names);
        self.pending.clear();
    }

    /// Any of the changes may have been written. Those of one name keep their order, as every journal has it.
    fn cut(&mut self, keep: u64, dice: &mut Dice) {
        for change in std::mem::take(&mut self.pending) {
            if dice.percent(keep) {
                apply(&mut self.medium, &change, dice.percent(HALF_DONE));
            }
        }
        self.names.clone_from(&self.medium);
    }
}

fn apply(names: &mut BTreeMap<OsString, Id>, change: &Change, half: bool) {
    match change {
        Change::Link(name, id) => {
            names.insert(name.clone(), *id);
        }
        Change::Unlink(name) => {
            names.remove(name);
        }
        Change::Rename { from, to, id } => {
            names.insert(to.clone(), *id);
            if !half && names.get(from) == Some(id) {
                names.remove(from);
            }
        }
    }
}

/// All files and folders.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    nodes: BTreeMap<Id, Node>,
    next: Id,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { nodes: BTreeMap::from([(ROOT, Node::Folder(Folder::default()))]), next: ROOT + 1 }
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<Id> {
        let mut at = ROOT;
        for name in parts(path) {
            at = *self.folder(at)?.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    pub(super) fn node(&self, id: Id) -> io::Result<&Node> {
        self.nodes.get(&id).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn content(&self, id: Id) -> io::Result<&Content> {
        match self.node(id)? {
            Node::File(content) => Ok(content),
            Node::Folder(_) => Err(super::super::disk::not_a_file()),
        }
    }

    pub(super) fn content_mut(&mut self, id: Id) -> io::Result<&mut Content> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(content)) => Ok(content),
            Some(Node::Folder(_)) => Err(super::super::disk::not_a_file()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn names(&self, folder: Id) -> io::Result<Vec<OsString>> {
        Ok(self.folder(folder)?.names.keys().cloned().collect())
    }

    pub(super) fn link(&mut self, path: &Path, node: Node) -> io::Result<Id> {
        let (folder, name) = self.place(path)?;
        let id = self.next;
        self.next += 1;
        self.folder_mut(folder)?.make(Change::Link(name, id));
        self.nodes.insert(id, node);
        Ok(id)
    }

    pub(super) fn unlink(&mut self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.place(path)?;
        self.folder_mut(folder)?.make(Change::Unlink(name));
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let id = self.find(from)?;
        let is_folder = |id| matches!(self.node(id), Ok(Node::Folder(_)));
        match (is_folder(id), self.find(to).map(is_folder)) {
            (false, Ok(true)) => return Err(io::ErrorKind::IsADirectory.into()),
            (true, Ok(false)) => return Err(io::ErrorKind::NotADirectory.into()),
            (true, Ok(true)) if !self.names(self.find(to)?)?.is_empty() => {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            _ => {}
        }
        let (folder, to_name) = self.place(to)?;
        let (source, from_name) = self.place(from)?;
        if source == folder {
            self.folder_mut(folder)?.make(Change::Rename { from: from_name, to: to_name, id });
        } else {
            self.folder_mut(folder)?.make(Change::Link(to_name, id));
            self.folder_mut(source)?.make(Change::Unlink(from_name));
        }
        Ok(())
    }

    pub(super) fn sync_folder(&mut self, path: &Path) -> io::Result<()> {
        let id = self.find(path)?;
        self.folder_mut(id)?.sync();
        Ok(())
    }

    /// Bytes in all files that have a name.
    pub(super) fn used(&self) -> u64 {
        self.files().values().map(|id| self.content(*id).map_or(0, |content| content.bytes().len() as u64)).sum()
    }

    /// Every file by its path.
    pub(super) fn files(&self) -> BTreeMap<std::path::PathBuf, Id> {
        let mut found = BTreeMap::new();
        let mut open = vec![(std::path::PathBuf::from("/"), ROOT)];
        while let Some((path, id)) = open.pop() {
            match self.nodes.get(&id) {
                Some(Node::Folder(folder)) => open.extend(folder.names.iter().map(|(name, id)| (path.join(name), *id))),
                Some(Node::File(_)) => drop(found.insert(path, id)),
                None => {}
            }
        }
        found
    }

    /// The power goes. `keep` is how many in a hundred of the unsynced changes had been written.
    pub(super) fn cut(&mut self, keep: u64, dice: &mut Dice) {
        for node in self.nodes.values_mut() {
            match node {
                Node::File(content) => content.cut(keep, dice),
                Node::Folder(folder) => folder.cut(keep, dice),
            }
        }
        let mut named = BTreeSet::from([ROOT]);
        let mut open = vec![ROOT];
        while let Some(id) = open.pop() {
            if let Some(Node::Folder(folder)) = self.nodes.get(&id) {
                open.extend(folder.names.values().filter(|id| named.insert(**id)));
            }
        }
        self.nodes.retain(|id, _| named.contains(id));
    }

    fn folder(&self, id: Id) -> io::Result<&Folder> {
        match self.node(id)? {
            Node::Folder(folder) => Ok(folder),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn folder_mut(&mut self, id: Id) -> io::Result<&mut Folder> {
        match self.nodes.get_mut(&id) {
            Some(Node::Folder(folder)) => Ok(folder),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn place(&self, path: &Path) -> io::Result<(Id, OsString)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let folder = self.find(path.parent().unwrap_or(Path::new("/")))?;
        Ok((folder, name))
    }
}

fn parts(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    })
}
