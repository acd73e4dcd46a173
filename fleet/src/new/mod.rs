//! `sanderling new`: a folder in which a module can be written, built and tried.
//!
//! Purpose: the first frame of a module of one's own, in any language that has bindings, without a copy of this repository: the bindings are
//! written into the folder.
//!
//! Invariants: a folder that exists is left as it is; a folder that is written in part is removed again.
//!
//! Failure modes: an unknown language or a name that is none of a module is refused with what is allowed.
//!
//! Limits: compilers are named, not installed.

mod languages;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::ValueEnum as _;
use thiserror::Error;

pub(crate) use languages::Language;

/// The longest name of a project.
const LONGEST: usize = 32;

/// What `--help` ends with.
pub(crate) const AFTER_HELP: &str = "\
The folder NAME gets the module's source, the bindings of its language, a build script with the exact command, a sample frame, and test.sh, which
builds the module and runs it on the frame with `sanderling run`.

  sanderling new zig thermometer && thermometer/test.sh";

/// What to make.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct NewOptions {
    /// The language.
    #[arg(value_name = "LANGUAGE")]
    pub(crate) language: Language,
    /// The module's name, and the folder's: lowercase letters, digits and hyphens.
    pub(crate) name: String,
    /// Make the folder in this one.
    #[arg(long = "in", value_name = "FOLDER", default_value = ".")]
    pub(crate) parent: PathBuf,
}

/// Why there is no project.
#[derive(Debug, Error)]
pub(crate) enum NewError {
    /// The name does not do in every place where it is used.
    #[error(
        "{0:?} is no name for a module: it has 1 to {LONGEST} lowercase letters, digits and hyphens, begins with a letter and does not \
         end with a hyphen"
    )]
    Name(String),
    /// The name is one that the languages use.
    #[error("the name {0:?} is taken by the bindings or by a language; choose another")]
    Reserved(String),
    /// There is such a folder.
    #[error("{} is there already and stays as it is; choose another name, or --in another folder", .0.display())]
    Exists(PathBuf),
    /// The folder cannot be written.
    #[error("could not write {}: {source}", .path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Makes the project and returns its folder.
///
/// # Errors
/// As [`NewError`] says.
pub(crate) fn create(options: &NewOptions) -> Result<PathBuf, NewError> {
    check(&options.name)?;
    let folder = options.parent.join(&options.name);
    let written = |path: &Path, result: io::Result<()>| {
        result.map_err(|source| NewError::Write { path: path.to_owned(), source })
    };
    fs::create_dir_all(&options.parent).map_err(|source| NewError::Write { path: options.parent.clone(), source })?;
    match fs::create_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(NewError::Exists(folder)),
        other => written(&folder, other)?,
    }
    for file in options.language.files(&options.name) {
        let path = folder.join(&file.path);
        if let Err(error) = written(&path, write(&path, &file)) {
            // What is left is of no use, and would be in the way of the next try.
            let _ = fs::remove_dir_all(&folder);
            return Err(error);
        }
    }
    Ok(folder)
}

/// A file of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProjectFile {
    /// Relative to the folder.
    pub(crate) path: String,
    pub(crate) content: String,
    pub(crate) executable: bool,
}

fn write(path: &Path, file: &ProjectFile) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, &file.content)?;
    if file.executable {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn check(name: &str) -> Result<(), NewError> {
    let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    let fits = (1..=LONGEST).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.chars().all(plain);
    if !fits {
        return Err(NewError::Name(name.to_owned()));
    }
    // Names of folders, packages and modules beside the project's own, and of commands of Go and Cargo.
    let taken = ["sanderling", "sanderling-guest", "frames", "target", "test", "main", "core", "std", "alloc", "serde"];
    if taken.contains(&name) || Language::value_variants().iter().any(|language| language.word() == name) {
        return Err(NewError::Reserved(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn options(name: &str, parent: &Path) -> NewOptions {
        NewOptions { language: Language::C, name: name.to_owned(), parent: parent.to_owned() }
    }

    #[test]
    fn makes_a_folder_once_and_leaves_one_that_is_there() {
        let home = tempfile::tempdir().unwrap();
        let folder = create(&options("meter", &home.path().join("deep"))).unwrap();
        assert!(folder.join("meter.c").is_file());
        fs::write(folder.join("meter.c"), "mine").unwrap();
        assert!(matches!(create(&options("meter", &home.path().join("deep"))), Err(NewError::Exists(_))));
        assert_eq!(fs::read_to_string(folder.join("meter.c")).unwrap(), "mine");
    }

    #[test]
    fn refuses_names_that_do_not_do_everywhere() {
        let home = tempfile::tempdir().unwrap();
        for name in ["", "Meter", "-meter", "meter-", "1m", "me_ter", "me ter", "../meter", &"m".repeat(33)] {
            assert!(matches!(create(&options(name, home.path())), Err(NewError::Name(_))), "{name}");
        }
        for name in ["sanderling", "go", "zig", "std"] {
            assert!(matches!(create(&options(name, home.path())), Err(NewError::Reserved(_))), "{name}");
        }
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("file"), "").unwrap();
        let error = create(&options("meter", &home.path().join("file"))).unwrap_err();
        assert!(error.to_string().contains("file"), "{error}");
    }
}
