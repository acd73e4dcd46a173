//! `cargo xtask …`: everything that is done with this repository, in one word each.

mod build;
mod clock;
mod cross;
mod demo;
mod emulate;
mod guests;
mod package;
mod process;
mod prove;
mod setup;
mod test;
mod tools;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, shows, tests and measures Sanderling")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Show the main job on real parts: sign, publish, pull, run, detect, update, refuse, roll back.
    Demo(demo::Arguments),
    /// Run every test; installs what they need (Debian's mosquitto and clang, compilers for guests). Ends with `N passed, N failed`.
    Test(test::Arguments),
    /// Measure against the references of the budgets, side by side in one run (release builds).
    Bench(demo::Passed),
    /// Run the long forms of the proofs and print a table: proof, cases, failures, seconds.
    Prove(prove::Arguments),
    /// Build the programs and the guests, without running anything.
    Build,
    /// Build agent and worker for another processor with Debian's cross compilers.
    Cross(cross::Arguments),
    /// Run the tests of protocol, runtime and agent as programs of another processor, under qemu's user emulation.
    Emulate(emulate::Arguments),
    /// Build Debian packages of the agent and, for this machine, of the operator's tool.
    Package(package::Arguments),
    /// Show the packaged agent on a virtual gateway: installation, systemd, camera, lines, power cuts in the middle of updates.
    Vm(vm::Arguments),
    /// Install what building and testing need, and nothing else.
    Setup,
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    match task {
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Bench(passed) => demo::bench(&passed),
        Task::Prove(arguments) => prove::run(&arguments),
        Task::Build => build::all(build::Profile::Dev).map(|_| ()),
        Task::Cross(arguments) => cross::run(&arguments),
        Task::Emulate(arguments) => emulate::run(&arguments),
        Task::Package(arguments) => package::run(&arguments),
        Task::Vm(arguments) => vm::run(&arguments),
        Task::Setup => setup::for_building().and_then(|()| setup::for_testing()),
    }
}
