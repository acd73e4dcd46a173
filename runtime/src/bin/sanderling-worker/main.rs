//! `sanderling-worker`: one guest in a confined process, started by `sanderling-agent`.
//!
//! It takes no arguments and reads no files: everything comes through inherited descriptors, as
//! [`sanderling_protocol::worker`] says. Exit status 0 after `Stopped`, 1 after `Fault`, 2 where it could not even say
//! why; then standard error has a line. Nothing is ever written to standard output.

mod clock;
mod confine;
mod control;
mod outbound;
mod seccomp;
mod serve;
mod shared;

use std::process::ExitCode;

use serve::End;

fn main() -> ExitCode {
    match serve::serve() {
        Ok(End::Stopped) => ExitCode::SUCCESS,
        Ok(End::Fault) => ExitCode::from(1),
        Err(error) => {
            eprintln!("sanderling-worker: {error}");
            ExitCode::from(2)
        }
    }
}
