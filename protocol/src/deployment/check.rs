//! Parsing a deployment, and holding it to its limits and to the ceiling of its release.

use std::collections::BTreeSet;

use super::{
    Deployment, DeploymentError, Grant, Input, MAX_BINDINGS, MAX_DOCUMENT, MAX_MODULES, MAX_SINKS, MAX_SOURCE, Module,
    Policy, SCHEMA, Sample, Source, is_name,
};
use crate::release::Ceiling;

impl Deployment {
    /// Parses and checks a document.
    ///
    /// # Errors
    /// The first thing found wrong, as a [`DeploymentError`] that names module, field and what is allowed.
    pub fn parse(bytes: &[u8]) -> Result<Self, DeploymentError> {
        if bytes.len() > MAX_DOCUMENT {
            return Err(DeploymentError::TooLong { length: bytes.len() });
        }
        let deployment: Self =
            serde_json::from_slice(bytes).map_err(|error| DeploymentError::Form(error.to_string()))?;
        deployment.check()?;
        Ok(deployment)
    }

    /// The target paths that the deployment refers to, modules and models, each once, sorted.
    pub fn artifacts(&self) -> Vec<&str> {
        let mut paths: Vec<&str> = self
            .modules
            .iter()
            .flat_map(|module| std::iter::once(&module.module).chain(module.models.values()))
            .map(String::as_str)
            .collect();
        paths.sort_unstable();
        paths.dedup();
        paths
    }

    fn check(&self) -> Result<(), DeploymentError> {
        if self.schema != SCHEMA {
            return Err(DeploymentError::Schema { found: self.schema.clone() });
        }
        name("the deployment's name", &self.name)?;
        at_most("modules", self.modules.len(), MAX_MODULES)?;
        once("module", self.modules.iter().map(|module| &module.name))?;
        self.modules.iter().try_for_each(Module::check)?;
        self.check_graph()
    }
}

impl Module {
    /// Whether the guest may use inference.
    pub fn may_infer(&self) -> bool {
        self.grants.contains(&Grant::Infer)
    }

    /// How many bytes of keys and values the guest may keep; `None` where it may keep none.
    pub fn state_quota(&self) -> Option<u64> {
        self.grants.iter().find_map(|grant| if let Grant::State(bytes) = grant { Some(*bytes) } else { None })
    }

    /// Holds the module to the ceiling of the release that it runs.
    ///
    /// # Errors
    /// The first grant or limit that the release does not allow, as [`DeploymentError::GrantAboveCeiling`],
    /// [`DeploymentError::MemoryAboveCeiling`] or [`DeploymentError::DeadlineAboveCeiling`].
    pub fn check_ceiling(&self, ceiling: &Ceiling) -> Result<(), DeploymentError> {
        let module = || self.name.clone();
        if let Some(grant) = self.grants.iter().find(|grant| !ceiling.allows(grant)) {
            let allowed = if ceiling.grants.is_empty() { "none".to_owned() } else { ceiling.grants.join(", ") };
            return Err(DeploymentError::GrantAboveCeiling { module: module(), grant: grant.to_string(), allowed });
        }
        let (asked, allowed) = (self.limits.memory_mib, ceiling.memory_mib);
        if asked > allowed {
            return Err(DeploymentError::MemoryAboveCeiling { module: module(), asked, allowed });
        }
        let (asked, allowed) = (self.limits.deadline_ms, ceiling.deadline_ms);
        if asked > allowed {
            return Err(DeploymentError::DeadlineAboveCeiling { module: module(), asked, allowed });
        }
        Ok(())
    }

    fn check(&self) -> Result<(), DeploymentError> {
        name("module", &self.name)?;
        at_most("input", self.input.len(), MAX_BINDINGS)?;
        at_most("models", self.models.len(), MAX_BINDINGS)?;
        at_most("channels", self.channels.len(), MAX_BINDINGS)?;
        at_most("grants", self.grants.len(), 2 * MAX_BINDINGS)?;
        let quotas = self.grants.iter().filter(|grant| matches!(grant, Grant::State(_)));
        once("grant", quotas.map(|_| "state"))?;
        let sources: Vec<_> = self.input.iter().map(|input| input.source.name()).collect();
        once("input", sources.iter().map(|source| &**source))?;
        self.input.iter().try_for_each(|input| self.check_input(input))?;
        self.models.keys().try_for_each(|model| name("model", model))?;
        self.check_channels()?;
        self.check_ranges()
    }

    fn check_input(&self, input: &Input) -> Result<(), DeploymentError> {
        let (module, channel) = match &input.source {
            Source::Sensor(sensor) => return name("sensor", sensor),
            Source::Channel { module, channel } => (module, channel),
        };
        name("module", module)?;
        name("channel", channel)?;
        let (module, source) = (self.name.clone(), input.source.to_string());
        if source.len() > MAX_SOURCE {
            return Err(DeploymentError::LongSource { module, length: source.len(), input: source });
        }
        if matches!(input.policy, Policy::Window(_)) {
            return Err(DeploymentError::WindowOfRecords { module, input: source });
        }
        Ok(())
    }

    fn check_channels(&self) -> Result<(), DeploymentError> {
        let wrong = |channel: &str, problem| {
            Err(DeploymentError::Channel { module: self.name.clone(), channel: channel.to_owned(), problem })
        };
        for (channel, policy) in &self.channels {
            name("channel", channel)?;
            at_most("sink", policy.sink.names().count(), MAX_SINKS)?;
            once("sink", policy.sink.names())?;
            policy.sink.names().try_for_each(|sink| name("sink", sink))?;
            if !self.grants.contains(&Grant::Emit(channel.clone())) {
                return wrong(channel, "is described, but its grant `emit:…` is missing");
            }
        }
        for grant in &self.grants {
            if let Grant::Emit(channel) = grant {
                name("channel", channel)?;
                if !self.channels.contains_key(channel) {
                    return wrong(channel, "is granted, but `channels` does not say where its records go");
                }
            }
        }
        Ok(())
    }

    fn check_ranges(&self) -> Result<(), DeploymentError> {
        let limits = &self.limits;
        for input in &self.input {
            if let Policy::Sample(Sample::PerSecond(value)) = input.policy
                && !(0.0001..=100_000.0).contains(&value)
            {
                return Err(DeploymentError::Rate { module: self.name.clone(), value: value.to_string() });
            }
        }
        let policies = self.input.iter().flat_map(|input| match input.policy {
            Policy::Latest | Policy::Sample(Sample::PerSecond(_)) => vec![],
            Policy::Queue(frames) => vec![("queue", u64::from(frames), 1, 4096)],
            Policy::Sample(Sample::Every(frames)) => vec![("sample.every", u64::from(frames), 1, 1_000_000)],
            Policy::Window(window) => vec![
                ("window.samples", u64::from(window.samples), 1, 1 << 20),
                ("window.hop", u64::from(window.hop()), 1, 1 << 24),
                ("window.queue", u64::from(window.queue), 1, 4096),
            ],
        });
        let ranges = [
            ("memory_mib", u64::from(limits.memory_mib), 1, 1024),
            ("deadline_ms", u64::from(limits.deadline_ms), 1, 600_000),
            ("fuel_per_frame", limits.fuel_per_frame, 1_000, 1 << 50),
            ("emit_per_s", u64::from(limits.emit_per_s), 0, 1_000_000),
            ("native_memory_mib", u64::from(limits.native_memory_mib), 8, 4096),
            // The recorder's region is at most 64 MiB.
            ("capsule_kib", u64::from(limits.capsule_kib), 0, 65_536),
            ("restart.max", u64::from(self.restart.max), 0, 1000),
            ("restart.within_s", u64::from(self.restart.within_s), 1, 86_400),
            ("probation.frames", u64::from(self.probation.frames), 0, 1_000_000),
            ("probation.seconds", u64::from(self.probation.seconds), 0, 86_400),
        ];
        let channels = self.channels.values().flat_map(|channel| {
            [("max_bytes", channel.max_bytes, 1024, 1 << 30), ("max_age_s", channel.max_age_s, 1, 31_536_000)]
        });
        for (field, value, min, max) in ranges.into_iter().chain(policies).chain(channels) {
            if !(min..=max).contains(&value) {
                return Err(DeploymentError::Range { module: self.name.clone(), field, value, min, max });
            }
        }
        Ok(())
    }
}

fn name(what: &'static str, text: &str) -> Result<(), DeploymentError> {
    if is_name(text) { Ok(()) } else { Err(DeploymentError::Name { what, name: text.chars().take(80).collect() }) }
}

fn at_most(what: &'static str, count: usize, max: usize) -> Result<(), DeploymentError> {
    if count <= max { Ok(()) } else { Err(DeploymentError::TooMany { what, count, max }) }
}

fn once<'a, N: AsRef<str> + Ord + ?Sized + 'a>(
    what: &'static str,
    names: impl Iterator<Item = &'a N>,
) -> Result<(), DeploymentError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(DeploymentError::Twice { what, name: name.as_ref().to_owned() });
        }
    }
    Ok(())
}
