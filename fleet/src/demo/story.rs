//! The demo's chapters, one after the other, on one gateway.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use sanderling_protocol::{
    blob::{cut, encode_chunk},
    digest::Digest,
    reported::{DeploymentReport, DeploymentState, ModuleReport, ModuleState},
    topics::{Published, Topics},
};
use serde_json::json;

use super::{
    DemoOptions, Tell,
    gateway::{DEVICE, Gateway, SENSOR, pss_kib},
    observer::{Heard, Observer},
    score::ScoreCard,
    summary::Summary,
};
use crate::{
    broker::{BrokerConfig, EmbeddedBroker},
    clock::{self, Stopwatch},
    connection::connect,
    home::{self, Home},
    keys,
    provision::{self, Authority, BrokerAddress, Credentials, DeviceOptions, OPERATOR},
    publish::publish,
    repo::{self, Expiry, Message, ModuleOptions, Payload, Phase, RolloutOptions},
};

/// The deployment's name, and its module's.
const DEPLOYMENT: &str = "line-a";
const MODULE: &str = "surface";
/// How long a chapter may take.
const LIMIT: Duration = Duration::from_secs(30);
/// A guest that takes three frames and traps at the fourth.
const CRASHING_GUEST: &str = r#"(module
    (memory (export "memory") 1)
    (global $frames (mut i32) (i32.const 0))
    (func (export "sanderling_abi") (result i32) (i32.const 1))
    (func (export "sanderling_frame") (result i32)
        (global.set $frames (i32.add (global.get $frames) (i32.const 1)))
        (if (i32.gt_u (global.get $frames) (i32.const 3)) (then unreachable))
        (i32.const 0)))"#;

/// Tells the story; every figure in the summary comes from it.
pub(super) async fn tell(options: &DemoOptions, folder: &Path, tell: &Tell) -> Result<Summary> {
    let mut scene = Scene::set(options, folder, tell).await?;
    let told = scene.play(options).await;
    // An agent that died explains more than the wait that it left in vain.
    told.map_err(|error| match scene.gateway.check() {
        Err(ended) => ended,
        Ok(()) => error.context(format!("the agent's log ends:\n{}", scene.gateway.log_end())),
    })
}

struct Scene<'t> {
    tell: &'t Tell,
    home: Home,
    topics: Topics,
    address: BrokerAddress,
    operator: Credentials,
    observer: Observer,
    gateway: Gateway,
    _broker: EmbeddedBroker,
}

impl<'t> Scene<'t> {
    async fn set(options: &DemoOptions, folder: &Path, tell: &'t Tell) -> Result<Self> {
        tell.step("A fleet: keys, a signed repository, certificates, a broker, a gateway");
        let (home, topics) = (Home::new(folder.join("fleet")), Topics::default());
        keys::create(&home, keys::Kind::Ed25519, &[], 1)?;
        repo::init(&home, Expiry::default(), &[], clock::unix_seconds())?;
        let authority = Authority::open(&home)?;
        let operator = provision::operator(&home, &authority)?;
        let issued = authority.server(&["localhost".to_owned()])?;
        let broker = EmbeddedBroker::start(BrokerConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            ca_pem: authority.cert.clone().into_bytes(),
            cert_pem: issued.cert.into_bytes(),
            key_pem: issued.key.into_bytes(),
            topics: topics.clone(),
            operator: OPERATOR.to_owned(),
        })?;
        let address = BrokerAddress { host: "localhost".to_owned(), port: broker.address().port() };
        tell.seen(format_args!("broker on {} with TLS 1.3 and client certificates", broker.address()));
        let installed_at = home.path(format!("devices/{DEVICE}"));
        let device = DeviceOptions {
            id: DEVICE.parse()?,
            labels: vec!["site=demo".to_owned()],
            installed_at: installed_at.canonicalize().unwrap_or(installed_at),
            state: folder.join("state"),
        };
        let installed = provision::device(&home, &authority, &address, &topics, &device)?;
        let mut observer = Observer::new(connect(&address, &operator, "sanderling-demo").await?, &topics).await?;
        let gateway = Gateway::start(options, &installed)?;
        observer.until("the gateway to come online", LIMIT, |seen, _| seen.online.then_some(())).await?;
        tell.seen(format_args!("gateway {DEVICE} is online"));
        Ok(Self { tell, home, topics, address, operator, observer, gateway, _broker: broker })
    }

    async fn play(&mut self, options: &DemoOptions) -> Result<Summary> {
        let mut card = ScoreCard::read(&options.images)?;
        let (publish_to_first_detection_ms, bytes_full) = self.first_version(options, &mut card).await?;
        let quality = card.quality()?;
        let (rate, module) = self.measure().await?;
        let worker = module.pid.context("the report names no worker process")?;
        let (agent_pss_kib, worker_pss_kib) = (pss_kib(self.gateway.pid())?, pss_kib(worker)?);
        self.tell.seen(format_args!("{rate:.0} frames/s; agent {agent_pss_kib} KiB, worker {worker_pss_kib} KiB"));
        let bytes_delta = self.next_version(options).await?;
        let tampered_refused = self.tampered(options).await?;
        let rolled_back = self.crashing().await?;
        Ok(Summary {
            publish_to_first_detection_ms,
            frames_per_s: rate,
            frame_ms_p50: module.frame_us_p50 as f64 / 1000.0,
            frame_ms_p99: module.frame_us_p99 as f64 / 1000.0,
            agent_pss_kib,
            worker_pss_kib,
            bytes_full,
            bytes_delta,
            precision: quality.precision,
            recall: quality.recall,
            auc: quality.auc,
            tampered_refused,
            rolled_back,
        })
    }

    /// A module and its model are signed and published; the gateway verifies, pulls, runs and detects.
    async fn first_version(&mut self, options: &DemoOptions, card: &mut ScoreCard) -> Result<(f64, u64)> {
        self.tell.step("Version 1: a signed module and its model travel to the gateway");
        self.add_module(&options.module, "1.0.0")?;
        repo::add_model(&self.home, &options.model, "models/surface-defect/1.onnx")?;
        self.deploy(&document("1.0.0", 1, true))?;
        let clock = Stopwatch::start();
        self.publish(|_| Ok(())).await?;
        let tell = self.tell;
        let first = self.observer.until("the first detection", LIMIT, |seen, heard| {
            tell.deployment(seen.reported.as_ref());
            let Some(Heard::Detection(detection)) = heard else { return None };
            card.take(detection);
            detection.defect.then(|| clock.elapsed().as_secs_f64() * 1000.0)
        });
        let first = first.await?;
        tell.seen(format_args!("first detection {first:.0} ms after publishing began"));
        self.observer
            .until("a word on every image", LIMIT, |_, heard| {
                if let Some(Heard::Detection(detection)) = heard {
                    card.take(detection);
                    if card.seen().is_multiple_of(30) {
                        tell.seen(card.describe(detection));
                    }
                }
                (card.seen() == card.count()).then_some(())
            })
            .await?;
        let deployment = self.reach(DeploymentState::Active).await?;
        let quality = card.quality()?;
        tell.seen(format_args!(
            "{} images never seen in training: AUC {:.3}, precision {:.3}, recall {:.3}",
            card.count(),
            quality.auc,
            quality.precision,
            quality.recall
        ));
        Ok((first, pulled(&deployment)?))
    }

    /// Frames per second between two reports, and the module's own figures.
    async fn measure(&mut self) -> Result<(f64, ModuleReport)> {
        self.tell.step("How fast, and how small");
        let (start, clock) = (self.fresh_report().await?.frames, Stopwatch::start());
        self.observer
            .until("frames to measure", LIMIT, |_, _| (clock.elapsed() >= Duration::from_secs(2)).then_some(()))
            .await?;
        let module = self.fresh_report().await?;
        Ok((module.frames.saturating_sub(start) as f64 / clock.elapsed().as_secs_f64(), module))
    }

    /// The model's head was trained further: what it shares with version 1 is not pulled again.
    async fn next_version(&mut self, options: &DemoOptions) -> Result<u64> {
        self.tell.step("Version 2: the model was trained further, and only what changed is pulled");
        repo::add_model(&self.home, &options.next_model, "models/surface-defect/2.onnx")?;
        self.deploy(&document("1.0.0", 2, false))?;
        self.publish(|_| Ok(())).await?;
        let deployment = self.reach(DeploymentState::Active).await?;
        let progress = deployment.progress.context("the report says nothing of what was pulled")?;
        self.tell.seen(format_args!("pulled {} bytes for {} of content", progress.pulled, progress.total));
        Ok(progress.pulled)
    }

    /// Somebody with the broker in his hands puts other bytes where the module's are; index and chunks fit each other, the signature does not.
    async fn tampered(&mut self, options: &DemoOptions) -> Result<bool> {
        self.tell.step("A tampered module: the broker hands out other bytes than were signed");
        let mut release = home::read(&options.module)?;
        append_section(&mut release, b"release 1.0.1");
        let mut forged = home::read(&options.module)?;
        append_section(&mut forged, b"forgery 1.0.1");
        self.add_module_bytes(&release, "1.0.1")?;
        self.deploy(&document("1.0.1", 2, false))?;
        let (signed, topics) = (Digest::of(&release), self.topics.clone());
        self.publish(|messages| {
            let (index, chunks) = cut(&forged)?;
            let put = |phase, what: &Published, payload| Message {
                phase,
                topic: topics.published(what),
                payload: Payload::Bytes(payload),
            };
            let index = put(Phase::Index, &Published::Index(signed), index.encode());
            messages.retain(|message| message.topic != index.topic);
            let chunks = chunks
                .into_iter()
                .map(|chunk| put(Phase::Chunk, &Published::Chunk(Digest::of(chunk)), encode_chunk(chunk)));
            messages.extend(chunks.chain([index]));
            Ok(())
        })
        .await?;
        let name = signed.to_string();
        let why = self
            .observer
            .until("the refusal", LIMIT, |seen, _| {
                let refused = &seen.reported.as_ref()?.refused;
                refused
                    .iter()
                    .find(|refused| refused.digest == Some(signed) || refused.what.contains(&name))
                    .map(|refused| refused.why.clone())
            })
            .await?;
        self.tell.seen(format_args!("refused: {why}"));
        self.still_detects().await
    }

    /// A module that traps in probation.
    async fn crashing(&mut self) -> Result<bool> {
        self.tell.step("A module that crashes: tried on probation, rolled back");
        let crashing = wat::parse_str(CRASHING_GUEST).context("the crashing guest does not assemble")?;
        self.add_module_bytes(&crashing, "2.0.0")?;
        self.deploy(&document("2.0.0", 2, false))?;
        self.publish(|_| Ok(())).await?;
        let deployment = self.reach(DeploymentState::RolledBack).await?;
        self.tell.seen(format_args!("rolled back: {}", deployment.why.as_deref().unwrap_or("no cause given")));
        self.still_detects().await
    }

    /// Whether the committed module runs and detects, now.
    async fn still_detects(&mut self) -> Result<bool> {
        let newest = self.fresh_report().await?;
        let running = newest.state == ModuleState::Running;
        self.observer
            .until("a detection after it", LIMIT, |_, heard| match heard {
                Some(Heard::Detection(detection)) if detection.defect => Some(()),
                _ => None,
            })
            .await?;
        self.tell.seen("the module before it detects on");
        Ok(running)
    }

    fn add_module(&self, file: &Path, version: &str) -> Result<()> {
        self.add_module_bytes(&home::read(file)?, version)
    }

    fn add_module_bytes(&self, content: &[u8], version: &str) -> Result<()> {
        let file = self.home.path("module.wasm");
        home::write(&file, content)?;
        let grants = vec!["infer".to_owned(), "emit:*".to_owned()];
        let options = ModuleOptions { grants, ..ModuleOptions::default() };
        repo::add_module(&self.home, &file, &format!("modules/surface-defect/{version}.wasm"), options).map(|_| ())
    }

    fn deploy(&self, document: &serde_json::Value) -> Result<()> {
        repo::deploy(&self.home, &serde_json::to_vec_pretty(document)?, RolloutOptions::default()).map(|_| ())
    }

    /// Signs and publishes, after `alter` had its way with the messages.
    async fn publish(&mut self, alter: impl FnOnce(&mut Vec<Message>) -> Result<()>) -> Result<()> {
        repo::sign(&self.home, Expiry::default(), clock::unix_seconds())?;
        let mut plan = repo::plan(&self.home, &self.topics)?;
        alter(&mut plan.messages)?;
        let connection = connect(&self.address, &self.operator, "sanderling-demo-publish").await?;
        let published = publish(connection, &self.home, &self.topics, &plan, true).await?;
        self.tell.seen(format_args!(
            "signed and published: {} messages, {} bytes; {} were there already",
            published.uploaded, published.bytes, published.skipped
        ));
        Ok(())
    }

    /// Waits until the newest deployment has this state, telling what happens on the way.
    async fn reach(&mut self, state: DeploymentState) -> Result<DeploymentReport> {
        let signed = repo::deployments_version(&self.home)?;
        let tell = self.tell;
        self.observer
            .until(&format!("the deployment to be {state:?}"), LIMIT, |seen, _| {
                tell.deployment(seen.reported.as_ref());
                let deployment = seen.reported.as_ref()?.deployment.as_ref()?;
                (deployment.state == state && deployment.version == signed).then(|| deployment.clone())
            })
            .await
    }

    /// Asks for a report and waits for one that was made after.
    async fn fresh_report(&mut self) -> Result<ModuleReport> {
        self.observer.reported = None;
        self.observer.ask_report(DEVICE).await?;
        self.observer
            .until("a report with the running module", LIMIT, |seen, _| {
                let reported = seen.reported.as_ref()?;
                reported
                    .modules
                    .iter()
                    .find(|module| module.name == MODULE && module.state == ModuleState::Running)
                    .cloned()
            })
            .await
    }
}

fn pulled(deployment: &DeploymentReport) -> Result<u64> {
    Ok(deployment.progress.context("the report says nothing of what was pulled")?.pulled)
}

fn document(module: &str, model: u32, report_all: bool) -> serde_json::Value {
    json!({
        "schema": sanderling_protocol::deployment::SCHEMA,
        "name": DEPLOYMENT,
        "modules": [{
            "name": MODULE,
            "module": format!("modules/surface-defect/{module}.wasm"),
            "models": { "defect": format!("models/surface-defect/{model}.onnx") },
            "input": [{ "sensor": SENSOR, "policy": "latest", "decode": "gray8" }],
            "config": { "threshold": 0.9, "cell_threshold": 0.45, "report_all": report_all },
            "grants": ["infer", "emit:defects"],
            "limits": { "emit_per_s": 10_000 },
            "channels": { "defects": {} },
            "probation": { "frames": 20, "seconds": 1 },
        }],
    })
}

/// Adds a custom section, which changes the file and nothing that it does.
fn append_section(module: &mut Vec<u8>, note: &[u8]) {
    let name = b"note";
    // Both lengths are below 128, so each LEB128 is its own byte.
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap_or(0) & 0x7f;
    module.extend_from_slice(&[0, 1 + length(name) + length(note), length(name)]);
    module.extend_from_slice(name);
    module.extend_from_slice(note);
}
