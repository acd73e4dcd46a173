//! `sanderling`: the operator's tool. Keys, repository, provisioning, watching, local runs, and a demo of it all.

// Doc comments here are help texts for a terminal, where `<name>` is a word to fill in.
#![allow(rustdoc::invalid_html_tags)]

#[cfg_attr(not(feature = "backtrace"), path = "no_backtrace.rs")]
mod backtrace;
mod broker;
mod capsule;
mod cli;
mod clock;
mod commands;
mod connection;
mod demo;
mod gc;
mod home;
mod keys;
mod line;
mod local;
mod logs;
mod manual;
mod new;
mod progress;
mod provision;
mod publish;
mod replay;
mod repo;
mod say;
mod session;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use cli::Arguments;
use commands::Ended;

#[tokio::main]
async fn main() -> ExitCode {
    match commands::run(Arguments::parse()).await {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::Badly) => ExitCode::FAILURE,
        Ok(Ended::WantsAttention) => ExitCode::from(3),
        Err(error) => {
            eprintln!("sanderling: {error:#}");
            ExitCode::FAILURE
        }
    }
}
