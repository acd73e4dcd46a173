//! `sanderling-worker`: one guest in a confined process, started by `sanderling-agent`.
//!
//! In service it takes no arguments and reads no files of others: everything comes through inherited descriptors, as
//! [`sanderling_protocol::worker`] says. Exit status 0 after `Stopped`, 1 after `Fault`, 2 where it could not even say
//! why; then standard error has a line. Nothing is ever written to standard output.
//!
//! With `--try MEASURE` it runs nothing: it tries one measure of its confinement, as `trial` says.

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

use std::process::ExitCode;

use confine::Held;
use sanderling_protocol::worker::Measure;
use serve::End;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|one| one.to_string_lossy().into_owned()).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => serve(),
        ["--try", measure] => match measure.parse::<Measure>() {
            Ok(measure) => tried(trial::attempt(measure)),
            Err(error) => failed(&error),
        },
        [trial::ORPHAN] => tried(trial::orphan()),
        _ => failed(&"it is started by sanderling-agent, not by hand"),
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

fn failed(why: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("sanderling-worker: {why}");
    ExitCode::from(2)
}
