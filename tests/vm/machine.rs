//! The machine: QEMU's `virt` with an emulated processor, whose power can be cut and whose cable can be pulled.
//!
//! Its disk is a copy-on-write layer over the image. QEMU holds the layer's tables in memory until the guest syncs, so that killing it
//! loses what was not synced, as a power cut does.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use sanderling_tests::Process;
use serde_json::json;
use tempfile::TempDir;

use crate::{board::Board, guest::Guest, lines::Lines};

/// How long QEMU may take to listen and to answer.
const ANSWER: Duration = Duration::from_secs(60);
/// MiB.
const MEMORY: u32 = 512;
const PROCESSORS: u32 = 2;

/// The machine, on or off.
pub(crate) struct Machine {
    image: PathBuf,
    folder: TempDir,
    process: Option<Process>,
}

impl Machine {
    /// Makes a machine with a disk of its own above that of the image, and a second, read-only one with these files. It is off.
    pub(crate) fn new(image: &Path, payload: &Path) -> Self {
        let machine = Self { image: image.to_owned(), folder: TempDir::with_prefix("vm-").unwrap(), process: None };
        let disk =
            image.join("disk.ext4").canonicalize().unwrap_or_else(|error| panic!("{}: {error}", image.display()));
        let mut layer = Command::new("qemu-img");
        layer.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(disk).arg(machine.file("disk.qcow2"));
        run(&mut layer);
        let mut format = Command::new("mke2fs");
        run(format.args(["-q", "-t", "ext4", "-d"]).arg(payload).arg(machine.file("payload.ext4")).arg("64M"));
        machine
    }

    /// Turns it on.
    pub(crate) fn start(&mut self) {
        assert!(self.process.is_none(), "the machine is on already");
        for socket in ["guest", "monitor", "test"] {
            // An error means that there is none of an earlier life.
            let _ = std::fs::remove_file(self.file(socket));
        }
        self.process = Some(Process::start("qemu-system-aarch64", &mut self.command()));
    }

    /// Cuts the power.
    pub(crate) fn cut(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Waits until the guest has turned it off.
    pub(crate) fn wait_off(&mut self, limit: Duration) {
        if let Some(mut process) = self.process.take() {
            process.wait(limit);
        }
    }

    /// Pulls the network's cable or puts it in.
    pub(crate) fn plug(&self, plugged: bool) {
        self.monitor("set_link", json!({ "name": "net", "up": plugged }));
    }

    /// What is in it, as soon as that answers.
    pub(crate) fn guest(&self, limit: Duration) -> Guest {
        Guest::connect(&self.file("guest"), limit)
    }

    /// The free lines of its gpiochip.
    pub(crate) fn board(&self) -> Board {
        let devices = self.monitor("qom-list", json!({ "path": "/machine/unattached" }));
        let chip = devices.as_array().into_iter().flatten().find(|device| device["type"] == "child<pl061>");
        let chip = chip.and_then(|chip| chip["name"].as_str()).unwrap_or_else(|| panic!("no PL061 among {devices}"));
        Board::new(Lines::connect(&self.file("test"), ANSWER), &format!("/machine/unattached/{chip}"))
    }

    fn monitor(&self, command: &str, arguments: serde_json::Value) -> serde_json::Value {
        let mut monitor = Lines::connect(&self.file("monitor"), ANSWER);
        let commands =
            [json!({ "execute": "qmp_capabilities" }), json!({ "execute": command, "arguments": arguments })];
        let answers = commands.map(|command| monitor.ask(&command, ANSWER));
        answers.into_iter().next_back().flatten().unwrap_or_else(|| panic!("QEMU does not answer to {command}"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("qemu-system-aarch64");
        command.args(["-machine", "virt", "-cpu", "cortex-a72", "-nodefaults", "-display", "none", "-no-reboot"]);
        command.args(["-smp", &PROCESSORS.to_string(), "-m", &MEMORY.to_string()]);
        command.arg("-kernel").arg(self.image.join("vmlinuz")).arg("-initrd").arg(self.image.join("initrd.img"));
        command.args(["-append", "root=/dev/vda rw console=ttyAMA0 quiet"]);
        command.args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
        let disk = |name: &str, rest: &str| format!("if=none,id={name},file={},{rest}", self.file(name).display());
        command.args(["-drive", &disk("disk.qcow2", "format=qcow2"), "-device", "virtio-blk-pci,drive=disk.qcow2"]);
        command.args(["-drive", &disk("payload.ext4", "format=raw,readonly=on")]);
        command.args(["-device", "virtio-blk-pci,drive=payload.ext4", "-device", "virtio-rng-pci"]);
        command.args(["-netdev", "user,id=wire", "-device", "virtio-net-pci,id=net,netdev=wire,romfile="]);
        let socket = |name: &str| format!("{},server=on,wait=off", self.file(name).display());
        command.args([
            "-chardev",
            &format!("socket,id=guest,path={}", socket("guest")),
            "-device",
            "virtio-serial-pci",
        ]);
        command.args(["-device", "virtserialport,chardev=guest,name=org.qemu.guest_agent.0"]);
        command.args(["-qmp", &format!("unix:{}", socket("monitor"))]);
        command.args(["-qtest", &format!("unix:{}", socket("test")), "-qtest-log", "none"]);
        command
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("could not start {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
