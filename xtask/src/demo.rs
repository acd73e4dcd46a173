//! `cargo xtask demo` and `cargo xtask bench`: build, then hand over.

use std::process::Command;

use anyhow::Result;

use crate::{
    build::{self, Profile},
    process::{self, root},
    setup,
};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Print the summary as one JSON object on the last line.
    #[arg(long)]
    json: bool,
    /// Keep the demo's folder (keys, repository, state) and say where it is.
    #[arg(long)]
    keep: bool,
}

/// Arguments that are passed on.
#[derive(clap::Args)]
pub(crate) struct Passed {
    /// `--json` for a machine, `--only <row>` for some rows.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Builds everything and runs `sanderling demo`.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let built = build::all(Profile::Dev)?;
    let module = root().join("modules/surface-defect");
    let mut demo = Command::new(built.programs.join("sanderling"));
    demo.arg("demo")
        .arg("--agent")
        .arg(built.programs.join("sanderling-agent"))
        .arg("--worker")
        .arg(built.programs.join("sanderling-worker"))
        .arg("--module")
        .arg(built.guests.join("surface-defect.wasm"))
        .arg("--model")
        .arg(module.join("model/surface-defect.onnx"))
        .arg("--next-model")
        .arg(module.join("model/surface-defect-2.onnx"))
        .arg("--images")
        .arg(module.join("images/held-out"));
    for (flag, wanted) in [("--json", arguments.json), ("--keep", arguments.keep)] {
        if wanted {
            demo.arg(flag);
        }
    }
    process::run(&mut demo)
}

/// Builds the release programs and runs the benchmarks of the tests crate with them.
pub(crate) fn bench(passed: &Passed) -> Result<()> {
    setup::for_testing()?;
    let built = build::all(Profile::Release)?;
    let mut bench = Command::new(built.programs.join("sanderling-bench"));
    bench.arg("--programs").arg(built.programs).arg("--guests").arg(built.guests).args(&passed.arguments);
    process::run(&mut bench)
}
