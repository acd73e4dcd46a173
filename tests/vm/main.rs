//! `sanderling-vm`: the packaged agent on a whole machine, from its installation to power cuts in the middle of updates.
//!
//! Purpose: shows on Debian's own kernel and systemd what the other tests show on processes. The machine is emulated (arm64); broker,
//! operator's tool and observer are on the host, and reach it over MQTT alone. A camera driver (`vivid`) and the lines of a real gpiochip
//! driver (PL061) are met here. `cargo xtask vm` builds what this needs and calls it.
//!
//! Invariants: what is not as it should be ends the run with what was awaited and the end of the machine's console; a seed decides when
//! the power is cut.
//!
//! Limits: figures of time are those of an emulated processor.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test: whatever is not as it should be ends it")]

mod board;
mod cuts;
mod figures;
mod gateway;
mod guest;
mod lines;
mod machine;
mod settings;
mod story;

use std::process::ExitCode;

fn main() -> ExitCode {
    let settings = match settings::Settings::read() {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("sanderling-vm: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    story::tell(&settings).show(settings.json);
    ExitCode::SUCCESS
}
