//! Capsules that were recorded on one architecture and are replayed on another.
//!
//! `expected/<architecture>.capsule` was recorded there, of the guest in `capsule.wat` with a model, PNG and JPEG.

use std::{fs, path::Path, sync::Arc};

use sanderling_guest::{
    frame::{Format, FrameHeader, Kind},
    image::{Filter, ImageOp},
};
use sanderling_protocol::{
    capsule::{Capsule, Manifest, SCHEMA},
    deployment::{Decode, Execution, Limits},
    digest::Digest,
    worker::{Blob, Fault, FaultCode, InputDecode},
};
use sanderling_runtime::{
    Flight, LoadSpec, NamedModel, Region,
    replay::{self, End, ReplaySpec},
};

use crate::{
    expected::{file, is_written, repository},
    guest::Rig,
};

const ARCHITECTURES: [&str; 3] = ["x86_64", "aarch64", "arm"];
const REGION: usize = 256 * 1024;
/// The last one is not reached.
const FRAMES: [&str; 5] = [
    "modules/surface-defect/images/held-out/000-grass.png",
    "runtime/testdata/rgb420.jpg",
    "runtime/testdata/progressive.jpg",
    "runtime/testdata/rgb.png",
    "runtime/testdata/gray.jpg",
];

fn module() -> Vec<u8> {
    let op = ImageOp { filter: Filter::Area, mean: [0.5; 3], scale: [4.0; 3], ..ImageOp::gray(64, 64) };
    let escaped = |op: ImageOp| op.to_bytes().iter().map(|byte| format!("\\{byte:02x}")).collect::<String>();
    let text = include_str!("capsule.wat").replace("THE MODEL'S", &escaped(op));
    wat::parse_str(text.replace("A SMALL ONE", &escaped(ImageOp { width: 12, height: 9, ..op }))).unwrap()
}

fn inputs() -> Vec<InputDecode> {
    vec![InputDecode { sensor: "cam0".into(), decode: Decode::Gray8 }]
}

/// Runs the guest to its fault on this machine; the fault, and the record of it.
fn record(module: &[u8]) -> (Fault, Vec<u8>) {
    let model = fs::read(repository("modules/surface-defect/model/surface-defect.onnx")).unwrap();
    let spec = LoadSpec {
        module,
        models: vec![NamedModel { name: "defect".into(), bytes: Arc::from(model) }],
        inputs: inputs(),
        grants: ["emit:sums", "infer"].map(|grant| grant.parse().unwrap()).to_vec(),
        ..LoadSpec::default()
    };
    let mut rig = Rig::load(spec, Some(Flight::new(Region::owned(REGION))));
    rig.guest.start().unwrap();
    for (seq, path) in (1..).zip(FRAMES) {
        let content = fs::read(repository(path)).unwrap();
        let format = if Path::new(path).extension().is_some_and(|is| is == "png") { Format::Png } else { Format::Jpeg };
        let len = u32::try_from(content.len()).unwrap();
        let header = FrameHeader { seq, kind: Kind::Image, format, ..FrameHeader::new("cam0", len) };
        if let Err(fault) = rig.frame(&header, &content) {
            rig.guest.seal();
            return (fault, rig.guest.flight().unwrap().recorded().to_vec());
        }
    }
    panic!("the guest ends in a fault");
}

fn pack(module: &[u8], fault: Fault, record: &[u8]) -> Vec<u8> {
    let manifest = Manifest {
        schema: SCHEMA.to_owned(),
        device: None,
        at_ms: 1_795_000_000_000,
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        deployment: None,
        name: "sums".into(),
        path: "capsule.wat".into(),
        module: Blob { sha256: Digest::of(module), length: module.len() as u64 },
        models: Vec::new(),
        execution: Execution::Reactor,
        inputs: inputs(),
        config: serde_json::Value::Null,
        grants: Vec::new(),
        limits: Limits::default(),
        fault: Some(fault),
        partial: false,
    };
    manifest.pack(record)
}

fn capsules() -> Vec<(&'static str, Vec<u8>)> {
    if is_written() {
        let module = module();
        let (fault, record) = record(&module);
        fs::write(file(&format!("{}.capsule", std::env::consts::ARCH)), pack(&module, fault, &record)).unwrap();
    }
    let read = |arch| {
        let file = file(&format!("{arch}.capsule"));
        fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    };
    ARCHITECTURES.map(|arch| (arch, read(arch))).to_vec()
}

#[test]
fn a_capsule_of_any_architecture_comes_to_the_same_fault_and_state_here() {
    let module = module();
    for (arch, bytes) in capsules() {
        let Capsule { manifest, record } = Capsule::read(&bytes).unwrap();
        assert_eq!(manifest.arch, arch);
        assert_eq!(manifest.module.sha256, Digest::of(&module), "recorded of another guest; record it again");
        let spec = ReplaySpec {
            module: &module,
            inputs: manifest.inputs,
            limits: manifest.limits,
            execution: manifest.execution,
        };
        let replayed = replay::replay(record, &spec, None).unwrap();
        assert!(replayed.is_same(), "{arch}: {replayed:#?}");
        assert!(replayed.state.is_some() && replayed.state == replayed.recorded_state, "{arch}: {replayed:#?}");
        let End::Fault(fault) = replayed.end else { panic!("{arch}: {:?}", replayed.end) };
        assert_eq!((fault.code, fault.seq, replayed.frames), (FaultCode::Trap, Some(4), 4), "{arch}: {fault}");
        assert!(manifest.fault.is_some_and(|recorded| replay::is_same(&fault, &recorded)), "{arch}: {fault:?}");
    }
}

/// Where nothing but inference differs, the guest takes the same way: fuel, memory and calls are the same.
#[test]
fn the_guest_runs_here_as_it_ran_there() {
    let (fault, _) = record(&module());
    for (arch, bytes) in capsules() {
        let there = Capsule::read(&bytes).unwrap().manifest.fault.unwrap();
        assert!(replay::is_same(&fault, &there), "{arch}: {there:?}, here {fault:?}");
    }
}
