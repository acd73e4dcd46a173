//! The Sanderling daemon: reads its arguments and its configuration, sets up logging, runs, and says how it ended.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use sanderling_agent::{
    driver::{self, DriverError},
    logging,
    settings::{DEFAULT_FILE, Settings},
};

const HELP: &str = "\
sanderling-agent runs signed WebAssembly modules and ONNX models on this device.

It takes what to run from an MQTT broker, checks every byte against The Update Framework,
runs each module in a confined process (sanderling-worker), feeds it frames from sensors,
and sends what it finds back to the broker. It keeps running what it has when the broker is away.

Usage: sanderling-agent [--config FILE] [--check]

Options:
  --config FILE  configuration; default /etc/sanderling/agent.toml
                 every *.toml in FILE.d/ is read after it and overrides it
  --check        read and check the configuration and what it names, then exit
  --version      print the version and exit
  --help         print this and exit

Files:
  /etc/sanderling/agent.toml    device, broker, trust, sensors (`sanderling provision` writes it)
  [paths] state                 trusted metadata, deployments, blobs, outbox; kept over restarts
  [trust] root                  the root metadata that all trust comes from; part of the device's image

Exit status:
  0   ended as asked by SIGTERM or SIGINT, or the check found nothing wrong
  1   the agent could not go on; restarting it may help
  2   wrong arguments
  78  the configuration, or a file that it names, has to be corrected

Example:
  sanderling-agent --config ./gw-1/agent.toml --check && sanderling-agent --config ./gw-1/agent.toml
";

const USAGE: u8 = 2;
const CONFIGURATION: u8 = 78;

enum Asked {
    Help,
    Version,
    Check(PathBuf),
    Run(PathBuf),
}

fn main() -> ExitCode {
    match arguments(std::env::args_os().skip(1)) {
        Ok(Asked::Help) => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Ok(Asked::Version) => {
            println!("sanderling-agent {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Ok(Asked::Check(file)) => check(&file),
        Ok(Asked::Run(file)) => run(&file),
        Err(error) => {
            eprintln!("sanderling-agent: {error}; see sanderling-agent --help");
            ExitCode::from(USAGE)
        }
    }
}

fn arguments(arguments: impl IntoIterator<Item = OsString>) -> Result<Asked, lexopt::Error> {
    use lexopt::prelude::{Long, Short};
    let mut parser = lexopt::Parser::from_args(arguments);
    let (mut file, mut check) = (PathBuf::from(DEFAULT_FILE), false);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("config") | Short('c') => file = parser.value()?.into(),
            Long("check") => check = true,
            Long("version") | Short('V') => return Ok(Asked::Version),
            Long("help") | Short('h') => return Ok(Asked::Help),
            other => return Err(other.unexpected()),
        }
    }
    Ok(if check { Asked::Check(file) } else { Asked::Run(file) })
}

fn check(file: &std::path::Path) -> ExitCode {
    match settings(file).and_then(|settings| driver::check(&settings).map_err(|error| failed(&error))) {
        Ok(()) => {
            println!("{}: the configuration is right", file.display());
            ExitCode::SUCCESS
        }
        Err(status) => status,
    }
}

fn run(file: &std::path::Path) -> ExitCode {
    let settings = match settings(file) {
        Ok(settings) => settings,
        Err(status) => return status,
    };
    if let Err(error) = logging::init(settings.log_level, std::env::var("JOURNAL_STREAM").ok().as_deref()) {
        eprintln!("sanderling-agent: {error}");
        return ExitCode::FAILURE;
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), device = %settings.device, "sanderling-agent starts");
    match driver::run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn settings(file: &std::path::Path) -> Result<Settings, ExitCode> {
    Settings::load(file).map_err(|error| {
        eprintln!("sanderling-agent: {error}");
        ExitCode::from(CONFIGURATION)
    })
}

fn failed(error: &DriverError) -> ExitCode {
    eprintln!("sanderling-agent: {error}");
    if error.is_configuration() { ExitCode::from(CONFIGURATION) } else { ExitCode::FAILURE }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(list: &[&str]) -> Result<Asked, lexopt::Error> {
        arguments(list.iter().map(OsString::from))
    }

    #[test]
    fn knows_its_arguments() {
        assert!(matches!(parse(&[]), Ok(Asked::Run(file)) if file == std::path::Path::new(DEFAULT_FILE)));
        assert!(
            matches!(parse(&["--config", "x", "--check"]), Ok(Asked::Check(file)) if file == std::path::Path::new("x"))
        );
        assert!(matches!(parse(&["--help", "--bad"]), Ok(Asked::Help)));
        assert!(matches!(parse(&["--version"]), Ok(Asked::Version)));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        assert!(parse(&["--confg", "x"]).is_err());
        assert!(parse(&["x"]).is_err());
        assert!(parse(&["--config"]).is_err());
    }

    #[test]
    fn the_help_teaches() {
        for word in ["--config", "/etc/sanderling/agent.toml", "Exit status", "78", "Example"] {
            assert!(HELP.contains(word), "{word}");
        }
    }
}
