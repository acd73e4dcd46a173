//! Inference, which need not have the same bits: tract has kernels for each processor, some of which add in another order or without
//! rounding in between.

use std::{fs, sync::Arc};

use sanderling_guest::{image::ImageOp, tensor::TensorType};
use sanderling_protocol::deployment::{Decode, Limits};
use sanderling_runtime::{
    image::Preparer,
    infer::{Context, Inference, tract::Tract},
};

use crate::{
    expected::{Found, read, repository},
    images::decoded,
};

/// No output, all of which lie between 0 and 1, is further than this from that of the machine that the expectations were written on.
const BOUND: f32 = 1e-5;
/// Outputs from here on are told in units of their last place too; below, these say little.
const LARGE: f32 = 1e-3;
/// So many images are looked at.
const MANY: usize = 24;
const IMAGES: &str = "modules/surface-defect/images/held-out";

fn floats(context: &dyn Context, index: usize) -> Vec<f32> {
    let output = context.output(index).unwrap();
    assert_eq!(output.element, TensorType::F32);
    output.bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_ne_bytes(*bytes)).collect()
}

/// Score and map of each image that the model has not seen, as bits.
fn outputs() -> Found {
    let model = fs::read(repository("modules/surface-defect/model/surface-defect.onnx")).unwrap();
    let graph = Tract::new(&Limits::default()).load("defect", &model).unwrap();
    let mut context = Arc::clone(&graph).context().unwrap();
    // As modules/surface-defect asks for it.
    let op = ImageOp { mean: [0.5; 3], scale: [4.0; 3], ..ImageOp::gray(64, 64) };
    let mut preparer = Preparer::new(64 << 20);
    let mut found = Found::new();
    let files = fs::read_dir(repository(IMAGES)).unwrap();
    let files = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<String> = files.filter(|name| name.ends_with(".png")).collect();
    files.sort();
    for name in files.into_iter().take(MANY) {
        let (header, content) = decoded(&format!("{IMAGES}/{name}"), Decode::Gray8);
        let input = context.input(0, TensorType::F32, &[1, 1, 64, 64]).unwrap();
        preparer.prepare(&header, &content, &op, input).unwrap();
        context.compute().unwrap();
        let all = [floats(&*context, 0), floats(&*context, 1)].concat();
        found.insert(name, all.iter().map(|value| format!("{:08x}", value.to_bits())).collect::<Vec<_>>().join(" "));
    }
    found
}

fn numbers(text: &str) -> Vec<f32> {
    text.split(' ').map(|bits| f32::from_bits(u32::from_str_radix(bits, 16).unwrap())).collect()
}

#[test]
fn scores_and_maps_are_the_same_within_a_bound() {
    let found = outputs();
    let wanted = read("inference", &found);
    assert!(found.len() == MANY && found.keys().eq(wanted.keys()), "{:?}", found.keys());
    let (mut most, mut ulps, mut other, mut count) = (0_f32, 0, 0, 0);
    for (is, was) in found.values().zip(wanted.values()) {
        let (is, was) = (numbers(is), numbers(was));
        assert_eq!(is.len(), was.len());
        for (is, was) in is.iter().zip(&was) {
            assert!(is.is_finite() && (0.0..=1.0).contains(is), "{is}");
            most = most.max((is - was).abs());
            if *was >= LARGE {
                ulps = ulps.max(is.to_bits().abs_diff(was.to_bits()));
            }
            count += 1;
            other += u32::from(is.to_bits() != was.to_bits());
        }
    }
    eprintln!(
        "{}: {other} of {count} outputs have other bits, by at most {most:e}, or {ulps} ulp from {LARGE} on",
        std::env::consts::ARCH
    );
    assert!(most <= BOUND, "an output is off by {most}");
}
