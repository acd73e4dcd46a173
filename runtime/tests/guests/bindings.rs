//! Holds the bindings of every language to the host: the conformance guest of each (guest-abi/conformance) imports what the runtime links, with
//! those signatures, and says what its binding makes of known values.

use std::{collections::BTreeSet, fmt::Write as _};

use sanderling_guest::{
    errno,
    frame::{Format, FrameHeader, Kind},
    image::{Color, Element, Filter, ImageOp, Layout},
    state,
    tensor::TensorType,
};
use sanderling_runtime::{NamedModel, Said, host::known_imports};
use serde_json::json;

use crate::support::{Rig, wasm};

/// Modules of functions that are Sanderling's contract; what a language's own library imports besides is its own matter.
const CONTRACT: [&str; 2] = ["sanderling_v1", "wasi_ephemeral_nn"];
const CONTENT: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/";
const CONV: &[u8] = include_bytes!("../../testdata/conv.onnx");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn words(name: &str, numbers: impl IntoIterator<Item = i32>) -> String {
    numbers.into_iter().fold(name.to_owned(), |line, number| format!("{line} {number}"))
}

fn header() -> FrameHeader {
    FrameHeader {
        seq: 1 << 40,
        captured_unix_ns: -2,
        captured_mono_ns: 3 << 40,
        kind: Kind::Image,
        format: Format::Gray8,
        width: 8,
        height: 8,
        stride: 8,
        channels: 9,
        rate_mhz: 10,
        dropped: 11,
        ..FrameHeader::new("a-sensor-of-thirty-two-letters-x", 64)
    }
}

/// What the constants are, line by line.
fn numbers() -> Vec<String> {
    use sanderling_guest::sdk::Level;
    let errnos = [errno::ENOENT, errno::E2BIG, errno::EAGAIN, errno::EACCES, errno::EFAULT, errno::EINVAL];
    let kinds = [Kind::Bytes, Kind::Json, Kind::Image, Kind::Series];
    let formats = [Format::None, Format::Gray8, Format::Rgb8, Format::Bgr8, Format::Yuyv, Format::Nv12, Format::Gray16];
    let others = [Format::Jpeg, Format::Png, Format::F32, Format::I16, Format::I32];
    let levels = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];
    let elements = [Element::F32, Element::F16, Element::U8, Element::I8];
    let filters = [Filter::Nearest, Filter::Bilinear, Filter::Area];
    let floats = [TensorType::F16, TensorType::F32, TensorType::F64];
    let integers = [TensorType::U8, TensorType::I32, TensorType::I64];
    vec![
        words("abi", [sanderling_guest::ABI]),
        words("errno", errnos.into_iter().chain([errno::ENOSPC, errno::ENODATA])),
        words("kind", kinds.map(|kind| kind as i32)),
        words("format", formats.into_iter().chain(others).map(|format| format as i32)),
        words("level", levels.map(|level| level as i32)),
        words("color", [Color::Gray, Color::Rgb, Color::Bgr].map(|color| color as i32)),
        words("layout", [Layout::Nchw, Layout::Nhwc].map(|layout| layout as i32)),
        words("element", elements.map(|element| element as i32)),
        words("filter", filters.map(|filter| filter as i32)),
        words("tensor", floats.into_iter().chain(integers).map(|element| element as i32)),
    ]
}

/// What the guest makes of frame, clock, operation and model, line by line.
fn layouts() -> Vec<String> {
    let op = ImageOp {
        crop: [1, 2, 3, 4],
        width: 5,
        height: 6,
        color: Color::Bgr,
        layout: Layout::Nhwc,
        element: Element::F16,
        filter: Filter::Area,
        mean: [0.5, 0.25, 0.125],
        scale: [2.0, 4.0, 8.0],
    };
    let FrameHeader { seq, captured_unix_ns, captured_mono_ns, len, width, height, stride, channels, .. } = header();
    let FrameHeader { rate_mhz, dropped, .. } = header();
    let (kind, format) = (header().kind as u16, header().format as u16);
    vec![
        format!(
            "frame {seq} {captured_unix_ns} {captured_mono_ns} {len} {kind} {format} {width} {height} {stride} {channels} \
             {rate_mhz} {dropped} {}",
            header().sensor()
        ),
        format!("content {}", String::from_utf8_lossy(CONTENT)),
        "time 6000000 6000000".to_owned(),
        words("state none value none", [state::MAX_KEY, state::MAX_VALUE, state::MAX_KEYS].map(|most| most as i32)),
        "metrics 0 0".to_owned(),
        "a JPEG image".to_owned(),
        "evidence 80".to_owned(),
        format!("op {}", hex(&op.to_bytes())),
        "image 0 0".to_owned(),
        "model 0 0 0 0 0 0 8".to_owned(),
        "info 1 2 1 2".to_owned(),
    ]
}

/// Runs a conformance guest; the lines that it said, but for the model's output, which is near to what is known of it.
fn said(language: &str) -> Vec<String> {
    let model = NamedModel { name: "conv".into(), bytes: CONV.into() };
    let (mut rig, started) = Rig::with(&format!("conformance-{language}"), "said", &json!({ "a": 1 }), |spec| {
        spec.grants.extend(["infer", "evidence", "state:1000"].map(|grant| grant.parse().unwrap()));
        spec.models.push(model);
    });
    started.unwrap_or_else(|fault| panic!("{language}: {fault:?}"));
    rig.clock.advance(5_000_000);
    let outcome = rig.guest.frame(&header(), sanderling_runtime::FrameBytes::Static(CONTENT));
    assert!(outcome.is_ok(), "{language}: {outcome:?}");
    let mut lines = Vec::new();
    for said in rig.said.take() {
        match said {
            Said::Emit { payload, .. } if payload.starts_with(&[0xff, 0xd8]) => lines.push("a JPEG image".to_owned()),
            Said::Emit { payload, .. } => lines.push(String::from_utf8(payload).unwrap()),
            Said::Log { level, text } => lines.push(format!("log {level} {text}")),
            Said::Denied(function) => assert_eq!(function, "load", "{language}"),
        }
    }
    lines
}

/// The guest's imports from a module, by name.
fn imported(wasm: &[u8], from: &str) -> BTreeSet<String> {
    let module = wasmi::Module::new(&wasmi::Engine::default(), wasm).unwrap();
    module.imports().filter(|import| import.module() == from).map(|import| import.name().to_owned()).collect()
}

/// That the guest loads says that its imports have the host's signatures.
fn holds(language: &str, says_numbers: bool) {
    let wasm = wasm(&format!("conformance-{language}"));
    for module in CONTRACT {
        let linked: BTreeSet<String> = known_imports(module).into_iter().map(str::to_owned).collect();
        assert_eq!(imported(&wasm, module), linked, "{language}: what the guest imports, and what the host has");
    }
    let mut lines = said(language);
    let output = lines.iter().position(|line| line.starts_with("output ")).map(|index| lines.remove(index));
    let output = output.unwrap_or_else(|| panic!("{language} says no output: {lines:?}"));
    let bits = u32::from_str_radix(&output[7..15], 16).unwrap().swap_bytes();
    assert!((f32::from_bits(bits) - 0.1).abs() < 1e-6, "{language}: the bias of the first channel, {output}");
    assert_eq!(&output[15..], "00000000", "{language}: the second channel is below zero");
    let mut wanted = vec!["config {\"a\":1}".to_owned(), "log 1 logged".to_owned()];
    wanted.extend(if says_numbers { numbers() } else { numbers().drain(..2).collect() });
    wanted.extend(layouts());
    assert_eq!(lines, wanted, "{language}");
}

#[test]
fn the_c_header_is_as_the_host_is() {
    holds("c", true);
}

#[test]
fn the_assemblyscript_bindings_are_as_the_host_is() {
    holds("assemblyscript", true);
}

#[test]
fn the_zig_bindings_are_as_the_host_is() {
    holds("zig", true);
}

#[test]
fn the_cpp_header_is_as_the_host_is() {
    // Its constants are those of the C header.
    holds("cpp", false);
}

#[test]
fn the_go_bindings_are_as_the_host_is() {
    holds("go", true);
}

/// The functions that the SDK's source declares below the name of the module that they are imported from.
fn declared(source: &str, from: &str) -> BTreeSet<String> {
    let (_, rest) = source.split_once(&format!("wasm_import_module = \"{from}\"")).unwrap();
    let (block, _) = rest.split_once("\n        }").unwrap();
    let names = block.split("fn ").skip(1).filter_map(|declaration| declaration.split_once('('));
    names.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn the_sdk_for_rust_has_what_the_host_has() {
    let source = include_str!("../../../guest-abi/src/sdk/host.rs");
    for module in CONTRACT {
        let linked: BTreeSet<String> = known_imports(module).into_iter().map(str::to_owned).collect();
        assert_eq!(declared(source, module), linked);
    }
}
