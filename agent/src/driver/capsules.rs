//! Keeps capsules of faults and of frames that somebody asked for, and gives them out.
//!
//! Purpose: whether a capsule is kept and how it is named is decided where the fault is told, so that the name goes with the fault; reading the
//! record, packing and writing are the disk thread's work.
//!
//! Failure modes: a record for which `[capsules] max_kib` never has room is left out, and no capsule is named; one that could not be written is
//! asked for in vain. The log says why.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
};

use sanderling_protocol::{
    capsule::{CapsuleId, Deployed, Listed, Manifest, PIECE, Piece, SCHEMA},
    command::Answer,
    topics::DeviceId,
    worker::InputDecode,
};

use super::keeper::{Job, Keeper};
use crate::{
    capsules::Pace,
    clock::Clock,
    link::Response,
    store::capsules::{CapsuleFolder, Room},
    sync::Plan,
    workload::{Capsules, ModuleSpec, Record, Recorded},
};

/// Deployments of so many generations are remembered.
const GENERATIONS: usize = 8;

/// A capsule to be written.
#[derive(Debug)]
pub(super) struct Kept {
    id: CapsuleId,
    manifest: Manifest,
    record: Record,
}

/// A question about capsules.
#[derive(Debug)]
pub(super) enum Question {
    /// Which there are.
    List,
    /// A part of one.
    Piece { id: CapsuleId, offset: u64 },
}

/// Decides which capsules are kept.
pub(super) struct Keeping {
    device: DeviceId,
    clock: Arc<dyn Clock>,
    pace: RefCell<Pace>,
    deployed: RefCell<BTreeMap<u64, Deployed>>,
    room: Room,
    keeper: RefCell<Option<Keeper>>,
    kept: Cell<u64>,
}

impl Keeping {
    /// Keeps none where the configuration has no room for any.
    pub(super) fn new(device: DeviceId, clock: Arc<dyn Clock>, keeper: Keeper, room: Room) -> Rc<Self> {
        Rc::new(Self {
            device,
            clock,
            pace: RefCell::default(),
            deployed: RefCell::default(),
            room,
            keeper: RefCell::new(Some(keeper)),
            kept: Cell::new(0),
        })
    }

    /// Whether there could be room for a record of this length.
    fn fits(&self, module: &str, length: usize) -> bool {
        if self.room.most == 0 {
            return false;
        }
        let fits = u64::try_from(length).is_ok_and(|length| length <= self.room.bytes);
        if !fits {
            tracing::warn!(module, length, "a record is too long for a capsule; raise `[capsules] max_kib`");
        }
        fits
    }

    /// Capsules of this generation are of this deployment.
    pub(super) fn know(&self, generation: u64, plan: &Plan) {
        let slot = &plan.slot;
        let mut deployed = self.deployed.borrow_mut();
        deployed.insert(generation, Deployed { name: slot.name.clone(), version: slot.version, digest: slot.digest });
        while deployed.len() > GENERATIONS {
            deployed.pop_first();
        }
    }

    /// Lets the disk thread go.
    pub(super) fn close(&self) {
        self.keeper.take();
    }
}

impl Capsules for Keeping {
    fn keep(&self, generation: u64, spec: &ModuleSpec, recorded: Recorded<'_>) -> Option<CapsuleId> {
        let Recorded { fault, partial, length, record } = recorded;
        // What somebody asks for comes at the pace of commands.
        let admits = |fault| self.pace.borrow_mut().admits(spec.wasm.sha256, fault, self.clock.mono());
        if !self.fits(&spec.module.name, length) || !fault.is_none_or(admits) {
            return None;
        }
        let module = &spec.module;
        let inputs = module.input.iter();
        let decode = |input: &sanderling_protocol::deployment::Input| InputDecode {
            sensor: input.source.to_string(),
            decode: input.decode,
        };
        let mut manifest = Manifest {
            schema: SCHEMA.to_owned(),
            device: Some(self.device.clone()),
            at_ms: self.clock.wall_ms(),
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            deployment: self.deployed.borrow().get(&generation).cloned(),
            name: module.name.clone(),
            path: module.module.clone(),
            module: spec.wasm.clone(),
            models: spec.models.clone(),
            execution: module.execution,
            inputs: inputs.map(decode).collect(),
            config: module.config.clone(),
            grants: module.grants.clone(),
            limits: module.limits,
            fault: fault.cloned(),
            partial,
        };
        self.kept.set(self.kept.get() + 1);
        let id = manifest.name(self.kept.get());
        let kept = Kept { id: id.clone(), manifest, record };
        self.keeper.borrow().as_ref()?.give(Job::Capsule(Box::new(kept)));
        Some(id)
    }
}

impl Kept {
    /// Writes it, in the disk thread.
    pub(super) fn write(&self, folder: &CapsuleFolder) {
        let packed = match &self.record {
            Record::Flight(flight) => flight.record().map(|record| self.manifest.pack(&record)),
            Record::Read(record) => Ok(self.manifest.pack(record)),
        };
        let written = packed.and_then(|packed| folder.keep(&self.id, &packed));
        match written {
            Ok(()) => tracing::info!(id = %self.id, module = self.manifest.name, "a capsule was kept"),
            Err(error) => tracing::warn!(id = %self.id, %error, "a capsule was not kept"),
        }
    }
}

impl Question {
    /// Answers it, in the disk thread.
    pub(super) fn answer(&self, folder: &CapsuleFolder) -> Answer {
        match self {
            Self::List => match folder.list() {
                Ok(listed) => answer::<Vec<Listed>>(&listed),
                Err(error) => refusal(format!("the capsules cannot be listed: {error}")),
            },
            Self::Piece { id, offset } => match folder.read(id, *offset, PIECE) {
                Ok(Some((bytes, total))) => answer(&Piece::of(&bytes, *offset, total)),
                Ok(None) => refusal(format!("there is no capsule {id}; it may have made room for newer ones")),
                Err(error) => refusal(format!("capsule {id} cannot be read: {error}")),
            },
        }
    }
}

/// Who asked, where an answer is wanted.
pub(super) type Asked = Option<Response>;

/// An answer with something in it.
pub(super) fn answer<T: serde::Serialize>(body: &T) -> Answer {
    match serde_json::to_value(body) {
        Ok(body) => Answer { ok: true, error: None, body: Some(body) },
        Err(error) => refusal(error.to_string()),
    }
}

/// An answer that says why not.
pub(super) fn refusal(why: impl Into<String>) -> Answer {
    Answer { ok: false, error: Some(why.into()), body: None }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use sanderling_protocol::{
        deployment::Deployment,
        digest::Digest,
        worker::{Blob, Fault, FaultCode},
    };

    use super::*;
    use crate::{
        clock::FakeClock,
        store::{
            disk::SystemDisk,
            fake::{MemoryBlobs, MemoryStore},
        },
    };

    #[test]
    fn a_record_for_which_there_is_never_room_is_not_named() {
        let folder = tempfile::tempdir().unwrap();
        let room = Room { most: 4, bytes: 1000, reserve: 0 };
        let capsules = CapsuleFolder::new(Arc::new(SystemDisk), folder.path(), room);
        let (keeper, _done) =
            Keeper::start(Box::new(MemoryStore::default()), Box::new(MemoryBlobs::default()), capsules).unwrap();
        let keeping = Keeping::new("gw-1".parse().unwrap(), Arc::new(FakeClock::at(5)), keeper, room);
        let document = format!(
            r#"{{"schema":"{}","name":"d","modules":[{{"name":"m","module":"modules/m/1.wasm","input":[]}}]}}"#,
            sanderling_protocol::deployment::SCHEMA
        );
        let module = Deployment::parse(document.as_bytes()).unwrap().modules.remove(0);
        let wasm = Blob { sha256: Digest::of(b""), length: 0 };
        let spec = ModuleSpec { module, wasm, models: Vec::new(), ring_bytes: 4096 };
        let kept = |length| {
            let fault = Fault::new(FaultCode::Trap, "why");
            let record = Record::Read(Vec::new());
            keeping.keep(1, &spec, Recorded { fault: Some(&fault), partial: false, length, record }).is_some()
        };
        assert!(!kept(1001));
        assert!(kept(1000), "what was left out does not count as kept");
    }
}
