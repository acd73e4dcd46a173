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
        return print(&page(command())?.1);
    };
    let failed = || format!("the pages could not be written to {}", folder.display());
    std::fs::create_dir_all(folder).with_context(failed)?;
    let mut all = command().disable_help_subcommand(true);
    all.build();
    let mut waiting = vec![all];
    while let Some(next) = waiting.pop() {
        waiting.extend(next.get_subcommands().cloned());
        let (name, text) = page(next)?;
        std::fs::write(folder.join(name), text).with_context(failed)?;
    }
    Ok(())
}

/// A page, and the name of its file.
fn page(command: clap::Command) -> Result<(String, Vec<u8>)> {
    let page = Man::new(command).source(concat!("sanderling ", env!("CARGO_PKG_VERSION"))).manual("Sanderling");
    let mut text = Vec::new();
    page.render(&mut text).context("the page could not be made")?;
    Ok((page.get_filename(), text))
}

fn command() -> clap::Command {
    Arguments::command()
}

/// To standard output, where a reader that goes away early (`sanderling man | head`) is an error, not a panic.
fn print(text: &[u8]) -> Result<()> {
    std::io::stdout().write_all(text).context("standard output could not be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(command: &clap::Command) -> usize {
        1 + command.get_subcommands().map(count).sum::<usize>()
    }

    #[test]
    fn every_command_has_a_page_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        pages(Some(folder.path())).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), count(&command()));
        let page = std::fs::read_to_string(folder.path().join("sanderling-repo-root-sign-sign.1")).unwrap();
        assert!(page.contains("no repository and no network") && page.contains(r"\fB\-\-key\fR"), "{page}");
    }

    #[test]
    fn each_shell_is_told_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command(), "sanderling", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(command().get_subcommands().all(|known| script.contains(known.get_name())), "{shell}");
        }
    }
}
