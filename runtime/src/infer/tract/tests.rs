#![allow(clippy::unwrap_used)]

use super::*;

macro_rules! model {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../../../testdata/", $name, ".onnx")).as_slice())
    };
}

const LIMIT: usize = 16 << 20;

fn load((name, onnx): (&str, &[u8])) -> Result<Arc<dyn Graph>, InferError> {
    Tract { max_tensor: LIMIT }.load(name, onnx)
}

fn context(model: (&str, &[u8])) -> Box<dyn Context> {
    load(model).unwrap().context().unwrap()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

fn floats(tensor: &TensorView<'_>) -> Vec<f32> {
    assert_eq!(tensor.element, TensorType::F32);
    tensor.bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_ne_bytes(*bytes)).collect()
}

#[test]
fn computes_what_onnxruntime_computes() {
    let wanted: serde_json::Value = serde_json::from_str(include_str!("../../../testdata/conv.json")).unwrap();
    let list = |key: &str| -> Vec<f32> { serde_json::from_value(wanted[key].clone()).unwrap() };
    let mut context = context(model!("conv"));
    let info = TensorInfo { element: TensorType::F32, dims: vec![1, 2, 8, 8] };
    assert_eq!(context.output_info(1).unwrap(), info, "known before the first run");
    for _ in 0..3 {
        context.input(0, TensorType::F32, &[1, 1, 8, 8]).unwrap().copy_from_slice(&bytes(&list("image")));
        context.compute().unwrap();
        for (index, key) in [(0, "score"), (1, "map")] {
            let is = floats(&context.output(index).unwrap());
            assert_eq!(is.len(), list(key).len());
            assert!(is.iter().zip(list(key)).all(|(is, was)| (is - was).abs() < 1e-5), "{key}");
        }
        assert_eq!(context.output(0).unwrap().dims, [1, 2]);
    }
}

#[test]
fn prepares_a_model_of_open_shape_for_each_shape_and_keeps_few() {
    let graph = load(model!("two")).unwrap();
    let mut context = graph.context().unwrap();
    assert_eq!(context.output_info(0), Err(InferError::NotComputed));
    for batch in [1, 2, 3, 4, 5, 6, 1, 2] {
        let a: Vec<f32> = (0..batch * 3).map(|value| value as f32).collect();
        context.input(0, TensorType::F32, &[batch, 3]).unwrap().copy_from_slice(&bytes(&a));
        context.input(1, TensorType::F32, &[batch, 3]).unwrap().copy_from_slice(&bytes(&vec![2.0; batch * 3]));
        context.compute().unwrap();
        let (sum, product) = (context.output(0).unwrap(), context.output(1).unwrap());
        assert_eq!(sum.dims, [batch, 3]);
        assert_eq!(floats(&sum), a.iter().map(|value| value + 2.0).collect::<Vec<_>>());
        assert_eq!(floats(&product), a.iter().map(|value| value * 2.0).collect::<Vec<_>>());
    }
    assert_eq!(context.output_info(1).unwrap().dims, [2, 3]);
}

#[test]
fn keeps_no_more_plans_than_it_says() {
    let (name, onnx) = model!("two");
    let graph = TractGraph::load(name, onnx, LIMIT).unwrap();
    for batch in 1..20 {
        graph.plan(&vec![vec![batch, 3]; 2]).unwrap();
    }
    assert_eq!(graph.plans.lock().unwrap().made.len(), MAX_PLANS);
}

#[test]
fn shapes_that_do_not_fit_together_are_an_error_of_the_run() {
    let mut context = context(model!("two"));
    context.input(0, TensorType::F32, &[2, 3]).unwrap();
    context.input(1, TensorType::F32, &[5, 3]).unwrap();
    assert!(matches!(context.compute(), Err(InferError::Load { .. } | InferError::Run { .. })));
    // The context is as good as new.
    context.input(1, TensorType::F32, &[2, 3]).unwrap();
    context.compute().unwrap();
}

#[test]
fn carries_every_type_there_and_back() {
    let half = |value: f32| half::f16::from_f32(value).to_ne_bytes().to_vec();
    let cases = [
        (model!("f16"), TensorType::F16, [0.5, -2.0, 3.0, 100.0].map(half).concat(), [1.0, -4.0, 6.0, 200.0]),
        (
            model!("f64"),
            TensorType::F64,
            [0.5_f64, -2.0, 3.0, 1e3].map(f64::to_ne_bytes).concat(),
            [1.0, -4.0, 6.0, 2e3],
        ),
        (model!("u8"), TensorType::U8, vec![0, 1, 128, 255], [0.0, 2.0, 256.0, 510.0]),
        (model!("i8"), TensorType::U8, vec![0, 1, 128, 255], [0.0, 2.0, -256.0, -2.0]),
        (model!("i32"), TensorType::I32, [0, -1, 7, 1000].map(i32::to_ne_bytes).concat(), [0.0, -2.0, 14.0, 2000.0]),
        (model!("i64"), TensorType::I64, [0, -1, 7, 1000].map(i64::to_ne_bytes).concat(), [0.0, -2.0, 14.0, 2000.0]),
        (model!("bool"), TensorType::U8, vec![0, 1, 1, 0], [0.0, 2.0, 2.0, 0.0]),
    ];
    for (model, element, given, doubled) in cases {
        let mut context = context(model);
        for _ in 0..2 {
            context.input(0, element, &[2, 2]).unwrap().copy_from_slice(&given);
            context.compute().unwrap();
            assert_eq!(floats(&context.output(0).unwrap()), doubled, "{}", model.0);
            let same = context.output(1).unwrap();
            assert_eq!(
                (same.element, same.dims, same.bytes),
                (element, [2, 2].as_slice(), given.as_slice()),
                "{}",
                model.0
            );
        }
    }
}

#[test]
fn any_byte_is_a_bool() {
    let mut context = context(model!("bool"));
    context.input(0, TensorType::U8, &[2, 2]).unwrap().copy_from_slice(&[0, 2, 77, 255]);
    context.compute().unwrap();
    assert_eq!(context.output(1).unwrap().bytes, [0, 1, 1, 1]);
}

#[test]
fn an_output_that_is_the_input_does_not_change_with_the_next_input() {
    let mut context = context(model!("i32"));
    context.input(0, TensorType::I32, &[2, 2]).unwrap().fill(1);
    context.compute().unwrap();
    context.input(0, TensorType::I32, &[2, 2]).unwrap().fill(9);
    assert_eq!(context.output(1).unwrap().bytes, [1; 16]);
}

#[test]
fn holds_inputs_to_index_type_shape_and_limit() {
    let mut context = context(model!("conv"));
    let mut input = |index, element, dims: &[usize]| context.input(index, element, dims).map(|_| ()).unwrap_err();
    assert_eq!(input(1, TensorType::F32, &[1]), InferError::NoPort { what: "input", index: 1, count: 1 });
    assert!(matches!(input(0, TensorType::F64, &[1, 1, 8, 8]), InferError::Type { .. }));
    for dims in [&[1, 1, 8][..], &[1, 1, 8, 8, 1], &[1, 1, 8, 9], &[], &[usize::MAX; 4]] {
        assert!(matches!(input(0, TensorType::F32, dims), InferError::Shape { .. }), "{dims:?}");
    }
    let mut open = self::context(model!("two"));
    for batch in [LIMIT, usize::MAX, usize::MAX / 4] {
        let refused = open.input(0, TensorType::F32, &[batch, 3]).map(|_| ()).unwrap_err();
        assert!(matches!(refused, InferError::TooLarge { limit: LIMIT, .. }), "{refused}");
    }
    assert_eq!(open.compute(), Err(InferError::Missing { index: 0 }), "a refused input is not set");
}

#[test]
fn outputs_are_there_after_a_run_and_by_index() {
    let mut context = context(model!("two"));
    assert_eq!(context.output(0), Err(InferError::NotComputed));
    for index in 0..2 {
        context.input(index, TensorType::F32, &[1, 3]).unwrap();
    }
    context.compute().unwrap();
    assert_eq!(context.output(2), Err(InferError::NoPort { what: "output", index: 2, count: 2 }));
    assert_eq!(context.held(None), 4 * 12);
    assert_eq!(context.held(Some(1)), 3 * 12);
}

#[test]
fn refuses_hostile_models_by_name() {
    let outcome = |model: (&'static str, &[u8])| load(model).map(|_| ()).unwrap_err();
    for model in [model!("external"), model!("cut"), model!("unknown_operator")] {
        let error = outcome(model);
        assert!(matches!(&error, InferError::Load { name, .. } if name == model.0), "{error:?}");
        assert!(error.to_string().len() < 600, "{error}");
    }
    assert!(matches!(outcome(model!("strings")), InferError::PortType { .. }));
    assert!(matches!(outcome(model!("huge")), InferError::TooLarge { .. }), "{:?}", outcome(model!("huge")));
    for bytes in [&b""[..], b"\0", b"not a model", &[0xff; 100]] {
        assert!(load(("junk", bytes)).is_err());
    }
}

#[test]
fn damaged_models_never_take_the_process_down() {
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize
    };
    for (name, onnx) in [model!("conv"), model!("two"), model!("f64")] {
        for end in 0..onnx.len() {
            let _ = load((name, &onnx[..end]));
        }
        for _ in 0..500 {
            let mut damaged = onnx.to_vec();
            for _ in 0..=next() % 3 {
                let at = next() % damaged.len();
                damaged[at] = u8::try_from(next() % 256).unwrap();
            }
            let _ = load((name, &damaged));
        }
    }
}

#[test]
fn probes_the_processor_without_an_error() {
    probe_cpu();
}

#[test]
fn scores_the_committed_model() {
    let onnx = include_bytes!("../../../../modules/surface-defect/model/surface-defect.onnx");
    let mut context = context(("surface-defect", onnx));
    context.input(0, TensorType::F32, &[1, 1, 64, 64]).unwrap();
    context.compute().unwrap();
    let score = context.output(0).unwrap();
    assert_eq!(score.dims, [1, 1]);
    assert!((0.0..=1.0).contains(&floats(&score)[0]), "{:?}", floats(&score));
    assert_eq!(context.output(1).unwrap().dims, [1, 1, 8, 8]);
}
