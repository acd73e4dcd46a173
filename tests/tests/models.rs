//! The inference port against onnxruntime, on well-known networks with weights of a fixed seed.
//!
//! Tolerances: probabilities within 0.0001. What goes into the softmax within a thousandth of its largest value, since the two sum up
//! in different orders, in f32, over up to 50 layers.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{fs, path::Path, process::Command};

use sanderling_runtime::infer::{Inference, TensorType, tract::Tract};
use sanderling_tests::{python, source};

const NETWORKS: [&str; 3] = ["squeezenet", "shufflenet", "inception_v1"];
const PROBABILITY: f32 = 1e-4;
const PART: f32 = 1e-3;

#[test]
fn well_known_networks_compute_what_onnxruntime_computes() {
    let folder = tempfile::tempdir().unwrap();
    let script = source().join("tests/python/onnx_models.py");
    let status = Command::new(python()).arg(script).arg(folder.path()).args(NETWORKS).status().unwrap();
    assert!(status.success(), "{status}");
    for network in NETWORKS {
        compare(folder.path(), network);
    }
}

fn compare(folder: &Path, network: &str) {
    let onnx = fs::read(folder.join(format!("{network}.onnx"))).unwrap();
    let graph = Tract { max_tensor: 256 << 20 }.load(network, &onnx).unwrap();
    let mut context = graph.context().unwrap();
    let image = fs::read(folder.join(format!("{network}.input.f32"))).unwrap();
    context.input(0, TensorType::F32, &[1, 3, 224, 224]).unwrap().copy_from_slice(&image);
    context.compute().unwrap();
    for index in 0..2 {
        let theirs = floats(&fs::read(folder.join(format!("{network}.output-{index}.f32"))).unwrap());
        let ours = context.output(index).unwrap();
        assert_eq!(ours.element, TensorType::F32);
        let ours = floats(ours.bytes);
        assert_eq!(ours.len(), theirs.len(), "{network} {index}");
        let largest = theirs.iter().copied().map(f32::abs).fold(0.0, f32::max);
        let off = ours.iter().zip(&theirs).map(|(ours, theirs)| (ours - theirs).abs()).fold(0.0, f32::max);
        let most = if index == 0 { PROBABILITY } else { PART * largest };
        println!("{network}, output {index}: off by {off:e} at most, of {largest:e}");
        assert!(off <= most, "{network}, output {index}: {off:e} of {largest:e}");
        assert!(theirs.iter().any(|value| *value != theirs[0]), "the outputs differ from each other");
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}
