//! The virtual gateway and its fleet: what is deployed to it, and what is seen of it from outside.

use std::time::Duration;

use sanderling_protocol::{
    digest::Digest,
    reported::{DeploymentState, ModuleState, Reported, Status},
    topics::DeviceId,
};
use sanderling_tests::{
    Module, Seen, Site, defects, deployment,
    guests::{echoes, padded},
};
use serde_json::{Value, json};

use crate::machine::Machine;

/// The host, as a guest of QEMU's user network reaches it.
const HOST: &str = "10.0.2.2";
/// How long what happens inside may take: its processor is emulated.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
/// The line of the sensor `gate`.
pub(crate) const GATE: u32 = 1;
/// The line of the sink `lamp`.
pub(crate) const LAMP: u32 = 2;
/// What each version has that none before had, in bytes.
const NEW: u32 = 1_500_000;

/// Besides what `sanderling provision device` writes.
const CONFIGURATION: &str = r#"[sensor.camera]
kind = "v4l2"
width = 320
height = 180
fps = 5.0
pixel = ["yuyv"]

[sensor.gate]
kind = "gpio"
chip = "gpiochip0"
lines = [1]

[sink.lamp]
kind = "gpio"
chip = "/dev/gpiochip0"
line = 2
pulse_ms = 20
when = { pointer = "/defect", is = true }

[report]
min_s = 0.1
max_s = 3
"#;

/// The gateway, on or off.
pub(crate) struct Gateway {
    /// Fleet, broker and operator, on the host.
    pub(crate) site: Site,
    /// Its id.
    pub(crate) device: DeviceId,
    /// The machine.
    pub(crate) machine: Machine,
}

/// A version of what is deployed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// The deployment.
    pub(crate) deployment: Digest,
    /// The module `scratch` of it.
    pub(crate) artifact: Digest,
}

impl Gateway {
    /// Makes a fleet with its broker, and a machine that is off, with the package and the device's folder on its second disk.
    pub(crate) fn new(image: &std::path::Path, deb: &std::path::Path) -> Self {
        let site = Site::reached_at(HOST);
        let device = "gw-vm";
        let port = site.broker.port().to_string();
        site.fleet.run(["provision", "device", device, "--host", HOST, "--port", &port]);
        let payload = site.fleet.path("devices");
        let fragments = payload.join(device).join("agent.toml.d");
        std::fs::create_dir_all(&fragments).unwrap();
        std::fs::write(fragments.join("devices.toml"), CONFIGURATION).unwrap();
        std::fs::copy(deb, payload.join("sanderling-agent.deb"))
            .unwrap_or_else(|error| panic!("{}: {error}", deb.display()));
        let machine = Machine::new(image, &payload);
        Self { site, device: device.parse().unwrap(), machine }
    }

    /// Rolls out a version whose module has content that none before had.
    pub(crate) fn roll_out(&self, number: u8) -> Version {
        let fleet = &self.site.fleet;
        let scratch = padded(std::fs::read(sanderling_tests::guest("surface-defect")).unwrap(), NEW, number);
        let paths = [format!("modules/scratch/{number}.wasm"), "modules/edges.wasm".to_owned()];
        fleet.add_module(&scratch, &paths[0]);
        if number == 1 {
            fleet.add_module(&echoes("edges"), &paths[1]);
            let model = sanderling_tests::source().join("modules/surface-defect/model/surface-defect.onnx");
            fleet.add_model(&std::fs::read(model).unwrap(), "models/defect.onnx");
        }
        let scratched = defects("camera", &paths[0], "models/defect.onnx")
            .set("/input", json!([{ "sensor": "camera", "policy": "latest", "decode": "gray8" }]))
            // The colour bars of the made-up camera score 0.79, since the model was not trained on such.
            .set("/config", json!({ "threshold": 0.5, "cell_threshold": 0.45 }))
            .set("/channels/defects/sink", json!(["mqtt", "lamp"]))
            // Inference counts as fuel by its time, which is long on an emulated processor.
            .set("/limits/fuel_per_frame", json!(20_000_000_000_u64))
            .set("/limits/deadline_ms", json!(20_000));
        let edges = Module::new("edges", &paths[1]).sensor("gate").emits("edges").set("/probation/frames", json!(0));
        let document = deployment("line", [scratched, edges]);
        Version { deployment: fleet.roll_out(&document, &self.site.broker), artifact: Digest::of(&scratch) }
    }

    /// Waits until this version is committed and runs.
    pub(crate) fn wait_active(&self, version: Version) -> Reported {
        self.site.observer.wait_for("the version committed and running", PATIENCE, |seen| {
            self.hold_well(seen);
            seen.reported(&self.device).filter(|report| {
                let deployed = report.deployment.as_ref();
                deployed.is_some_and(|it| it.digest == version.deployment && it.state == DeploymentState::Active)
                    && running(report) == Some(version.artifact)
            })
        })
    }

    /// Waits until the agent of another start than this one is online; gives its status, and what its last report says.
    pub(crate) fn wait_online(&self, before: Option<&Status>) -> Status {
        self.site.observer.wait_for("the gateway online", PATIENCE, |seen| {
            let status = seen.status(&self.device).filter(|status| status.online)?;
            (before.is_none_or(|before| before.session != status.session)).then_some(status)
        })
    }

    /// Waits until the broker has noticed that it is gone.
    pub(crate) fn wait_offline(&self) {
        self.site.observer.wait_for("the gateway offline", PATIENCE, |seen| {
            seen.status(&self.device).filter(|status| !status.online)
        });
    }

    /// Waits for so many records of a module after a mark, and gives them all.
    pub(crate) fn wait_records(&self, module: &str, channel: &str, mark: usize, count: usize) -> Vec<Value> {
        self.site.observer.wait_for(&format!("{count} records of {module}"), PATIENCE, |seen| {
            self.hold_well(seen);
            let records = seen.after(mark).records(&self.device, module, channel);
            (records.len() >= count).then_some(records)
        })
    }

    /// What is wrong for good is not waited for.
    fn hold_well(&self, seen: Seen<'_>) {
        let Some(report) = seen.reported(&self.device) else { return };
        assert!(report.refused.is_empty(), "refused: {:?}", report.refused);
        for module in &report.modules {
            assert!(module.fault.is_none(), "{}: {:?}", module.name, module.fault);
        }
    }
}

/// The content of the module `scratch` that runs.
pub(crate) fn running(report: &Reported) -> Option<Digest> {
    let module = report.modules.iter().find(|module| module.name == "scratch")?;
    (module.state == ModuleState::Running).then_some(module.artifact)
}
