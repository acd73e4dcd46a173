//! The suite's command line.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use lexopt::{Arg, Parser, ValueExt as _};

/// What is to be done, and where metadata lies.
pub(crate) struct Arguments {
    pub(crate) metadata_dir: PathBuf,
    pub(crate) command: Command,
}

pub(crate) enum Command {
    /// Trusts a root that came by another way.
    Init { root: PathBuf },
    /// Brings the top-level metadata up to date.
    Refresh { metadata_url: String },
    /// Brings the metadata up to date and fetches targets, in their order.
    Download { metadata_url: String, targets: Vec<String>, target_url: String, target_dir: PathBuf },
}

#[derive(Default)]
struct Given {
    metadata_dir: Option<PathBuf>,
    metadata_url: Option<String>,
    targets: Vec<String>,
    target_url: Option<String>,
    target_dir: Option<PathBuf>,
    words: Vec<String>,
}

impl Arguments {
    /// Reads the command line of this process.
    pub(crate) fn read() -> Result<Self> {
        let mut given = Given::default();
        let mut parser = Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("metadata-dir") => given.metadata_dir = Some(parser.value()?.into()),
                Arg::Long("metadata-url") => given.metadata_url = Some(parser.value()?.string()?),
                Arg::Long("target-name") => given.targets.push(parser.value()?.string()?),
                Arg::Long("target-base-url") => given.target_url = Some(parser.value()?.string()?),
                Arg::Long("target-dir") => given.target_dir = Some(parser.value()?.into()),
                Arg::Value(word) => given.words.push(word.string()?),
                other => return Err(other.unexpected().into()),
            }
        }
        let metadata_dir = given.metadata_dir.take().context("--metadata-dir is missing")?;
        Ok(Self { metadata_dir, command: given.command()? })
    }
}

impl Given {
    fn command(self) -> Result<Command> {
        let metadata_url = self.metadata_url.context("--metadata-url is missing");
        match self.words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["init", root] => Ok(Command::Init { root: root.into() }),
            ["refresh"] => Ok(Command::Refresh { metadata_url: metadata_url? }),
            ["download"] => Ok(Command::Download {
                metadata_url: metadata_url?,
                targets: self.targets,
                target_url: self.target_url.context("--target-base-url is missing")?,
                target_dir: self.target_dir.context("--target-dir is missing")?,
            }),
            _ => bail!("say `init <root.json>`, `refresh` or `download`, not {:?}", self.words),
        }
    }
}
