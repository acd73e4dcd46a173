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
fn keeps_no_more_plans_than_it_says_and_lets_go_of_the_one_not_used_for_longest() {
    let (name, onnx) = model!("two");
    let graph = TractGraph::load(name, onnx, LIMIT).unwrap();
    let ask = |batch: usize| {
        let plan = graph.plan(&vec![vec![batch, 3]; 2]).unwrap();
        let plans = graph.plans.lock().unwrap();
        assert!(Arc::ptr_eq(&plan, &plans.made.last().unwrap().plan));
        plans.made.iter().map(|made| made.shapes[0][0]).collect::<Vec<_>>()
    };
    (1..MAX_PLANS).for_each(|batch| drop(ask(batch)));
    assert_eq!(ask(4), [1, 2, 3, 4]);
    assert_eq!(ask(1), [2, 3, 4, 1], "kept, and used last");
    assert_eq!(ask(5), [3, 4, 1, 5], "in the place of 2");
    (6..30).for_each(|batch| assert_eq!(ask(batch).len(), MAX_PLANS));
}

#[test]
fn plans_hold_no_more_than_the_limit_together() {
    // A batch of any size, and 40,000 bytes of weights.
    let (name, onnx) = model!("dense");
    let graph = TractGraph::load(name, onnx, 100_000).unwrap();
    for batch in 1..6 {
        graph.plan(&vec![vec![batch, 100]]).unwrap();
        assert!(graph.held() <= 100_000 + 40_000, "{}", graph.held());
    }
    assert!(graph.plans.lock().unwrap().made.len() < MAX_PLANS);
    assert!(matches!(TractGraph::load(name, onnx, 30_000), Err(InferError::TooLarge { .. })), "more than all may hold");
}

#[test]
fn contexts_of_a_model_share_its_plans() {
    let graph = load(model!("two")).unwrap();
    let before = graph.held();
    let mut plans = vec![];
    for _ in 0..3 {
        let mut context = Arc::clone(&graph).context().unwrap();
        for index in 0..2 {
            context.input(index, TensorType::F32, &[2, 3]).unwrap();
        }
        context.compute().unwrap();
        plans.push(graph.held());
    }
    assert!(plans.iter().all(|held| *held == plans[0] && *held >= before));
}

#[test]
fn binds_dimensions_by_name_and_without_one() {
    // image [N, C, ?, ?] -> its mean [N, C], and twice the image.
    let mut context = context(model!("open"));
    for dims in [[1, 3, 4, 5], [2, 1, 7, 1], [1, 3, 4, 5]] {
        let count: usize = dims.iter().product();
        let image: Vec<f32> = (0..count).map(|at| at as f32).collect();
        context.input(0, TensorType::F32, &dims).unwrap().copy_from_slice(&bytes(&image));
        context.compute().unwrap();
        let mean = context.output(0).unwrap();
        assert_eq!(mean.dims, &dims[..2]);
        let part = dims[2] * dims[3];
        let wanted = image.chunks(part).map(|part_of| part_of.iter().sum::<f32>() / part as f32);
        assert!(floats(&mean).iter().zip(wanted).all(|(is, was)| (is - was).abs() < 1e-4), "{dims:?}");
        assert_eq!(context.output(1).unwrap().dims, dims);
    }
}

#[test]
fn quantised_models_compute_what_onnxruntime_computes() {
    let wanted: serde_json::Value = serde_json::from_str(include_str!("../../../testdata/quantised.json")).unwrap();
    let list = |key: &str| -> Vec<f32> { serde_json::from_value(wanted[key].clone()).unwrap() };
    for (name, onnx) in [model!("qdq"), model!("qlinear")] {
        let mut context = context((name, onnx));
        context.input(0, TensorType::F32, &[1, 1, 8, 8]).unwrap().copy_from_slice(&bytes(&list("image")));
        context.compute().unwrap();
        let (is, was) = (floats(&context.output(0).unwrap()), list(name));
        assert_eq!(is.len(), was.len());
        // One step of the output's scale: the two round halves in different places.
        let step = wanted["step"].as_f64().unwrap() as f32;
        assert!(is.iter().zip(&was).all(|(is, was)| (is - was).abs() <= step * 1.01), "{name}: {is:?} {was:?}");
        let exact = is.iter().zip(&was).filter(|(is, was)| (**is - **was).abs() < step * 0.01).count();
        assert!(exact * 10 >= is.len() * 9, "{name}: {exact} of {}", is.len());
    }
}

#[test]
fn claims_of_a_model_are_held_to_the_limit_before_anything_is_made_of_them() {
    for model in [model!("claims_constant"), model!("claims_tile"), model!("claims_weights")] {
        let name = model.0;
        let refused = load(model).map(|_| ()).unwrap_err();
        assert!(matches!(refused, InferError::TooLarge { limit: LIMIT, .. }), "{name}: {refused}");
    }
    let deep = load(model!("deep")).map(|_| ()).unwrap_err();
    assert!(deep.to_string().contains("graphs inside of graphs"), "{deep}");
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
