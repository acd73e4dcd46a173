//! Carrying out what the command line asks for, and telling the result.

mod keys;
mod online;
mod repository;

use anyhow::{Result, bail};
use sanderling_protocol::topics::Topics;

use crate::{
    cli::{Arguments, Command, DeviceArguments, Provision},
    demo,
    home::Home,
    local, manual,
    new::{self, NewOptions},
    provision::{self, Authority},
    replay,
    say::Say,
};

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It is done.
    Well,
    /// It ran, and what it looked at was not as it should be.
    Badly,
    /// It is done, and something must be done soon.
    WantsAttention,
}

impl From<bool> for Ended {
    fn from(well: bool) -> Self {
        if well { Self::Well } else { Self::Badly }
    }
}

/// What every command needs.
struct Scene {
    home: Home,
    topics: Topics,
    say: Say,
}

/// Carries out a command.
pub(crate) async fn run(arguments: Arguments) -> Result<Ended> {
    let scene = Scene {
        home: Home::new(&arguments.fleet).with_keys(&arguments.key_folders),
        topics: Topics::new(&arguments.prefix)?,
        say: Say { json: arguments.json },
    };
    match arguments.command {
        Command::Keys(command) => keys::run(command, &scene)?,
        Command::Repo(command) => return repository::run(command, &scene).await,
        Command::Provision(command) => provision(command, &scene)?,
        Command::Demo(options) => return demo::demo(&options, arguments.json).await.map(Ended::from),
        Command::Watch { broker, options } => online::watch(&scene, &broker, &options).await?,
        Command::Restart { device, module, broker } => online::restart(&scene, &broker, &device, module).await?,
        Command::Logs { device, options, broker } => online::logs(&scene, &broker, &device, options).await?,
        Command::Capsule(command) => online::capsule(&scene, command).await?,
        Command::Capture { device, sensor, module, output, broker } => match (sensor, module) {
            (_, Some(module)) => online::capture_module(&scene, &broker, &device, module, output).await?,
            (Some(sensor), None) => online::capture(&scene, &broker, &device, &sensor, output).await?,
            (None, None) => bail!("name a sensor, or a module with --module"),
        },
        Command::Replay(options) => return replay::run(&options, &scene.home, scene.say).map(Ended::from),
        Command::New(options) => create(&options, &scene)?,
        Command::Completions { shell } => manual::completions(shell)?,
        Command::Man { out } => manual::pages(out.as_deref())?,
        Command::Run(options) => return local::run(&options, arguments.json).map(Ended::from),
    }
    Ok(Ended::Well)
}

fn create(options: &NewOptions, scene: &Scene) -> Result<()> {
    let folder = new::create(options)?;
    scene.say.line(
        format!(
            "{0} is ready; {0}/README.md says what it needs, and {0}/test.sh builds and tries it",
            folder.display()
        ),
        || serde_json::json!({ "folder": folder }),
    );
    Ok(())
}

fn provision(command: Provision, scene: &Scene) -> Result<()> {
    let Scene { home, topics, say } = scene;
    let authority = Authority::open(home)?;
    match command {
        Provision::Broker(options) => {
            let file = provision::mosquitto(home, &authority, &options, topics)?;
            provision::operator(home, &authority)?;
            say.line(
                format!("run it with: mosquitto -c {}", file.display()),
                || serde_json::json!({ "configuration": file }),
            );
        }
        Provision::Device(DeviceArguments { options, broker }) => {
            let folder = provision::device(home, &authority, &broker, topics, &options)?;
            say.line(
                format!("copy {}/* to {} on {}", folder.display(), options.installed_at.display(), options.id),
                || serde_json::json!({ "device": options.id, "folder": folder }),
            );
        }
    }
    Ok(())
}
