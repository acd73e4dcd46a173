//! A fleet, its broker and the operator who watches.

use sanderling_protocol::digest::Digest;
use serde_json::Value;

use crate::{
    Broker, Device, Fleet, Module, Observer, Process, deployment,
    guests::{TICKS, ticks},
};

/// Everything but devices.
pub struct Site {
    /// The operator at the broker.
    pub observer: Observer,
    /// The broker.
    pub broker: Broker,
    /// Keys, repository and certificates.
    pub fleet: Fleet,
}

impl Site {
    /// Makes a fleet and starts its broker.
    #[allow(clippy::new_without_default, reason = "it starts processes")]
    pub fn new() -> Self {
        Self::reached_at(Broker::HOST)
    }

    /// The same for devices that reach this host by another address.
    pub fn reached_at(host: &str) -> Self {
        let fleet = Fleet::new();
        let broker = Broker::reached_at(host, &fleet);
        let observer = Observer::connect(&fleet, &broker);
        Self { observer, broker, fleet }
    }

    /// Provisions a device.
    pub fn device(&self, id: &str) -> Device {
        Device::provision(&self.fleet, &self.broker, id)
    }
}

/// A deployment `line` of one module `ticks` on the sensor `clock`.
pub fn line(path: &str) -> Value {
    deployment("line", [line_module(path)])
}

/// The module of [`line()`].
pub fn line_module(path: &str) -> Module {
    Module::new("ticks", path).sensor("clock").emits(TICKS)
}

impl Site {
    /// Rolls out [`line()`] with the guest [`crate::guests::ticks`] of this tag; gives the deployment's digest.
    pub fn roll_out_ticks(&self, tag: u8) -> Digest {
        let path = format!("modules/ticks/{}.wasm", char::from(tag));
        self.fleet.add_module(&ticks(tag), &path);
        self.fleet.roll_out(&line(&path), &self.broker)
    }

    /// A device with the sensor `clock`, its agent, and the guest `a` committed on it.
    pub fn ticking(&self, id: &str, rate: f64) -> (Device, Process, Digest) {
        let device = self.device(id);
        device.lay_clock("clock", rate);
        let agent = device.start();
        let digest = self.roll_out_ticks(b'a');
        self.observer.wait_active(&device.id, digest);
        (device, agent, digest)
    }
}
