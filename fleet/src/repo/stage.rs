//! Staging modules, models and deployments. What a device would refuse is refused here already.

use std::{collections::BTreeMap, num::NonZeroU32, path::Path};

use anyhow::{Context, Result, bail};
use sanderling_protocol::{
    deployment::{Deployment, Grant, is_name},
    digest::Digest,
    release::{Audience, Ceiling, ModelFormat, ModelRelease, ModuleRelease, Release, Rollout},
};

use super::{Staged, State, blob_file};
use crate::home::{self, Home};

/// The ceiling of a module.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct ModuleOptions {
    /// What a deployment may grant: `infer`, `emit:<channel>` or `emit:*`, `state:<bytes>` at most, `evidence`. Repeat for several.
    #[arg(long = "grant")]
    pub(crate) grants: Vec<String>,
    /// The most linear memory that a deployment may give, in MiB.
    #[arg(long, default_value_t = Self::default().memory_mib)]
    pub(crate) memory_mib: NonZeroU32,
    /// The longest deadline for a frame that a deployment may give, in milliseconds.
    #[arg(long, default_value_t = Self::default().deadline_ms)]
    pub(crate) deadline_ms: NonZeroU32,
}

impl Default for ModuleOptions {
    fn default() -> Self {
        let number = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Self { grants: Vec::new(), memory_mib: number(32), deadline_ms: number(1000) }
    }
}

/// Which devices run a deployment.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct RolloutOptions {
    /// Devices by id, with `*` and `?`. Repeat for several; none means all.
    #[arg(long = "device")]
    pub(crate) devices: Vec<String>,
    /// Devices by label, as `key=value`. Repeat for several, which must all fit.
    #[arg(long = "label", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// How many of the devices in a hundred. Raising it keeps those that are in already.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) percent: u8,
    /// Decides which devices come first; by default the deployment's name.
    #[arg(long)]
    pub(crate) salt: Option<String>,
    /// The highest wins where several deployments fit a device.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) priority: i32,
}

impl Default for RolloutOptions {
    fn default() -> Self {
        Self { devices: Vec::new(), labels: Vec::new(), percent: 100, salt: None, priority: 0 }
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label is written key=value")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Stages a module under a target path such as `modules/surface-defect/1.2.0.wasm`.
pub(crate) fn add_module(home: &Home, file: &Path, path: &str, options: ModuleOptions) -> Result<Digest> {
    check_path(path, "modules/", ".wasm")?;
    for grant in options.grants.iter().filter(|grant| *grant != "emit:*") {
        grant.parse::<Grant>().map_err(anyhow::Error::msg)?;
    }
    let content = home::read(file)?;
    if !content.starts_with(b"\0asm") {
        bail!("{} is not a WebAssembly file: it does not begin with \\0asm", file.display());
    }
    let ceiling = Ceiling {
        grants: options.grants,
        memory_mib: options.memory_mib.get(),
        deadline_ms: options.deadline_ms.get(),
    };
    let release = Release::Module(ModuleRelease { abi: sanderling_protocol::release::ABI, ceiling });
    let (_lock, mut state) = State::open(home)?;
    let staged = stage(home, &content, &release)?;
    let digest = staged.sha256;
    state.releases.insert(path.to_owned(), staged);
    state.save(home).map(|()| digest)
}

/// Stages a model under a target path such as `models/surface-defect/7.onnx`.
pub(crate) fn add_model(home: &Home, file: &Path, path: &str) -> Result<Digest> {
    check_path(path, "models/", ".onnx")?;
    let content = home::read(file)?;
    let (_lock, mut state) = State::open(home)?;
    let staged = stage(home, &content, &Release::Model(ModelRelease { format: ModelFormat::Onnx }))?;
    let digest = staged.sha256;
    state.releases.insert(path.to_owned(), staged);
    state.save(home).map(|()| digest)
}

/// Stages a deployment: a checked document, and which devices run it. Returns its target path.
pub(crate) fn deploy(home: &Home, document: &[u8], options: RolloutOptions) -> Result<String> {
    let deployment = Deployment::parse(document)?;
    let (_lock, mut state) = State::open(home)?;
    check_against_releases(&deployment, &state)?;
    let rollout = Rollout {
        audience: Audience { devices: options.devices, labels: options.labels.into_iter().collect::<BTreeMap<_, _>>() },
        percent: options.percent,
        salt: options.salt.unwrap_or_else(|| deployment.name.clone()),
        priority: options.priority,
    };
    let path = format!("deployments/{}.json", deployment.name);
    let staged = stage(home, document, &Release::Deployment(rollout))?;
    state.deployments.insert(path.clone(), staged);
    state.save(home).map(|()| path)
}

fn check_against_releases(deployment: &Deployment, state: &State) -> Result<()> {
    let release = |path: &str| -> Result<Release> {
        let staged = state.releases.get(path).with_context(|| {
            format!("the deployment names {path}, which is not in the repository: add it with `sanderling repo add-module` or `add-model`")
        })?;
        Ok(Release::parse(&staged.custom)?)
    };
    for module in &deployment.modules {
        match release(&module.module)? {
            Release::Module(released) => module.check_ceiling(&released.ceiling)?,
            _ => bail!("module {}: {} is not a module", module.name, module.module),
        }
        for path in module.models.values() {
            if !matches!(release(path)?, Release::Model(_)) {
                bail!("module {}: {path} is not a model", module.name);
            }
        }
    }
    Ok(())
}

fn stage(home: &Home, content: &[u8], release: &Release) -> Result<Staged> {
    let sha256 = Digest::of(content);
    home::write(&home.path(blob_file(&sha256)), content)?;
    Ok(Staged { sha256, length: content.len() as u64, custom: release.to_custom()? })
}

fn check_path(path: &str, prefix: &str, suffix: &str) -> Result<()> {
    let levels = path.strip_prefix(prefix).map(|rest| rest.split('/').collect::<Vec<_>>()).unwrap_or_default();
    if !path.ends_with(suffix) || !(1..=2).contains(&levels.len()) || !levels.iter().all(|level| is_name(level)) {
        bail!("{path:?} is not a target path here: write {prefix}<name>/<version>{suffix}, of A-Z a-z 0-9 . _ -");
    }
    Ok(())
}
