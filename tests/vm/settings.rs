//! The command line.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

const HELP: &str = "sanderling-vm --deb <file> --image <folder> [--cuts <number>] [--seed <number>] [--json]

Installs <file> on a virtual machine that boots what tests/vm/image/build left in <folder>, lets it work, and cuts its power
in the middle of so many updates (20). A seed decides when.";

/// What is run.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The package of the agent, for arm64.
    pub(crate) deb: PathBuf,
    /// Disk, kernel and initial ramdisk.
    pub(crate) image: PathBuf,
    /// How often the power is cut.
    pub(crate) cuts: u32,
    /// What decides when.
    pub(crate) seed: u64,
    /// The figures as one JSON object.
    pub(crate) json: bool,
}

impl Settings {
    /// Reads the command line.
    pub(crate) fn read() -> Result<Self> {
        let (mut deb, mut image) = (None, None);
        let (mut cuts, mut seed, mut json) = (20, 1, false);
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
            let number = |text: String| text.parse().with_context(|| format!("{text} is not a number"));
            match argument.as_str() {
                "--deb" => deb = Some(PathBuf::from(value()?)),
                "--image" => image = Some(PathBuf::from(value()?)),
                "--cuts" => cuts = u32::try_from(number(value()?)?)?,
                "--seed" => seed = number(value()?)?,
                "--json" => json = true,
                "--help" | "-h" => bail!("{HELP}"),
                other => bail!("{other} is not an option\n\n{HELP}"),
            }
        }
        let needed = |what: Option<PathBuf>| what.with_context(|| format!("--deb and --image are needed\n\n{HELP}"));
        Ok(Self { deb: needed(deb)?, image: needed(image)?, cuts, seed, json })
    }
}
