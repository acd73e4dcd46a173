//! The Sanderling daemon: reads its arguments and its configuration, sets up logging, runs, and says how it ended.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use sanderling_agent::{
    doctor::{self, Outcome},
    driver::{self, DriverError},
    logging,
    settings::{DEFAULT_FILE, Settings, default_worker},
};

const HELP: &str = "\
sanderling-agent runs signed WebAssembly modules and ONNX models on this device.

It takes what to run from an MQTT broker, checks every byte against The Update Framework,
runs each module in a confined process (sanderling-worker), feeds it frames from sensors,
and sends what it finds back to the broker. It keeps running what it has when the broker is away.

Usage: sanderling-agent [--config FILE] [--check]
       sanderling-agent doctor [--json] [--worker FILE]

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

Commands:
  doctor         try what this device gives, such as the confinement of workers; sanderling-agent doctor --help

Exit status:
  0   ended as asked by SIGTERM or SIGINT, or the check found nothing wrong
  1   the agent could not go on; restarting it may help
  2   wrong arguments
  78  the configuration, or a file that it names, has to be corrected

Example:
  sanderling-agent --config ./gw-1/agent.toml --check && sanderling-agent --config ./gw-1/agent.toml
";

const DOCTOR_HELP: &str = "\
sanderling-agent doctor says what this device gives to Sanderling. It tries it, in processes that it starts for that,
and changes nothing. The agent may run meanwhile.

Usage: sanderling-agent doctor [--json] [--worker FILE]

Options:
  --json         print one line of JSON: {\"schema\", \"agent\", \"system\", \"findings\": [{\"area\", \"check\", \"outcome\", \"says\"}]}
  --worker FILE  the worker program; default sanderling-worker beside this program, or where packages put it
  --help         print this and exit

What is found of each thing:
  good           it is in force
  lacking        the device does without; modules run, and it is reported with each of them as `unconfined`
  bad            modules are not run, unless [workloads] confinement = \"report\" lets them

Exit status:
  0   everything is good
  1   something is bad, or could not be tried
  2   wrong arguments
  3   something is lacking and nothing is bad

Example:
  sanderling-agent doctor --json | jq '.findings[] | select(.outcome != \"good\")'
";

const USAGE: u8 = 2;
const LACKING: u8 = 3;
const CONFIGURATION: u8 = 78;

enum Asked {
    Help(&'static str),
    Doctor { json: bool, worker: PathBuf },
    Version,
    Check(PathBuf),
    Run(PathBuf),
}

fn main() -> ExitCode {
    match arguments(std::env::args_os().skip(1)) {
        Ok(Asked::Help(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Ok(Asked::Doctor { json, worker }) => examine(json, &worker),
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
    use lexopt::prelude::{Long, Short, Value};
    let mut parser = lexopt::Parser::from_args(arguments);
    let (mut file, mut check) = (PathBuf::from(DEFAULT_FILE), false);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("config") | Short('c') => file = parser.value()?.into(),
            Long("check") => check = true,
            Long("version") | Short('V') => return Ok(Asked::Version),
            Long("help") | Short('h') => return Ok(Asked::Help(HELP)),
            Value(command) if command == "doctor" && !check => return doctor(parser),
            other => return Err(other.unexpected()),
        }
    }
    Ok(if check { Asked::Check(file) } else { Asked::Run(file) })
}

fn doctor(mut parser: lexopt::Parser) -> Result<Asked, lexopt::Error> {
    use lexopt::prelude::{Long, Short};
    let (mut json, mut worker) = (false, default_worker());
    while let Some(argument) = parser.next()? {
        match argument {
            Long("json") => json = true,
            Long("worker") => worker = parser.value()?.into(),
            Long("help") | Short('h') => return Ok(Asked::Help(DOCTOR_HELP)),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Asked::Doctor { json, worker })
}

fn examine(json: bool, worker: &std::path::Path) -> ExitCode {
    let examined = doctor::examine(worker).map_err(|error| error.to_string());
    let text = examined.and_then(|found| {
        let text = if json { found.to_json().map_err(|error| error.to_string())? } else { found.to_string() };
        Ok((found.outcome(), text))
    });
    match text {
        Ok((outcome, text)) => {
            println!("{}", text.trim_end());
            match outcome {
                Outcome::Good => ExitCode::SUCCESS,
                Outcome::Lacking => ExitCode::from(LACKING),
                Outcome::Bad => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            eprintln!("sanderling-agent: {error}");
            ExitCode::FAILURE
        }
    }
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
        assert!(matches!(parse(&["--help", "--bad"]), Ok(Asked::Help(HELP))));
        assert!(matches!(parse(&["doctor", "--help"]), Ok(Asked::Help(DOCTOR_HELP))));
        assert!(matches!(parse(&["doctor", "--json", "--worker", "w"]), Ok(Asked::Doctor { json: true, worker })
            if worker == std::path::Path::new("w")));
        assert!(matches!(parse(&["--version"]), Ok(Asked::Version)));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        assert!(parse(&["--confg", "x"]).is_err());
        assert!(parse(&["x"]).is_err());
        assert!(parse(&["doctor", "--check"]).is_err());
        assert!(parse(&["--check", "doctor"]).is_err());
        assert!(parse(&["--config"]).is_err());
    }

    #[test]
    fn the_help_teaches() {
        for word in ["--config", "/etc/sanderling/agent.toml", "Exit status", "78", "Example"] {
            assert!(HELP.contains(word), "{word}");
        }
        for word in ["--json", "--worker", "Exit status", "lacking", "unconfined", "Example"] {
            assert!(DOCTOR_HELP.contains(word), "{word}");
        }
    }
}
