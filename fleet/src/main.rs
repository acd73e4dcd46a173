//! `sanderling`: the operator's tool. Keys, repository, provisioning, watching, local runs, and a demo of it all.

// Doc comments here are help texts for a terminal, where `<name>` is a word to fill in.
#![allow(rustdoc::invalid_html_tags)]

mod broker;
mod clock;
mod connection;
mod demo;
mod home;
mod keys;
mod local;
mod provision;
mod publish;
mod repo;
mod watch;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use sanderling_protocol::topics::{DEFAULT_PREFIX, Topics};

use home::Home;
use local::RunOptions;
use provision::{Authority, BrokerAddress, DeviceOptions};
use repo::{Expiry, ModuleOptions, RolloutOptions};
use watch::WatchOptions;

/// Sends signed WebAssembly modules and ONNX models to gateways over MQTT, and shows what they report.
#[derive(Parser)]
#[command(
    version,
    after_help = "A first fleet: keys create, repo init, provision broker, provision device, repo add-module, repo deploy, repo sign, repo publish, watch."
)]
struct Arguments {
    /// The fleet's folder: keys, repository, certificates.
    #[arg(long, global = true, default_value = "fleet", env = "SANDERLING_FLEET")]
    fleet: PathBuf,
    /// The prefix of all topics.
    #[arg(long, global = true, default_value = DEFAULT_PREFIX)]
    prefix: String,
    /// Print results as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The keys that sign.
    #[command(subcommand)]
    Keys(Keys),
    /// What may run, who runs what, and the metadata that says so.
    #[command(subcommand)]
    Repo(Repo),
    /// Certificates and configuration for broker and devices.
    #[command(subcommand)]
    Provision(Provision),
    /// Show the main job on real parts, with a broker in this process. `cargo xtask demo` builds what it needs and calls it.
    Demo(demo::DemoOptions),
    /// Show what devices report and emit, as it comes.
    Watch {
        #[command(flatten)]
        broker: BrokerAddress,
        #[command(flatten)]
        options: WatchOptions,
    },
    /// Run a module on this machine, fed from files, without broker or agent.
    #[command(after_help = local::AFTER_HELP)]
    Run(Box<RunOptions>),
}

#[derive(Subcommand)]
enum Keys {
    /// Make a key for each role that has none.
    Create {
        /// The kind of keys.
        #[arg(long, default_value = "ed25519")]
        kind: keys::Kind,
    },
}

#[derive(Subcommand)]
enum Repo {
    /// Make an empty repository, signed.
    Init(Expiry),
    /// Stage a WebAssembly module.
    AddModule {
        /// The wasm file.
        file: PathBuf,
        /// Its target path: modules/<name>/<version>.wasm
        path: String,
        #[command(flatten)]
        options: ModuleOptions,
    },
    /// Stage an ONNX model.
    AddModel {
        /// The ONNX file.
        file: PathBuf,
        /// Its target path: models/<name>/<version>.onnx
        path: String,
    },
    /// Stage a deployment.
    Deploy {
        /// The deployment document, JSON.
        file: PathBuf,
        #[command(flatten)]
        options: RolloutOptions,
    },
    /// Take a target back.
    Remove {
        /// Its target path.
        path: String,
    },
    /// Sign what is staged.
    Sign(Expiry),
    /// Publish the repository as retained messages.
    Publish(BrokerAddress),
}

#[derive(Subcommand)]
enum Provision {
    /// Write Mosquitto's configuration with TLS and access list, and the operator's certificate.
    Broker(BrokerAddress),
    /// Write the folder of one device.
    Device(DeviceArguments),
}

#[derive(Args)]
struct DeviceArguments {
    #[command(flatten)]
    options: DeviceOptions,
    #[command(flatten)]
    broker: BrokerAddress,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sanderling: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Carries out a command; `false` where it ran and what it looked at was not as it should be.
async fn run(arguments: Arguments) -> Result<bool> {
    let topics = Topics::new(&arguments.prefix)?;
    let home = Home::new(&arguments.fleet);
    let say = Say { json: arguments.json };
    match arguments.command {
        Command::Keys(Keys::Create { kind }) => {
            for (role, id) in keys::create(&home, kind)? {
                say.line(
                    format!("{} key {id}", role.name()),
                    || serde_json::json!({ "role": role.name(), "key_id": id }),
                );
            }
        }
        Command::Repo(command) => repository(command, &home, &topics, &say).await?,
        Command::Provision(command) => provision(command, &home, &topics, &say)?,
        Command::Demo(options) => return demo::demo(&options, arguments.json).await,
        Command::Watch { broker, options } => {
            let connection =
                connection::connect(&broker, &provision::operator_files(&home), "sanderling-watch").await?;
            watch::watch(connection, &topics, &options, arguments.json).await?;
        }
        Command::Run(options) => return local::run(&options, arguments.json),
    }
    Ok(true)
}

async fn repository(command: Repo, home: &Home, topics: &Topics, say: &Say) -> Result<()> {
    match command {
        Repo::Init(expiry) => {
            let root = repo::init(home, expiry, clock::unix_seconds())?;
            say.line(
                format!("{} is the root of trust that devices get", root.display()),
                || serde_json::json!({ "root": root }),
            );
        }
        Repo::AddModule { file, path, options } => {
            let digest = repo::add_module(home, &file, &path, options)?;
            say.line(format!("{path} {digest}"), || serde_json::json!({ "path": path, "sha256": digest }));
        }
        Repo::AddModel { file, path } => {
            let digest = repo::add_model(home, &file, &path)?;
            say.line(format!("{path} {digest}"), || serde_json::json!({ "path": path, "sha256": digest }));
        }
        Repo::Deploy { file, options } => {
            let path = repo::deploy(home, &home::read(&file)?, options)?;
            say.line(format!("{path} is staged"), || serde_json::json!({ "path": path }));
        }
        Repo::Remove { path } => {
            repo::remove(home, &path)?;
            say.line(format!("{path} is taken back"), || serde_json::json!({ "path": path }));
        }
        Repo::Sign(expiry) => {
            let signed = repo::sign(home, expiry, clock::unix_seconds())?;
            let words: Vec<String> = signed.roles.iter().map(|(role, version)| format!("{role} {version}")).collect();
            say.line(format!("signed {}", words.join(", ")), || serde_json::json!(signed));
        }
        Repo::Publish(broker) => {
            let messages = repo::messages(home, topics)?;
            let connection =
                connection::connect(&broker, &provision::operator_files(home), "sanderling-publish").await?;
            let published = publish::publish(connection, &messages).await?;
            say.line(format!("published {} messages, {} bytes", published.messages, published.bytes), || {
                serde_json::json!(published)
            });
        }
    }
    Ok(())
}

fn provision(command: Provision, home: &Home, topics: &Topics, say: &Say) -> Result<()> {
    let authority = Authority::open(home)?;
    match command {
        Provision::Broker(address) => {
            let file = provision::mosquitto(home, &authority, &address, topics)?;
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

/// Prints results for people or for scripts.
struct Say {
    json: bool,
}

impl Say {
    fn line(&self, words: String, value: impl FnOnce() -> serde_json::Value) {
        if self.json { println!("{}", value()) } else { println!("{words}") }
    }
}
