#![allow(clippy::unwrap_used)]

use std::sync::{Arc, atomic::Ordering};

use super::{
    testing::{PAGE, Rig, floats, model, run, try_run, words},
    *,
};
use crate::infer::{fake::FakeInference, models::MAX_BROUGHT};
use sanderling_protocol::{deployment::Limits, worker::FaultCode};

const CONV: &[u8] = include_bytes!("../../../testdata/conv.onnx");
const TWO: &[u8] = include_bytes!("../../../testdata/two.onnx");

/// A tensor record at 100, its dimensions at 200, its data at 1000; the model's name at 0.
fn rig(name: &str, onnx: &[u8], dims: &[i32], code: i32, data: Vec<u8>) -> Rig {
    let record = words(&[200, dims.len() as i32, code, 1000, data.len() as i32]);
    Rig {
        models: vec![model(name, onnx)],
        data: vec![(0, name.as_bytes().to_vec()), (100, record), (200, words(dims)), (1000, data)],
        ..Rig::default()
    }
}

fn conv() -> (Rig, Vec<f32>) {
    let wanted: serde_json::Value = serde_json::from_str(include_str!("../../../testdata/conv.json")).unwrap();
    let list = |key: &str| -> Vec<f32> { serde_json::from_value(wanted[key].clone()).unwrap() };
    (rig("conv", CONV, &[1, 1, 8, 8], 1, floats(&list("image"))), list("score"))
}

const CONV_CALLS: [&str; 6] = [
    "load_by_name 0 4 40",
    "init_execution_context 0 44",
    "set_input 0 0 100",
    "compute 0",
    "get_output 0 0 3000 8 48",
    "nn_output_info 0 1 4000",
];

#[test]
fn infers_as_onnxruntime_does() {
    let (rig, score) = conv();
    let ran = run(rig, &CONV_CALLS);
    assert_eq!(ran.answers, [0; 6], "{ran:?}");
    assert_eq!(ran.words(40, 3), [0, 0, 8]);
    assert!(ran.floats(3000, 2).iter().zip(score).all(|(is, was)| (is - was).abs() < 1e-5));
    assert_eq!(ran.words(4000, 10), [1, 4, 1, 2, 8, 8, 0, 0, 0, 0]);
}

#[test]
fn infers_from_the_start_function_and_from_the_start_section() {
    for from in ["start", "section"] {
        let (rig, score) = conv();
        let ran = run(Rig { from, ..rig }, &CONV_CALLS);
        assert_eq!(ran.answers, [0; 6], "{from}");
        assert!(ran.floats(3000, 2).iter().zip(score).all(|(is, was)| (is - was).abs() < 1e-5));
    }
}

#[test]
fn tells_both_enumerations_of_types_apart_by_the_length_of_the_data() {
    macro_rules! onnx {
        ($name:literal) => {
            include_bytes!(concat!("../../../testdata/", $name, ".onnx")).as_slice()
        };
    }
    let ints = words(&[1, -2, 3, 1000]);
    let longs: Vec<u8> = [1_i64, -2, 3, 1000].iter().flat_map(|long| long.to_le_bytes()).collect();
    let doubles: Vec<u8> = [1_f64, -2.0, 3.0, 1000.0].iter().flat_map(|double| double.to_le_bytes()).collect();
    let halves: Vec<u8> =
        [1.0, -2.0, 3.0, 1000.0].map(half::f16::from_f32).iter().flat_map(|h| h.to_le_bytes()).collect();
    let wide = [2.0, -4.0, 6.0, 2000.0];
    let narrow = [2.0, 4.0, 6.0, 400.0];
    let bytes = vec![1, 2, 3, 200];
    for (name, onnx, code, data, doubled) in [
        ("f16", onnx!("f16"), 0, halves, wide),
        ("u8", onnx!("u8"), 2, bytes.clone(), narrow),
        ("u8", onnx!("u8"), 3, bytes, narrow),
        ("i32", onnx!("i32"), 3, ints.clone(), wide),
        ("i32", onnx!("i32"), 4, ints, wide),
        ("f64", onnx!("f64"), 2, doubles, wide),
        ("i64", onnx!("i64"), 5, longs, wide),
    ] {
        let load = format!("load_by_name 0 {} 40", name.len());
        let ran = run(
            rig(name, onnx, &[2, 2], code, data.clone()),
            &[
                &load,
                "init_execution_context 0 44",
                "set_input 0 0 100",
                "compute 0",
                "get_output 0 0 3000 16 48",
                "get_output 0 1 4000 100 52",
            ],
        );
        assert_eq!(ran.answers, [0; 6], "{name} {code} {:?}", ran.log);
        assert_eq!(ran.floats(3000, 4), doubled, "{name} {code}");
        assert_eq!(&ran.memory[4000..4000 + data.len()], data, "{name} {code}");
    }
}

#[test]
fn says_what_size_is_needed_where_the_buffer_is_too_small() {
    let (rig, _) = conv();
    let mut calls = CONV_CALLS[..4].to_vec();
    calls.extend(["get_output 0 0 3000 7 48", "get_output 0 1 3000 0 52"]);
    let ran = run(rig, &calls);
    assert_eq!(ran.answers, [0, 0, 0, 0, 7, 7]);
    assert_eq!((ran.words(48, 2), &ran.memory[3000..3008]), (vec![8, 512], [0; 8].as_slice()));
}

#[test]
fn without_the_grant_nothing_works_and_every_function_is_reported_once() {
    let (rig, _) = conv();
    let mut calls = CONV_CALLS.to_vec();
    calls.extend(["load 0 1 1 0 40", "load_by_name 0 4 40", "nn_input_image 0 0 0"]);
    let ran = run(Rig { infer: false, ..rig }, &calls);
    assert_eq!(ran.answers, [6, 6, 6, 6, 6, -13, 6, 6, -13]);
    let each = [
        "load_by_name",
        "init_execution_context",
        "set_input",
        "compute",
        "get_output",
        "nn_output_info",
        "load",
        "nn_input_image",
    ];
    assert_eq!(ran.denied, each);
}

#[test]
fn loading_what_the_guest_brings_wants_a_grant_of_its_own() {
    let (rig, _) = conv();
    let ran = run(rig, &["load 500 1 1 0 40", "load -1 -1 -1 -1 -1"]);
    assert_eq!((ran.answers, ran.denied), (vec![6, 6], vec!["load"]));
    let (rig, _) = conv();
    let ran = run(Rig { infer: false, load: true, ..rig }, &["load 500 1 1 0 40"]);
    assert_eq!((ran.answers, ran.denied), (vec![6], vec!["load"]));
}

/// As [`conv`], with the grant, the model at 20,000 and its part at 500.
fn bringing() -> (Rig, Vec<f32>) {
    let (mut rig, score) = conv();
    rig.data.extend([(20_000, CONV.to_vec()), (500, words(&[20_000, CONV.len() as i32]))]);
    (Rig { load: true, ..rig }, score)
}

#[test]
fn a_model_that_the_guest_brings_computes_as_one_with_a_name() {
    for load in ["load 500 1 1 0 40", "load 500 1 5 3 40"] {
        for from in ["frame", "start", "section"] {
            let (rig, score) = bringing();
            let calls = [&[load], &CONV_CALLS[1..]].concat();
            let ran = run(Rig { models: vec![], from, ..rig }, &calls);
            assert_eq!(ran.answers, [0; 6], "{load} {from} {:?}", ran.log);
            assert!(ran.floats(3000, 2).iter().zip(&score).all(|(is, was)| (is - was).abs() < 1e-5));
        }
    }
}

#[test]
fn the_same_bytes_are_the_same_graph() {
    let (rig, _) = bringing();
    let ran = run(rig, &["load 500 1 1 0 40", "load_by_name 0 4 44", "load 500 1 1 0 48", "load_by_name 0 4 52"]);
    assert_eq!((ran.words(40, 4), ran.answers), (vec![0, 1, 0, 1], vec![0; 4]));
}

#[test]
fn what_cannot_be_loaded_is_an_errno() {
    let (mut rig, _) = bringing();
    rig.data.push((510, words(&[20_000, CONV.len() as i32 - 9])));
    rig.data.push((520, words(&[PAGE - 10, 11])));
    rig.data.push((530, words(&[20_000, 0])));
    rig.data.push((540, words(&[-1, -1])));
    let cases: [(String, i32); 20] = [
        ("load 500 1 0 0 40".into(), 2),
        ("load 500 1 2 0 40".into(), 2),
        ("load 500 1 4 0 40".into(), 2),
        ("load 500 1 6 0 40".into(), 2),
        ("load 500 1 -1 0 40".into(), 2),
        ("load 500 1 1 1 40".into(), 6),
        ("load 500 1 1 2 40".into(), 6),
        ("load 500 1 1 4 40".into(), 1),
        ("load 500 1 1 -1 40".into(), 1),
        ("load 500 0 1 0 40".into(), 1),
        ("load 500 2 1 0 40".into(), 1),
        ("load 500 -1 1 0 40".into(), 1),
        ("load -1 1 1 0 40".into(), 1),
        (format!("load {} 1 1 0 40", PAGE - 7), 1),
        (format!("load 500 1 1 0 {}", PAGE - 3), 1),
        ("load 520 1 1 0 40".into(), 1),
        ("load 540 1 1 0 40".into(), 1),
        // Cut, and nothing at all.
        ("load 510 1 1 0 40".into(), 5),
        ("load 530 1 5 0 40".into(), 5),
        ("load 500 1 1 0 40".into(), 0),
    ];
    let (calls, wanted): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    let ran = try_run(rig, &calls).unwrap();
    for ((call, wanted), is) in calls.iter().zip(wanted).zip(ran.answers) {
        assert_eq!(is, wanted, "{call} {:?}", ran.log);
    }
    assert!(ran.log.iter().any(|line| line.contains("load: encoding 0 is none")), "{:?}", ran.log);
}

#[test]
fn so_many_models_are_brought_and_no_more() {
    macro_rules! onnx {
        ($name:literal) => {
            include_bytes!(concat!("../../../testdata/", $name, ".onnx")).to_vec()
        };
    }
    let (mut rig, _) = bringing();
    let others = [onnx!("two"), onnx!("u8"), onnx!("i8"), onnx!("i32")];
    let mut calls = vec!["load 500 1 1 0 40".to_owned()];
    for (at, onnx) in (0_i32..).zip(others) {
        let (part, place) = (600 + 8 * at, 30_000 + 1000 * at);
        rig.data.push((part as usize, words(&[place, onnx.len() as i32])));
        rig.data.push((place as usize, onnx));
        calls.push(format!("load {part} 1 1 0 40"));
    }
    calls.push("load 600 1 1 0 40".to_owned());
    let ran = try_run(rig, &calls).unwrap();
    assert_eq!(calls.len(), MAX_BROUGHT + 2);
    assert_eq!(ran.answers, [0, 0, 0, 0, 4, 0], "{:?}", ran.log);
}

#[test]
fn what_is_brought_counts_against_the_memory() {
    let (rig, _) = bringing();
    let ran = run(Rig { models: vec![], native_memory_mib: 0, ..rig }, &["load 500 1 1 0 40"]);
    assert_eq!(ran.answers, [7]);
    assert!(ran.log[0].contains("raise native_memory_mib"), "{:?}", ran.log);
}

#[test]
fn an_instance_finds_nothing_of_the_one_before_it_but_models_stay_parsed() {
    let inference = FakeInference::default();
    let parsed = Arc::clone(&inference.parsed);
    let mut nn = NnState::new(Arc::new(inference), vec![model("a", &[1])], &Limits::default()).unwrap();
    for _ in 0..3 {
        assert_eq!(nn.init_execution_context(0), Err(NnError::Graph(0)));
        assert_eq!((nn.load_by_name(b"a"), nn.load(&[2])), (Ok(0), Ok(1)));
        assert_eq!(nn.init_execution_context(1), Ok(0));
        assert!(nn.context(0).unwrap().output(0).is_err());
        for index in 0..2 {
            nn.context(0).unwrap().input(index, TensorType::F32, &[1]).unwrap();
        }
        nn.context(0).unwrap().compute().unwrap();
        nn.forget();
        assert!(nn.context(0).is_none());
    }
    assert_eq!(parsed.load(Ordering::Relaxed), 2);
}

#[test]
fn bad_pointers_handles_and_lengths_are_errnos() {
    let past = PAGE - 3;
    let cases: Vec<(String, i32)> = [
        // Names and results outside of memory, and models that there are not.
        (format!("load_by_name {PAGE} 1 40"), 1),
        (format!("load_by_name 0 {PAGE} 40"), 8),
        (format!("load_by_name 1 {PAGE} 40"), 1),
        ("load_by_name 0 -1 40".into(), 1),
        ("load_by_name -1 -1 -1".into(), 1),
        ("load_by_name 0 0 40".into(), 8),
        ("load_by_name 0 3 40".into(), 8),
        (format!("load_by_name 0 4 {past}"), 1),
        ("load_by_name 0 4 -1".into(), 1),
        // Graphs.
        (format!("init_execution_context 0 {past}"), 1),
        ("init_execution_context 1 44".into(), 1),
        ("init_execution_context -1 44".into(), 1),
        ("init_execution_context 0 -4".into(), 1),
        // Contexts and indices.
        ("set_input 1 0 100".into(), 1),
        ("set_input -1 0 100".into(), 1),
        ("set_input 15 0 100".into(), 1),
        ("set_input 0 1 100".into(), 1),
        ("set_input 0 -1 100".into(), 1),
        ("set_input 0 0 -1".into(), 1),
        (format!("set_input 0 0 {}", PAGE - 19), 1),
        (format!("set_input 0 0 {PAGE}"), 1),
        ("compute 1".into(), 1),
        ("compute -1".into(), 1),
        ("compute 0".into(), 5),
        ("get_output 0 0 3000 8 48".into(), 5),
        ("set_input 0 0 100".into(), 0),
        ("compute 0".into(), 0),
        ("get_output 1 0 3000 8 48".into(), 1),
        ("get_output 0 2 3000 8 48".into(), 1),
        ("get_output 0 -1 3000 8 48".into(), 1),
        (format!("get_output 0 0 {} 8 48", PAGE - 7), 1),
        (format!("get_output 0 0 {} 8 48", PAGE - 8), 0),
        ("get_output 0 0 -1 -1 48".into(), 1),
        (format!("get_output 0 0 3000 8 {past}"), 1),
        ("get_output 0 0 3000 8 -1".into(), 1),
        // A room that reaches outside does not matter where the tensor fits.
        ("get_output 0 0 3000 -1 48".into(), 0),
        ("nn_output_info 1 0 4000".into(), -2),
        ("nn_output_info -1 0 4000".into(), -2),
        ("nn_output_info 0 9 4000".into(), -2),
        ("nn_output_info 0 -1 4000".into(), -2),
        (format!("nn_output_info 0 0 {}", PAGE - 39), -14),
        ("nn_output_info 0 0 -1".into(), -14),
    ]
    .into();
    let (rig, _) = conv();
    let opening = [("load_by_name 0 4 40".to_owned(), 0), ("init_execution_context 0 44".to_owned(), 0)];
    let (calls, wanted): (Vec<_>, Vec<_>) = opening.into_iter().chain(cases).unzip();
    let ran = try_run(rig, &calls).unwrap();
    for ((call, wanted), is) in calls.iter().zip(wanted).zip(ran.answers) {
        assert_eq!(is, wanted, "{call}");
    }
}

#[test]
fn hostile_tensors_are_errnos() {
    let max = i32::MAX;
    let cases = [
        // dims.ptr, dims.len, type, data.ptr, data.len
        ([200, 4, 1, 1000, 256], 0),
        ([200, 4, 1, 1000, 255], 1),
        ([200, 4, 1, 1000, 0], 1),
        ([200, 4, 1, 1000, -1], 1),
        ([200, 4, 1, PAGE - 255, 256], 1),
        ([200, 4, 1, -1, 256], 1),
        ([200, 4, 0, 1000, 256], 1),
        ([200, 4, 2, 1000, 256], 1),
        ([200, 4, 4, 1000, 256], 1),
        ([200, 4, 6, 1000, 256], 1),
        ([200, 4, 255, 1000, 256], 1),
        ([200, 3, 1, 1000, 256], 1),
        ([200, 9, 1, 1000, 256], 1),
        ([200, -1, 1, 1000, 256], 1),
        ([200, max, 1, 1000, 256], 1),
        ([PAGE - 15, 4, 1, 1000, 256], 1),
        ([-16, 4, 1, 1000, 256], 1),
        // Dimensions whose product overflows, and one that is 0.
        ([300, 4, 1, 1000, 256], 7),
        ([340, 4, 1, 1000, 0], 1),
        // The next three bytes of the type are padding.
        ([200, 4, 0x7777_7701, 1000, 256], 0),
    ];
    let (mut rig, _) = conv();
    rig.data.push((300, words(&[-1, -1, -1, -1])));
    rig.data.push((340, words(&[1, 1, 0, 8])));
    let mut calls = vec!["load_by_name 0 4 40".to_owned(), "init_execution_context 0 44".to_owned()];
    for (index, (record, _)) in cases.iter().enumerate() {
        rig.data.push((10_000 + 20 * index, words(record)));
        calls.push(format!("set_input 0 0 {}", 10_000 + 20 * index));
    }
    let ran = try_run(rig, &calls).unwrap();
    for ((record, wanted), is) in cases.iter().zip(&ran.answers[2..]) {
        assert_eq!(is, wanted, "{record:?}");
    }
}

#[test]
fn a_graph_is_used_only_after_it_was_loaded() {
    let (rig, _) = conv();
    assert_eq!(run(rig, &["init_execution_context 0 44"]).answers, [1]);
}

#[test]
fn there_are_so_many_contexts_and_no_more() {
    let (rig, _) = conv();
    let mut calls = vec!["load_by_name 0 4 40"];
    calls.extend(["init_execution_context 0 44"; MAX_CONTEXTS + 2]);
    let ran = run(rig, &calls);
    let mut wanted = vec![0; MAX_CONTEXTS + 1];
    wanted.extend([4, 4]);
    assert_eq!(ran.answers, wanted);
    assert_eq!(ran.words(44, 1), [MAX_CONTEXTS as u32 - 1]);
}

#[test]
fn the_tensors_of_all_contexts_share_one_limit() {
    // 60,000 bytes of input in each of two contexts, of 0.1 MiB that tests of the state itself can set.
    let limits = Limits { native_memory_mib: 0, ..Limits::default() };
    let mut nn = NnState::new(Arc::new(FakeInference::default()), vec![model("sum", &[1])], &limits).unwrap();
    assert!(!nn.has_room(0, 0, 1));
    nn.limit = 100_000;
    nn.load_by_name(b"sum").unwrap();
    for _ in 0..2 {
        assert!(nn.init_execution_context(0).is_ok());
    }
    assert!(nn.has_room(0, 0, 60_000));
    nn.context(0).unwrap().input(0, TensorType::F32, &[15_000]).unwrap();
    assert!(nn.has_room(0, 0, 60_000), "its own place does not count against it");
    assert!(!nn.has_room(1, 0, 60_000));
    assert!(nn.has_room(1, 0, 40_000));
}

#[test]
fn parses_a_model_once_for_all_contexts() {
    let inference = FakeInference::default();
    let parsed = Arc::clone(&inference.parsed);
    let models = vec![model("a", &[1]), model("b", &[2])];
    let mut nn = NnState::new(Arc::new(inference), models, &Limits::default()).unwrap();
    for (name, handle) in [(b"b", 0), (b"a", 1), (b"b", 0)] {
        assert_eq!(nn.load_by_name(name), Ok(handle));
        assert!(nn.init_execution_context(handle as i32).is_ok());
    }
    assert_eq!(parsed.load(Ordering::Relaxed), 2);
    let context = nn.context(0).unwrap();
    for index in 0..2 {
        context.input(index, TensorType::F32, &[1]).unwrap().copy_from_slice(&1.5_f32.to_ne_bytes());
    }
    context.compute().unwrap();
    assert_eq!(context.output(0).unwrap().bytes, 3_f32.to_ne_bytes());
}

#[test]
fn a_model_that_does_not_load_is_a_fault_that_names_it() {
    for (name, onnx, code) in [
        ("junk", b"junk".as_slice(), FaultCode::Init),
        ("cut", include_bytes!("../../../testdata/cut.onnx"), FaultCode::Init),
        ("external", include_bytes!("../../../testdata/external.onnx"), FaultCode::Init),
        ("huge", include_bytes!("../../../testdata/huge.onnx"), FaultCode::NativeMemory),
    ] {
        let fault = try_run(rig(name, onnx, &[], 1, vec![]), &[]).unwrap_err();
        assert_eq!(fault.code, code, "{fault}");
        assert!(fault.message.contains(name), "{fault}");
    }
}

#[test]
fn the_reason_behind_an_errno_stands_in_the_log() {
    let ran = run(
        rig("two", TWO, &[1, 4], 1, floats(&[0.0; 4])),
        &["load_by_name 0 3 40", "init_execution_context 0 44", "set_input 0 0 100", "compute 0"],
    );
    assert_eq!(ran.answers, [0, 0, 1, 5]);
    assert_eq!(ran.log.len(), 2, "{:?}", ran.log);
    assert!(ran.log[0].contains("set_input: input 0 takes the shape [?, 3], not [1, 4]"), "{:?}", ran.log);
    assert!(ran.log[1].contains("compute: input 0 is not set"), "{:?}", ran.log);
}

#[test]
fn the_same_reason_stands_in_the_log_once() {
    let (rig, _) = conv();
    let calls = ["compute 7", "compute 7", "compute 8", "compute 7", "load_by_name 0 1 40", "get_output 0 0 -1 0 -1"];
    let ran = run(rig, &calls);
    let wanted = [
        "compute: there is no execution context 7",
        "compute: there is no execution context 8",
        "no model is bound",
        "get_output",
    ];
    assert_eq!(ran.log.len(), wanted.len(), "{:?}", ran.log);
    assert!(ran.log.iter().zip(wanted).all(|(line, wanted)| line.contains(wanted)), "{:?}", ran.log);
}

#[test]
fn asking_for_the_size_of_an_output_writes_no_line() {
    let (rig, _) = conv();
    let ran = run(rig, &[&CONV_CALLS[..4], &["get_output 0 0 3000 0 48"]].concat());
    assert_eq!((ran.answers[4], ran.log.len()), (7, 0), "{:?}", ran.log);
}

#[test]
fn an_empty_tensor_has_the_type_that_its_input_wants() {
    // Codes 2 and 3 with data that fit either meaning, because there are none.
    assert_eq!(element(2, 0, 0, Some(TensorType::U8)), Some(TensorType::U8));
    assert_eq!(element(2, 0, 0, Some(TensorType::F64)), Some(TensorType::F64));
    assert_eq!(element(3, 0, 0, Some(TensorType::I32)), Some(TensorType::I32));
    assert_eq!(element(3, 0, 0, Some(TensorType::F32)), Some(TensorType::U8));
    assert_eq!(element(2, 0, 0, None), Some(TensorType::F64));
    // With elements the data decide, whatever is wanted.
    assert_eq!(element(2, 8, 8, Some(TensorType::F64)), Some(TensorType::U8));
    assert_eq!(element(3, 8, 8, Some(TensorType::I32)), Some(TensorType::U8));
    assert_eq!(element(3, 8, 2, Some(TensorType::U8)), Some(TensorType::I32));
    assert_eq!(element(2, 4, 1, None), None);
}

#[test]
fn native_time_counts_against_the_deadline() {
    let (rig, _) = conv();
    let calls: Vec<String> = CONV_CALLS[..3].iter().map(|call| (*call).to_owned()).collect();
    // Each call reads the clock twice, so it takes a tenth of a second; 200 ms are allowed.
    let fault = try_run(Rig { step: 100_000_000, ..rig }, &calls).unwrap_err();
    assert_eq!(fault.code, FaultCode::Deadline, "{fault}");
}

#[test]
fn native_time_is_paid_for_in_fuel() {
    let fuel = |step| {
        let (rig, _) = conv();
        run(Rig { step, ..rig }, &CONV_CALLS).fuel
    };
    // Each call reads the clock twice, so it takes one step.
    assert!(fuel(100_000) >= fuel(0) + 6 * 100_000, "{} {}", fuel(100_000), fuel(0));
}
