//! The agent's own router, rings and supervision around real worker processes, without sensors and network.
//!
//! Limits: one thread, in a [`LocalSet`]: see [`on_one_thread`].

use std::{cell::RefCell, rc::Rc, sync::Arc};

use sanderling_agent::{
    clock::{Clock, SystemClock},
    frames::{Pool, Sizes},
    router::Router,
    workload::{
        ModuleSpec, NoCapsules, Options, Ports, Records, WorkloadEvent, Workloads,
        fake::{FakeBlobs, FakeStates},
        ring_bytes,
    },
};
use sanderling_protocol::{
    deployment::{Deployment, SCHEMA},
    digest::Digest,
    worker::{Blob, Model},
};
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::LocalSet};

/// What workers stand on.
pub struct Stand {
    folder: tempfile::TempDir,
    blobs: Rc<FakeBlobs>,
    ports: Ports,
    /// Who joins sensors and workers.
    pub router: Rc<Router>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Memory for frames.
    pub pool: Pool,
}

impl Stand {
    /// Nothing runs yet. What guests say goes to `records`.
    pub fn new(records: Rc<RefCell<dyn Records>>) -> Self {
        let (blobs, pool) = (Rc::new(FakeBlobs::default()), Pool::new(4 << 20));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let ports = Ports {
            blobs: blobs.clone(),
            records,
            states: Rc::new(RefCell::new(FakeStates::default())),
            clock: clock.clone(),
            pool: pool.clone(),
            capsules: Rc::new(NoCapsules),
        };
        let router = Router::new(pool.clone(), clock.clone());
        Self { folder: tempfile::tempdir().unwrap(), blobs, ports, router, clock, pool }
    }

    /// Modules that are supervised together, and what happens to them.
    pub fn workloads(&self, options: Options) -> (Workloads, mpsc::UnboundedReceiver<WorkloadEvent>) {
        Workloads::new(options, self.ports.clone())
    }

    fn put(&self, content: &[u8]) -> Blob {
        let sha256 = Digest::of(content);
        let path = self.folder.path().join(sha256.to_string());
        std::fs::write(&path, content).unwrap();
        self.blobs.put(&sha256, path);
        Blob { sha256, length: content.len() as u64 }
    }

    /// A module as a deployment has it, with its wasm and its models by name, for frames of at most `largest` bytes.
    pub fn spec(&self, module: Value, wasm: &[u8], models: &[(&str, &[u8])], largest: usize) -> ModuleSpec {
        let document = json!({ "schema": SCHEMA, "name": "bench", "modules": [module] });
        let module = Deployment::parse(document.to_string().as_bytes()).unwrap().modules.remove(0);
        let ring_bytes = ring_bytes(&module, largest, |_| Sizes { frame: largest, sample: largest });
        let model = |(name, content): &(&str, &[u8])| Model { name: (*name).to_owned(), blob: self.put(content) };
        ModuleSpec { module, wasm: self.put(wasm), models: models.iter().map(model).collect(), ring_bytes }
    }
}

/// Runs what has tasks of its own.
pub fn on_one_thread<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, work)
}
