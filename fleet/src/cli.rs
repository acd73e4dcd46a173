//! The command line: what can be asked of the tool, and what its help says.

use std::{num::NonZeroU32, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use sanderling_protocol::{
    capsule::CapsuleId,
    topics::{DEFAULT_PREFIX, DeviceId},
};

use crate::{
    demo,
    gc::GcOptions,
    keys::{KeySource, Kind, SigningRole},
    local::{self, RunOptions},
    logs::LogsOptions,
    new::{self, NewOptions},
    provision::{BrokerAddress, BrokerOptions, DeviceOptions},
    replay::{self, ReplayOptions},
    repo::{Expiry, ModuleOptions, RefreshOptions, RolloutOptions, Threshold},
    watch::WatchOptions,
};

/// Sends signed WebAssembly modules and ONNX models to gateways over MQTT, and shows what they report.
#[derive(Parser)]
#[command(
    version,
    after_help = "A first fleet: keys create, repo init, provision broker, provision device, repo add-module, repo deploy, repo sign, repo publish, watch.

Exit status: 0 done; 1 failed, or what was looked at was not as it should be; 2 the command line was not understood; 3 done, and something wants attention soon (repo refresh)."
)]
pub(crate) struct Arguments {
    /// The fleet's folder: keys, repository, certificates.
    #[arg(long, global = true, default_value = "fleet", env = "SANDERLING_FLEET")]
    pub(crate) fleet: PathBuf,
    /// A further folder with private keys, such as a token that is plugged in for signing. Repeat for several.
    #[arg(long = "keys", global = true, value_name = "FOLDER")]
    pub(crate) key_folders: Vec<PathBuf>,
    /// The prefix of all topics.
    #[arg(long, global = true, default_value = DEFAULT_PREFIX)]
    pub(crate) prefix: String,
    /// Print results as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
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
    /// Start a module of a device anew: its faults are forgotten, and quarantine is lifted.
    #[command(
        after_help = "Changes nothing of what the device runs: the module has to be in the deployment that runs there. What it was handed it \
        answers first. How it goes on is in the reported state (`watch`): state, since, restarts, fault, and next_restart where it faulted \
        again.

Exit status: 0 the device started it; 1 the device is not connected, did not answer, or refused."
    )]
    Restart {
        /// The device.
        device: DeviceId,
        /// The module's name in its deployment.
        module: String,
        #[command(flatten)]
        broker: BrokerAddress,
    },
    /// Show what the modules of a device log, as it comes, for a while.
    #[command(
        after_help = "The device sends at most 20 lines a second, once each; what comes beyond is counted and told with the next line. One lease runs at a \
        time: who asks later takes it over."
    )]
    Logs {
        /// The device.
        device: DeviceId,
        #[command(flatten)]
        options: LogsOptions,
        #[command(flatten)]
        broker: BrokerAddress,
    },
    /// What devices kept of executions, to be run again here.
    #[command(subcommand)]
    Capsule(CapsuleCommand),
    /// Get the next frame of a device's sensor as an image, or what a module makes of its next frame as a capsule.
    #[command(
        after_help = "JPEG and PNG are written as the sensor delivered them, gray8, gray16, rgb8 and bgr8 as PNG, everything else as it is.\n\nA \
        capsule holds the frame, the module's config and its memory, so that `sanderling replay` runs the very same execution; the module's \
        deployment must grant it `capture`."
    )]
    Capture {
        /// The device.
        device: DeviceId,
        /// The sensor, by its name in the device's configuration.
        #[arg(required_unless_present = "module", conflicts_with = "module")]
        sensor: Option<String>,
        /// The module, by its name in the deployment.
        #[arg(long)]
        module: Option<String>,
        /// The file to write; without it, frame-<number> with an extension that fits, or capsule-<id>.tar.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        broker: BrokerAddress,
    },
    /// Run the execution that led to a fault again, from its capsule.
    #[command(after_help = replay::AFTER_HELP)]
    Replay(ReplayOptions),
    /// Make a folder in which a module can be written, built and tried.
    #[command(after_help = new::AFTER_HELP)]
    New(NewOptions),
    /// Run a module on this machine, fed from files, without broker or agent.
    #[command(after_help = local::AFTER_HELP)]
    Run(Box<RunOptions>),
    /// Print what a shell needs to complete this command line.
    #[command(after_help = "sanderling completions bash > ~/.local/share/bash-completion/completions/sanderling")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    #[command(after_help = "sanderling man | man -l -")]
    Man {
        /// Write a page for each command into this folder instead.
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
pub(crate) enum CapsuleCommand {
    /// List the capsules that a device has, oldest first.
    List {
        /// The device.
        device: DeviceId,
        #[command(flatten)]
        broker: BrokerAddress,
    },
    /// Fetch a capsule. One that was cut off goes on where it was.
    Fetch {
        /// The device.
        device: DeviceId,
        /// The capsule's id, as the fault in the device's report or event has it; without it, the newest.
        id: Option<CapsuleId>,
        /// The file to write; without it, capsule-<id>.tar.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        broker: BrokerAddress,
    },
}

#[derive(Subcommand)]
pub(crate) enum Keys {
    /// Make keys for roles that have none.
    #[command(
        after_help = "Files are named keys/<role>.pem, keys/<role>-2.pem and so on. `repo init` trusts all that are there; later \
        ones are trusted once `repo add-key` or `keys rotate` put them into signed metadata."
    )]
    Create {
        /// The kind of keys.
        #[arg(long, default_value = "ed25519")]
        kind: Kind,
        /// Only for this role. Repeat for several.
        #[arg(long)]
        role: Vec<SigningRole>,
        /// How many keys each role gets, those that it has included.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
        count: u32,
    },
    /// Show who signs for each role, and which private keys are here.
    List,
    /// Print the public half of a private key, for `repo add-key --public` on another machine.
    Public {
        /// The private key, PEM.
        key: PathBuf,
    },
    /// Put a new key in the place of an old one, and sign anew what the old one signed.
    #[command(
        after_help = "The old key is trusted no longer once the result is published: devices refuse what only it signed. For root, \
        targets, snapshot and timestamp this makes a new root, which both the old and the new root keys sign; where they are not all \
        here, it waits for `repo root-sign`. For releases and deployments it makes new targets metadata. Rotating snapshot or timestamp \
        also frees devices of versions that a thief of the old key may have counted up."
    )]
    Rotate {
        /// The role.
        role: SigningRole,
        /// Which key goes, by how its id begins; needed where the role has several (`keys list`).
        #[arg(long, value_name = "ID")]
        replace: Option<String>,
        #[command(flatten)]
        source: KeySource,
        #[command(flatten)]
        root: RootOptions,
    },
}

/// How a change of root is signed.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct RootOptions {
    /// Let a new root wait for its signatures even where enough keys are here, so that further changes go into the same root.
    #[arg(long)]
    pub(crate) hold: bool,
    #[command(flatten)]
    pub(crate) expiry: Expiry,
}

#[derive(Subcommand)]
pub(crate) enum Repo {
    /// Make an empty repository, signed.
    #[command(
        after_help = "Trusts every key in the fleet's folder for the role in its name. Two people for a release: `keys create --role \
        releases --count 2`, then `repo init --threshold releases=2`."
    )]
    Init {
        /// How many keys of a role must sign, as role=number. Repeat for several roles; one key where nothing is said.
        #[arg(long = "threshold", value_name = "ROLE=NUMBER")]
        thresholds: Vec<Threshold>,
        #[command(flatten)]
        expiry: Expiry,
    },
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
    /// Take a module, a model or a deployment back: once that is signed and published, devices stop it.
    #[command(after_help = "Either a target path, or a kind and a name:
  repo remove module surface-defect          every version of the module
  repo remove model surface-defect/2         one version of the model
  repo remove deployment line-a
  repo remove modules/surface-defect/1.0.0.wasm")]
    Remove {
        /// A target path, or `module`, `model` or `deployment`.
        what: String,
        /// The name, with or without a version.
        name: Option<String>,
    },
    /// Sign what is staged.
    Sign(Expiry),
    /// Let one more key sign for a role: one that is made here, or one that somebody else keeps.
    AddKey {
        /// The role.
        role: SigningRole,
        #[command(flatten)]
        source: KeySource,
        #[command(flatten)]
        root: RootOptions,
    },
    /// Trust a key no longer for a role, and sign anew what it signed.
    RemoveKey {
        /// The role.
        role: SigningRole,
        /// The key, by how its id begins (`keys list`).
        id: String,
        #[command(flatten)]
        root: RootOptions,
    },
    /// Set how many keys of a role must sign.
    SetThreshold {
        /// The role.
        role: SigningRole,
        /// How many.
        keys: NonZeroU32,
        #[command(flatten)]
        root: RootOptions,
    },
    /// Sign a role anew as it is, so that it expires later.
    Renew {
        /// The role.
        role: SigningRole,
        #[command(flatten)]
        root: RootOptions,
    },
    /// Sign a root with keys that are on several machines.
    #[command(subcommand)]
    RootSign(RootSign),
    /// Sign the timestamp anew, and the snapshot before it grows old. For a timer.
    #[command(
        after_help = "Signs nothing that is staged, and needs the snapshot and timestamp keys alone. Warns of roles whose keys are \
        offline and which expire soon.

Exit status: 0 done; 1 failed, nothing was renewed; 3 done, and a role with offline keys expires soon or has expired.

docs/examples has a systemd timer for it."
    )]
    Refresh {
        #[command(flatten)]
        options: RefreshOptions,
        /// Publish it too, with whatever else is signed. Does not read chunks back, see `repo publish --quick`.
        #[arg(long)]
        publish: bool,
        #[command(flatten)]
        broker: BrokerAddress,
    },
    /// Publish what is signed as retained messages.
    #[command(
        after_help = "Sends only what the broker does not hold: all is read back and checked against its digest first, so that a \
        publish that was cut off can be run again and goes on where it was. The timestamp goes last; nothing is switched before."
    )]
    Publish {
        /// Do not read a blob's chunks back where the broker holds the list of them, which was published after them. Misses a
        /// chunk that the broker lost alone.
        #[arg(long)]
        quick: bool,
        #[command(flatten)]
        broker: BrokerAddress,
    },
    /// Remove retained messages that nothing refers to any more from the broker.
    #[command(
        after_help = "Roots and the timestamp always stay, and all that the current state and --keep published states before it \
        refer to. The folder's own files stay too: they say what was ever published."
    )]
    Gc {
        #[command(flatten)]
        options: GcOptions,
        #[command(flatten)]
        broker: BrokerAddress,
    },
}

#[derive(Subcommand)]
pub(crate) enum RootSign {
    /// Write the root that waits into a file that travels to the signers.
    Export {
        /// The file to write.
        file: PathBuf,
    },
    /// Show what is in an exported file: versions, expiry, keys, thresholds, changes, and who has signed. Needs no repository.
    Show {
        /// The exported file.
        file: PathBuf,
    },
    /// Sign an exported file. Needs the file and a root key, no repository and no network.
    #[command(
        after_help = "Compare the summary that it prints, above all the SHA-256 of what is signed, with the other signers. Several \
        sign one after the other in one file, or each a copy; `import` takes them in any order."
    )]
    Sign {
        /// The exported file; the signature is added to it.
        file: PathBuf,
        /// The private key, PEM. Repeat for several.
        #[arg(long, required = true, value_name = "FILE")]
        key: Vec<PathBuf>,
        /// Write to this file instead.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Take signatures in. Installs the root where enough have signed, else keeps them.
    Import {
        /// Files that were signed.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        expiry: Expiry,
    },
    /// Show the root that waits, and which signatures are missing.
    Status,
    /// Sign the root that waits with the keys that are here, and install it where they are enough.
    Complete(Expiry),
    /// Give up the root that waits.
    Cancel,
}

#[derive(Subcommand)]
pub(crate) enum Provision {
    /// Write Mosquitto's configuration with TLS and access list, and the operator's certificate.
    Broker(BrokerOptions),
    /// Write the folder of one device.
    Device(DeviceArguments),
}

#[derive(Args)]
pub(crate) struct DeviceArguments {
    #[command(flatten)]
    pub(crate) options: DeviceOptions,
    #[command(flatten)]
    pub(crate) broker: BrokerAddress,
}
