//! Manual pages and completions, made of the definition of the command line, so that they say what it takes.

use std::{io::Write, path::Path};

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::Arguments;

/// Writes what `shell` wants to know of the command line to standard output.
pub(crate) fn completions(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "sanderling", &mut script);
    print(&script)
}

/// Writes the page of each command into `folder`, or the first one to standard output.
pub(crate) fn pages(folder: Option<&Path>) -> Result<()> {
    let Some(folder) = folder else {
        let mut page = Vec::new();
        Man::new(command()).render(&mut page).context("the page could not be made")?;
        return print(&page);
    };
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(command(), folder))
        .with_context(|| format!("the pages could not be written to {}", folder.display()))
}

fn command() -> clap::Command {
    Arguments::command()
}

/// To standard output, where a reader that goes away early (`sanderling man | head`) is an error, not a panic.
fn print(text: &[u8]) -> Result<()> {
    std::io::stdout().write_all(text).context("standard output could not be written")
}
