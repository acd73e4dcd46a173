//! `--record`: capsules of a local run, as an agent keeps them.
//!
//! Every fault is written, and with `--record-all` every frame: a run is watched by somebody, and wears out no flash.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use sanderling_protocol::{
    capsule::{Manifest, SCHEMA},
    digest::Digest,
    flight::{Basis, Header},
    worker::{Blob, Fault, InputDecode, Model},
};
use sanderling_runtime::{Flight, Guest, Region};

use super::{Inputs, RunOptions};
use crate::{clock, home};

/// Where capsules of a run go.
pub(super) struct Recording {
    folder: PathBuf,
    all: bool,
    region: usize,
    manifest: Manifest,
    written: u64,
}

impl Recording {
    /// Of a run with `--record`; `None` without.
    pub(super) fn of(options: &RunOptions, inputs: &Inputs) -> Result<Option<Self>> {
        let Some(folder) = &options.record else { return Ok(None) };
        fs::create_dir_all(folder).with_context(|| format!("could not create {}", folder.display()))?;
        let blob = |bytes: &[u8]| Blob { sha256: Digest::of(bytes), length: bytes.len() as u64 };
        let models = inputs.models.iter().map(|model| Model { name: model.name.clone(), blob: blob(&model.bytes) });
        let limits = options.limits();
        let manifest = Manifest {
            schema: SCHEMA.to_owned(),
            device: None,
            at_ms: clock::unix_seconds().saturating_mul(1000),
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            deployment: None,
            name: options.module.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            path: options.module.display().to_string(),
            module: blob(&inputs.module),
            models: models.collect(),
            execution: options.execution,
            inputs: vec![InputDecode { sensor: options.sensor.clone(), decode: options.decode }],
            config: serde_json::from_str(&inputs.config)?,
            grants: options.grants.clone(),
            limits,
            fault: None,
            partial: false,
        };
        let region = usize::try_from(limits.capsule_kib).unwrap_or(usize::MAX).saturating_mul(1024);
        Ok(Some(Self { folder: folder.clone(), all: options.record_all, region, manifest, written: 0 }))
    }

    /// A recorder for a guest.
    pub(super) fn flight(&self) -> Flight {
        Flight::new(Region::owned(self.region))
    }

    /// A frame is about to be given.
    pub(super) fn before(&self, guest: &mut Guest) {
        if self.all {
            guest.record_anew();
        }
    }

    /// What became of the start functions or a frame.
    pub(super) fn after(&mut self, guest: &mut Guest, fault: Option<&Fault>) -> Result<()> {
        if fault.is_none() && !self.all {
            return Ok(());
        }
        guest.seal();
        let Some(flight) = guest.flight() else { return Ok(()) };
        let record = flight.recorded();
        let header = Header::read(record, record.len()).ok().flatten();
        let partial = header.is_none_or(|header| header.basis == Basis::Nothing);
        let mut manifest = Manifest { fault: fault.cloned(), partial, ..self.manifest.clone() };
        self.written += 1;
        let id = manifest.name(self.written);
        let file = self.folder.join(format!("{:06}-{id}.tar", self.written));
        home::write(&file, &manifest.pack(record))
    }
}
