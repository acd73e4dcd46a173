//! `sanderling-worker`: one guest in a confined process, started by `sanderling-agent`.
//!
//! In service it takes no arguments and reads no files of others: everything comes through inherited descriptors, as
//! [`sanderling_protocol::worker`] says. Exit status 0 after `Stopped`, 1 after `Fault`, 2 where it could not even say
//! why; then standard error has a line. Nothing is written to standard output.
//!
//! With `--try MEASURE` it runs nothing: it tries one measure of its confinement, as `trial` says. `--version` and `--help` are for
//! whoever meets the program on a gateway, or wants to know whether it starts there.

mod allocator;
mod clock;
mod confine;
mod control;
mod landlocked;
mod outbound;
mod seccomp;
mod serve;
mod shared;
mod trial;

use std::{io::Write, process::ExitCode};

use confine::Held;
use sanderling_protocol::worker::Measure;
use serve::End;

const HELP: &str = "\
sanderling-worker runs one module of Sanderling in a confined process. It is started by sanderling-agent, through
inherited descriptors, and not by hand; `sanderling-agent --help` says how that is configured.

Options:
  --try MEASURE  try one measure of the confinement on this machine, as `sanderling-agent doctor` does
  --version      print the version and exit
  --help         print this and exit";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|one| one.to_string_lossy().into_owned()).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => serve(),
        ["--try", measure] => match measure.parse::<Measure>() {
            Ok(measure) => tried(trial::attempt(measure)),
            Err(error) => failed(&error),
        },
        [trial::ORPHAN] => tried(trial::orphan()),
        ["--version" | "-V"] => said(&format_args!("sanderling-worker {}", env!("CARGO_PKG_VERSION"))),
        ["--help" | "-h"] => said(&HELP),
        _ => failed(&"it is started by sanderling-agent, not by hand; --help says more"),
    }
}

fn serve() -> ExitCode {
    match serve::serve() {
        Ok(End::Stopped) => ExitCode::SUCCESS,
        Ok(End::Fault) => ExitCode::from(1),
        Err(error) => failed(&error),
    }
}

fn tried(held: Held) -> ExitCode {
    match held {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(1)
        }
    }
}

fn said(what: &dyn std::fmt::Display) -> ExitCode {
    // Whoever asked may be gone.
    match writeln!(std::io::stdout(), "{what}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(why: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("sanderling-worker: {why}");
    ExitCode::from(2)
}
