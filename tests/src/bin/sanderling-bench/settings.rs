//! The command line.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

const HELP: &str = "sanderling-bench [--programs <folder>] [--guests <folder>] [--only <row>]… [--json]

Measures the release programs in <folder> (target/release) with the guests in <folder> (target/guests).
--only takes the beginning of a row's name, such as `frames` or `worker-pss`.";

/// What is measured and how it is printed.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Where the programs lie.
    pub(crate) programs: PathBuf,
    /// Where the guests lie.
    pub(crate) guests: PathBuf,
    /// One JSON object a row.
    pub(crate) json: bool,
    /// The group that this process measures, where it is one that was started for it.
    pub(crate) group: Option<String>,
    /// Arguments for the processes that measure.
    pub(crate) passed: Vec<String>,
    only: Vec<String>,
}

impl Settings {
    /// Reads the command line.
    pub(crate) fn read() -> Result<Self> {
        let target = sanderling_tests::source().join("target");
        let mut settings = Self {
            programs: target.join("release"),
            guests: target.join("guests"),
            json: false,
            group: None,
            passed: vec![],
            only: vec![],
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--programs" => settings.programs = PathBuf::from(value()?).canonicalize()?,
                "--guests" => settings.guests = PathBuf::from(value()?).canonicalize()?,
                "--only" => {
                    let row = value()?;
                    settings.passed.extend([argument, row.clone()]);
                    settings.only.push(row);
                }
                "--group" => settings.group = Some(value()?),
                "--json" => settings.json = true,
                "--help" | "-h" => bail!("{HELP}"),
                other => bail!("{other} is not an option\n\n{HELP}"),
            }
        }
        Ok(settings)
    }

    /// Whether a row was asked for.
    pub(crate) fn wants(&self, row: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| row.starts_with(only.as_str()))
    }
}
