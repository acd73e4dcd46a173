//! Deployment documents.

use serde_json::{Value, json};

/// A deployment of these modules.
pub fn deployment(name: &str, modules: impl IntoIterator<Item = Module>) -> Value {
    let modules: Vec<Value> = modules.into_iter().map(|module| module.0).collect();
    json!({ "schema": "sanderling.deployment/1", "name": name, "modules": modules })
}

/// One module of a deployment.
#[derive(Clone, Debug)]
pub struct Module(Value);

impl Module {
    /// A module that passes probation after one second and three frames.
    pub fn new(name: &str, path: &str) -> Self {
        let limits = json!({ "deadline_ms": 1000, "emit_per_s": 10000 });
        Self(json!({
            "name": name, "module": path, "models": {}, "input": [], "grants": [], "channels": {}, "limits": limits,
            "probation": { "frames": 3, "seconds": 1 },
        }))
    }

    /// Binds a sensor; up to 1024 frames wait.
    pub fn sensor(self, name: &str) -> Self {
        self.decoded(name, "none")
    }

    /// Binds a sensor whose images are decoded to `format`; up to 1024 frames wait.
    pub fn decoded(mut self, name: &str, format: &str) -> Self {
        let input = json!({ "sensor": name, "policy": { "queue": 1024 }, "decode": format });
        if let Some(inputs) = self.0["input"].as_array_mut() {
            inputs.push(input);
        }
        self
    }

    /// Binds a model.
    pub fn model(mut self, name: &str, path: &str) -> Self {
        self.0["models"][name] = path.into();
        self.grant("infer")
    }

    /// What the guest reads.
    pub fn config(mut self, config: Value) -> Self {
        self.0["config"] = config;
        self
    }

    /// Lets it emit on a channel, of which all records are kept.
    pub fn emits(mut self, channel: &str) -> Self {
        self.0["channels"][channel] = json!({ "max_bytes": 16 << 20 });
        self.grant(&format!("emit:{channel}"))
    }

    /// Lets it keep so many bytes of state.
    pub fn keeps(self, bytes: u64) -> Self {
        self.grant(&format!("state:{bytes}"))
    }

    /// Lets it have parts of images encoded.
    pub fn shows(self) -> Self {
        self.grant("evidence")
    }

    /// Sets a field by its path, such as `/limits/memory_mib` or `/restart`.
    pub fn set(mut self, path: &str, value: Value) -> Self {
        let mut field = &mut self.0;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            field = &mut field[name];
        }
        *field = value;
        self
    }

    /// Gives it a grant.
    pub fn grant(mut self, grant: &str) -> Self {
        if let Some(grants) = self.0["grants"].as_array_mut() {
            grants.push(grant.into());
        }
        self
    }
}

/// The surface-defect guest on the images of a sensor, with the thresholds of its model card.
pub fn defects(sensor: &str, module: &str, model: &str) -> Module {
    Module::new("scratch", module)
        .model("defect", model)
        .decoded(sensor, "gray8")
        .config(json!({ "threshold": 0.9, "cell_threshold": 0.45 }))
        .emits("defects")
}
