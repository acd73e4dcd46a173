//! The Sanderling daemon: reads its arguments and its configuration, sets up logging, runs, and says how it ended.

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod manual;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use sanderling_agent::{
    doctor::{self, Outcome},
    driver::{self, DriverError},
    logging,
    settings::{DEFAULT_FILE, Settings},
};
use sanderling_protocol::topics::DeviceId;

const HELP: &str = "\
sanderling-agent runs signed WebAssembly modules and ONNX models on this device.

It takes what to run from an MQTT broker, checks every byte against The Update Framework,
runs each module in a confined process (sanderling-worker), feeds it frames from sensors,
and sends what it finds back to the broker. It keeps running what it has when the broker is away.

Usage: sanderling-agent [--config FILE]
       sanderling-agent check [--config FILE] [--json]
       sanderling-agent doctor [--config FILE] [--json] [--worker FILE]

Options:
  --config FILE  configuration; default /etc/sanderling/agent.toml
                 every *.toml in FILE.d/ is read after it and overrides it
  --check        the same as the command check
  --version      print the version and exit
  --help         print this and exit

Files:
  /etc/sanderling/agent.toml    device, broker, trust, sensors (`sanderling provision` writes it)
  [paths] state                 trusted metadata, deployments, blobs, outbox; kept over restarts
  [trust] root                  the root metadata that all trust comes from; part of the device's image

Commands:
  check          read and check the configuration and what it names, then exit; sanderling-agent check --help
  doctor         try what this device has and gives: configuration, certificates, broker, clock, disk,
                 confinement of workers, sensors; sanderling-agent doctor --help

Exit status:
  0   ended as asked by SIGTERM or SIGINT, or the check found nothing wrong
  1   the agent could not go on; restarting it may help
  2   wrong arguments
  78  the configuration, or a file that it names, has to be corrected

Example:
  sanderling-agent check --config ./gw-1/agent.toml && sanderling-agent --config ./gw-1/agent.toml
";

const CHECK_HELP: &str = "\
sanderling-agent check reads the configuration and says whether it is right: every key and value, and the files
that it names for trust and TLS. It connects to nothing, and does not look at the device; `sanderling-agent doctor` does.

Usage: sanderling-agent check [--config FILE] [--json]

Options:
  --config FILE  configuration; default /etc/sanderling/agent.toml, with every *.toml in FILE.d/
  --json         print one line of JSON: {\"schema\", \"agent\", \"file\", \"right\", \"device\", \"error\"}
  --help         print this and exit

Exit status:
  0   it is right
  2   wrong arguments
  78  it has to be corrected; the error names file, key and what is allowed

Example:
  sanderling-agent check --config ./gw-1/agent.toml --json | jq -r .error
";

const DOCTOR_HELP: &str = "\
sanderling-agent doctor says what this device has and gives to Sanderling, by trying it. It changes nothing, and the
agent may run meanwhile: then the broker is asked for TLS and no more, since a second session would end the agent's.

Usage: sanderling-agent doctor [--config FILE] [--json] [--worker FILE]

Options:
  --config FILE  configuration; default /etc/sanderling/agent.toml, with every *.toml in FILE.d/
  --json         print one line of JSON: {\"schema\", \"agent\", \"system\", \"findings\": [{\"area\", \"check\", \"outcome\", \"says\"}]}
  --worker FILE  the worker program; default what the configuration names, or where packages put it
  --help         print this and exit

What is looked at:
  configuration  whether it is right, and names a root and a worker program that are there
  certificates   authority, certificate and key, whether they go together, and when they expire
  broker         its name, a connection, TLS, and MQTT where the agent does not run
  clock          whether it can be right, and is kept by NTP
  disk           whether its folders can be written, and have room beside the reserve
  confinement    what the kernel gives of the confinement of workers
  sensors        whether the device, file or address of each is there

What is found of each thing:
  good           it is as it should be
  lacking        it works without; missing confinement is reported with each module as `unconfined`
  bad            the agent, or its modules, do not work

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
    Doctor { config: PathBuf, json: bool, worker: Option<PathBuf> },
    Version,
    Check { config: PathBuf, json: bool },
    Run(PathBuf),
}

fn main() -> ExitCode {
    match arguments(std::env::args_os().skip(1)) {
        Ok(Asked::Help(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Ok(Asked::Doctor { config, json, worker }) => examine(&config, json, worker.as_deref()),
        Ok(Asked::Version) => {
            println!("sanderling-agent {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Ok(Asked::Check { config, json }) => check(&config, json),
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
    let (mut config, mut check) = (PathBuf::from(DEFAULT_FILE), false);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("config") | Short('c') => config = parser.value()?.into(),
            Long("check") => check = true,
            Long("version") | Short('V') => return Ok(Asked::Version),
            Long("help") | Short('h') => return Ok(Asked::Help(HELP)),
            Value(command) if command == "doctor" && !check => return doctor(parser, config),
            Value(command) if command == "check" && !check => return checking(parser, config),
            other => return Err(other.unexpected()),
        }
    }
    Ok(if check { Asked::Check { config, json: false } } else { Asked::Run(config) })
}

fn checking(mut parser: lexopt::Parser, mut config: PathBuf) -> Result<Asked, lexopt::Error> {
    use lexopt::prelude::{Long, Short};
    let mut json = false;
    while let Some(argument) = parser.next()? {
        match argument {
            Long("config") | Short('c') => config = parser.value()?.into(),
            Long("json") => json = true,
            Long("help") | Short('h') => return Ok(Asked::Help(CHECK_HELP)),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Asked::Check { config, json })
}

fn doctor(mut parser: lexopt::Parser, mut config: PathBuf) -> Result<Asked, lexopt::Error> {
    use lexopt::prelude::{Long, Short};
    let (mut json, mut worker) = (false, None);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("config") | Short('c') => config = parser.value()?.into(),
            Long("json") => json = true,
            Long("worker") => worker = Some(parser.value()?.into()),
            Long("help") | Short('h') => return Ok(Asked::Help(DOCTOR_HELP)),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Asked::Doctor { config, json, worker })
}

fn examine(config: &Path, json: bool, worker: Option<&Path>) -> ExitCode {
    let examined = doctor::examine(config, worker).map_err(|error| error.to_string());
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

/// Says whether the configuration is right. What is wrong with it has to be corrected, whatever it is: nothing else is looked at.
fn check(file: &Path, json: bool) -> ExitCode {
    let settings = Settings::load(file).map_err(|error| error.to_string());
    let checked = settings.and_then(|settings| {
        driver::check(&settings).map_err(|error| error.to_string())?;
        Ok(settings.device)
    });
    let status = if checked.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(CONFIGURATION) };
    match checked {
        _ if json => println!("{}", in_json(file, &checked)),
        Ok(_) => println!("{}: the configuration is right", file.display()),
        Err(error) => eprintln!("sanderling-agent: {error}"),
    }
    status
}

fn in_json(file: &Path, checked: &Result<DeviceId, String>) -> serde_json::Value {
    serde_json::json!({
        "schema": "sanderling.check/1",
        "agent": env!("CARGO_PKG_VERSION"),
        "file": file.display().to_string(),
        "right": checked.is_ok(),
        "device": checked.as_ref().ok(),
        "error": checked.as_ref().err(),
    })
}

fn run(file: &Path) -> ExitCode {
    let settings = match Settings::load(file) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("sanderling-agent: {error}");
            return ExitCode::from(CONFIGURATION);
        }
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
        assert!(matches!(parse(&[]), Ok(Asked::Run(file)) if file == Path::new(DEFAULT_FILE)));
        assert!(matches!(parse(&["--config", "x"]), Ok(Asked::Run(file)) if file == Path::new("x")));
        for old_and_new in [["--config", "x", "--check"], ["--config", "x", "check"], ["check", "--config", "x"]] {
            assert!(
                matches!(parse(&old_and_new), Ok(Asked::Check { config, json: false }) if config == Path::new("x"))
            );
        }
        assert!(matches!(parse(&["check", "--json"]), Ok(Asked::Check { config, json: true })
            if config == Path::new(DEFAULT_FILE)));
        assert!(matches!(parse(&["--help", "--bad"]), Ok(Asked::Help(HELP))));
        assert!(matches!(parse(&["check", "--help"]), Ok(Asked::Help(CHECK_HELP))));
        assert!(matches!(parse(&["doctor", "--help"]), Ok(Asked::Help(DOCTOR_HELP))));
        assert!(matches!(parse(&["doctor", "--config", "x", "--json", "--worker", "w"]),
            Ok(Asked::Doctor { config, json: true, worker: Some(worker) })
            if config == Path::new("x") && worker == Path::new("w")));
        assert!(matches!(parse(&["--config", "x", "doctor"]), Ok(Asked::Doctor { config, json: false, worker: None })
            if config == Path::new("x")));
        assert!(matches!(parse(&["--version"]), Ok(Asked::Version)));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for wrong in [
            &["--confg", "x"][..],
            &["x"],
            &["doctor", "--check"],
            &["--check", "doctor"],
            &["--check", "check"],
            &["check", "doctor"],
            &["check", "--worker", "w"],
            &["--config"],
            &["--json"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_check_says_the_same_in_json() {
        let file = Path::new("agent.toml");
        let wrong = in_json(file, &Err("agent.toml: `x` is 1; allowed: 2".to_owned()));
        assert_eq!((wrong["right"].as_bool(), wrong["device"].is_null()), (Some(false), true));
        assert!(wrong["error"].as_str().unwrap().contains("allowed: 2"));
        let right = in_json(file, &Ok("gw-1".parse().unwrap()));
        assert_eq!((right["right"].as_bool(), right["device"].as_str()), (Some(true), Some("gw-1")));
        assert!(right["error"].is_null());
    }

    #[test]
    fn the_help_teaches() {
        for word in ["--config", "/etc/sanderling/agent.toml", "Exit status", "78", "Example", "--check", "doctor"] {
            assert!(HELP.contains(word), "{word}");
        }
        for word in ["--config", "--json", "Exit status", "78", "Example"] {
            assert!(CHECK_HELP.contains(word), "{word}");
        }
        for word in ["--json", "--worker", "--config", "Exit status", "lacking", "unconfined", "Example", "sensors"] {
            assert!(DOCTOR_HELP.contains(word), "{word}");
        }
    }
}
