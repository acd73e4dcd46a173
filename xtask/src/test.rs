//! `cargo xtask test`: everything, counted.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use anyhow::{Context, Result, bail};

use crate::{build, process::cargo, process::step, process::target_dir, setup, tools::Languages};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only tests whose name contains this.
    filter: Option<String>,
}

/// Installs what is needed, builds programs and guests, runs all tests, and ends with `N passed, N failed`.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::for_building()?;
    setup::for_testing()?;
    let guests = build::guests()?;
    step("building and running all tests");
    let mut command = cargo();
    command.args(build::TEST).arg("--no-fail-fast");
    if let Some(filter) = &arguments.filter {
        command.arg(filter);
    }
    command.env("SANDERLING_GUESTS", &guests).env("SANDERLING_PROGRAMS", target_dir().join("debug"));
    command.env("SANDERLING_PYTHON", setup::python()).env("SANDERLING_TOOLS", Languages::new().folder());
    let mut child = command.stdout(Stdio::piped()).spawn().context("could not start cargo test")?;
    let output = child.stdout.take().context("cargo test has no output")?;
    let mut counts = Counts::default();
    for line in BufReader::new(output).lines() {
        let line = line.context("could not read what cargo test prints")?;
        println!("{line}");
        counts.add(&line);
    }
    let status = child.wait().context("cargo test did not end")?;
    // A test program that was killed, or did not compile, prints no result of its own.
    if !status.success() && counts.failed == 0 {
        counts.failed = 1;
    }
    println!("{} passed, {} failed", counts.passed, counts.failed);
    if counts.failed > 0 || counts.passed == 0 {
        bail!("tests failed; their output stands above");
    }
    Ok(())
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Counts {
    /// Adds a line of the form `test result: ok. 3 passed; 0 failed; …`.
    pub(crate) fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let count = |what: &str| {
            let before = result.split_once(what)?.0;
            before.trim_end().rsplit(' ').next()?.parse::<u64>().ok()
        };
        self.passed += count("passed;").unwrap_or(0);
        self.failed += count("failed;").unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_the_results_of_all_test_programs() {
        let mut counts = Counts::default();
        counts.add("running 4 tests");
        counts.add("test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        counts
            .add("test result: FAILED. 12 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        assert_eq!(counts, Counts { passed: 15, failed: 2 });
    }
}
