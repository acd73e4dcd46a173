//! Models that do not parse, ask for more than there is, or never come to an end, each with a guest that loads it, fills its input and runs
//! it.

use sanderling_protocol::deployment::Limits;

use crate::{
    Guest, SIDE, limits,
    onnx::{FLOAT, INT64, Message, STRING, filled, graph, ints, model, node, numbers, tensor, value, with},
};

const INIT: &str = "init in load";
const TOO_LARGE: &str = "native_memory in load";
const SURVIVES: &str = "survives";

/// Loads its model by name, fills the input, runs it and takes all of the output that fits.
const GUEST: &str = r#"(module
    (import "wasi_ephemeral_nn" "load_by_name" (func $load (param i32 i32 i32) (result i32)))
    (import "wasi_ephemeral_nn" "init_execution_context" (func $context (param i32 i32) (result i32)))
    (import "wasi_ephemeral_nn" "set_input" (func $input (param i32 i32 i32) (result i32)))
    (import "wasi_ephemeral_nn" "compute" (func $compute (param i32) (result i32)))
    (import "wasi_ephemeral_nn" "get_output" (func $output (param i32 i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (data (i32.const 0) "m")
    (data (i32.const 32) "\40\00\00\00\04\00\00\00\01\00\00\00\00\04\00\00\00\01\00\00")
    (data (i32.const 64) "\01\00\00\00\01\00\00\00\08\00\00\00\08\00\00\00")
    (func (export "sanderling_abi") (result i32) (i32.const 1))
    (func (export "sanderling_start") (result i32)
        (drop (call $load (i32.const 0) (i32.const 1) (i32.const 16)))
        (drop (call $context (i32.load (i32.const 16)) (i32.const 20)))
        (i32.const 0))
    (func (export "sanderling_frame") (result i32)
        (drop (call $input (i32.load (i32.const 20)) (i32.const 0) (i32.const 32)))
        (drop (call $compute (i32.load (i32.const 20))))
        (drop (call $output (i32.load (i32.const 20)) (i32.const 0) (i32.const 65536) (i32.const 65536) (i32.const 24)))
        (i32.const 0)))"#;

/// All of them.
pub fn guests() -> Vec<Guest> {
    [broken(), absurd(), greedy()].into_iter().flatten().collect()
}

fn guest(name: &str, tries: &str, end: &str, model: Vec<u8>) -> Guest {
    let mut guest = Guest::new(name, tries, wat::parse_str(GUEST).unwrap(), end);
    guest.model = Some(model);
    guest.grants = vec!["infer".to_owned()];
    guest.limits = Limits { deadline_ms: 2000, ..limits() };
    guest
}

/// The input that guests fill.
fn input() -> Message {
    let side = i64::from(SIDE);
    value("x", FLOAT, &[1, 1, side, side])
}

/// A model of the usual input and one output, made by nodes and weights.
fn made(nodes: &[Message], weights: &[Message]) -> Vec<u8> {
    model(&graph(nodes, weights, &[input()], &[Message::default().text(1, "y")]))
}

fn floats(count: usize, value: f32) -> Vec<u8> {
    value.to_le_bytes().repeat(count)
}

fn broken() -> Vec<Guest> {
    let identity = || made(&[node("Relu", &["x"], &["y"])], &[]);
    let whole = identity();
    let half = whole[..whole.len() / 2].to_vec();
    // Field 7, the graph, within a graph, within a graph: as deep as it goes.
    let nested = (0..20_000).fold(Vec::new(), |inner: Vec<u8>, _| {
        // Built from the inside out, each level a node with an attribute that is a graph, would be quadratic: it is cut at a megabyte.
        if inner.len() > 1_000_000 { inner } else { Message::default().bytes(7, &inner).0 }
    });
    let deep = (0..300).fold(graph(&[], &[], &[], &[]), |inner, _| {
        let attribute = Message::default().text(1, "body").number(20, 5).message(6, &inner);
        graph(&[with(node("Loop", &["x"], &["y"]), &[attribute])], &[], &[], &[])
    });
    let outside = tensor("w", FLOAT, &[1]).number(14, 1);
    let outside = ["location", "offset"]
        .iter()
        .zip(["../../../../etc/passwd", "0"])
        .fold(outside, |tensor, (key, value)| tensor.message(13, &Message::default().text(1, key).text(2, value)));
    let adds = |weight: Message| made(&[node("Add", &["x", "w"], &["y"])], &[weight]);
    vec![
        guest("model-of-text", "Its model is no model.", INIT, b"this is no model".to_vec()),
        guest("model-cut-off", "Its model ends in the middle.", INIT, half),
        guest("model-without-graph", "Its model has no graph.", INIT, Message::default().number(1, 8).0),
        guest("model-within-itself", "Its model has fields within fields within fields.", SURVIVES, nested),
        guest(
            "model-of-graphs",
            "Its model has 300 graphs within each other.",
            INIT,
            Message::default().number(1, 8).message(7, &deep).0,
        ),
        guest("model-of-files", "Its model wants the content of a file of the device.", INIT, adds(outside)),
        guest(
            "model-of-texts",
            "Its model takes texts.",
            INIT,
            model(&graph(
                &[node("Identity", &["x"], &["y"])],
                &[],
                &[value("x", STRING, &[1])],
                &[value("y", STRING, &[1])],
            )),
        ),
        guest(
            "model-of-unknown-types",
            "Its model has weights of a type that there is not.",
            INIT,
            adds(filled("w", 9999, &[1], &[0; 4])),
        ),
        guest(
            "model-of-unknown-operators",
            "Its model has an operator that there is not.",
            INIT,
            made(&[node("LaunchMissiles", &["x"], &["y"])], &[]),
        ),
        guest(
            "model-in-a-circle",
            "Its model needs its output for its input.",
            INIT,
            made(
                &[node("Add", &["x", "b"], &["a"]), node("Add", &["a", "x"], &["b"]), node("Relu", &["b"], &["y"])],
                &[],
            ),
        ),
        guest(
            "model-of-itself",
            "Its model has a node that needs itself.",
            INIT,
            made(&[node("Add", &["y", "x"], &["y"])], &[]),
        ),
        guest(
            "model-of-nothing",
            "Its model uses what is nowhere.",
            INIT,
            made(&[node("Add", &["x", "nowhere"], &["y"])], &[]),
        ),
        guest(
            "model-names-twice",
            "Its model names two results the same.",
            SURVIVES,
            made(&[node("Relu", &["x"], &["y"]), node("Neg", &["x"], &["y"])], &[]),
        ),
        guest(
            "model-names-unreadable",
            "Its model has a name that is not UTF-8.",
            INIT,
            Message::default().number(1, 8).message(7, &Message::default().bytes(2, b"\xff\xfe")).0,
        ),
    ]
}

fn absurd() -> Vec<Guest> {
    let adds = |weight: Message| made(&[node("Add", &["x", "w"], &["y"])], &[weight]);
    let shaped = |operator: &str, shape: &[i64]| made(&[node(operator, &["x", "w"], &["y"])], &[numbers("w", shape)]);
    let huge = i64::MAX;
    vec![
        guest(
            "weights-by-claim",
            "Its model says that it has 100 MB of weights, and has none.",
            INIT,
            adds(tensor("w", FLOAT, &[5000, 5000])),
        ),
        guest(
            "weights-of-other-length",
            "Its model has three bytes less than it says.",
            INIT,
            adds(filled("w", FLOAT, &[64], &[0; 253])),
        ),
        guest(
            "weights-of-less-than-nothing",
            "Its model has weights of a negative shape.",
            INIT,
            adds(filled("w", FLOAT, &[-1, -64], &floats(64, 1.0))),
        ),
        guest(
            "weights-beyond-numbers",
            "Its model has weights of a shape whose product is no number any more.",
            TOO_LARGE,
            adds(filled("w", FLOAT, &[huge, huge, huge], &[0; 4])),
        ),
        guest(
            "weights-of-no-number",
            "Its model has weights that are no numbers.",
            SURVIVES,
            adds(filled("w", FLOAT, &[64], &floats(64, f32::NAN))),
        ),
        guest(
            "weights-without-end",
            "Its model has infinite weights.",
            SURVIVES,
            made(
                &[node("Mul", &["x", "w"], &["a"]), node("Sub", &["a", "a"], &["y"])],
                &[filled("w", FLOAT, &[1], &floats(1, f32::INFINITY))],
            ),
        ),
        guest(
            "input-of-terabytes",
            "Its model takes a terabyte.",
            TOO_LARGE,
            model(&graph(
                &[node("Relu", &["x"], &["y"])],
                &[],
                &[value("x", FLOAT, &[1 << 20, 1 << 18])],
                &[Message::default().text(1, "y")],
            )),
        ),
        guest(
            "input-of-less-than-nothing",
            "Its model takes a negative shape.",
            SURVIVES,
            model(&graph(
                &[node("Relu", &["x"], &["y"])],
                &[],
                &[value("x", FLOAT, &[-8, -8])],
                &[Message::default().text(1, "y")],
            )),
        ),
        guest("reshape-to-other-size", "Its model makes 65 numbers of 64.", INIT, shaped("Reshape", &[65])),
        guest(
            "reshape-to-less-than-nothing",
            "Its model asks for two open sides and a negative one.",
            INIT,
            shaped("Reshape", &[-1, -1, -7]),
        ),
        guest(
            "kernel-beyond-image",
            "Its model has a kernel of 100,000 by 100,000 pixels.",
            INIT,
            made(
                &[with(
                    node("MaxPool", &["x"], &["y"]),
                    &[ints("kernel_shape", &[100_000, 100_000]), ints("strides", &[0, 0])],
                )],
                &[],
            ),
        ),
        guest(
            "slice-of-nothing",
            "Its model takes every 0th element.",
            INIT,
            made(
                &[node("Slice", &["x", "a", "b", "c", "d"], &["y"])],
                &[numbers("a", &[0]), numbers("b", &[huge]), numbers("c", &[3]), numbers("d", &[0])],
            ),
        ),
        guest(
            "gather-beyond",
            "Its model reads beyond its input.",
            SURVIVES,
            made(&[node("Gather", &["x", "w"], &["y"])], &[numbers("w", &[-9, 900_000])]),
        ),
    ]
}

fn greedy() -> Vec<Guest> {
    let shaped = |operator: &str, shape: &[i64]| made(&[node(operator, &["x", "w"], &["y"])], &[numbers("w", shape)]);
    let constant = |dims: &[i64]| {
        made(&[node("ConstantOfShape", &["w"], &["a"]), node("Add", &["x", "a"], &["y"])], &[numbers("w", dims)])
    };
    let chain: Vec<Message> = (0..2000)
        .map(|at| {
            let (from, to) = (format!("a{at}"), format!("a{}", at + 1));
            let (from, to) = (if at == 0 { "x" } else { &from }, if at == 1999 { "y" } else { &to });
            node("Relu", &[from], &[to])
        })
        .collect();
    let (side, rounds) = (640, 200);
    let mut marathon = vec![
        node("Flatten", &["x"], &["flat"]),
        node("ReduceMax", &["x"], &["one"]),
        node("ConstantOfShape", &["shape"], &["zeros"]),
        node("Add", &["zeros", "one"], &["a0"]),
    ];
    marathon.extend((0..rounds).map(|at| node("MatMul", &[&format!("a{at}"), "a0"], &[&format!("a{}", at + 1)])));
    marathon.push(node("ReduceMax", &[&format!("a{rounds}")], &["y"]));
    let marathon = made(&marathon, &[numbers("shape", &[side, side])]);
    let mut late =
        guest("model-without-end", "Its model computes for minutes, in native code.", "deadline in frame", marathon);
    late.limits.deadline_ms = 200;
    vec![
        guest(
            "expand-to-terabytes",
            "Its model makes a terabyte of one number.",
            TOO_LARGE,
            made(
                &[node("ReduceMax", &["x"], &["a"]), node("Expand", &["a", "w"], &["y"])],
                &[numbers("w", &[1 << 20, 1 << 18])],
            ),
        ),
        guest(
            "expand-beyond-numbers",
            "Its model makes more of one number than numbers can say.",
            TOO_LARGE,
            made(
                &[node("ReduceMax", &["x"], &["a"]), node("Expand", &["a", "w"], &["y"])],
                &[numbers("w", &[1 << 62, 1 << 62])],
            ),
        ),
        guest(
            "tile-to-gigabytes",
            "Its model repeats its input a hundred million times.",
            TOO_LARGE,
            shaped("Tile", &[1, 1, 10_000, 10_000]),
        ),
        guest(
            "pad-to-gigabytes",
            "Its model puts a frame of gigabytes around its input.",
            TOO_LARGE,
            shaped("Pad", &[0, 0, 0, 0, 0, 0, 100_000, 100_000]),
        ),
        guest(
            "constant-of-gigabytes",
            "Its model has a constant of four gigabytes, in a few bytes.",
            TOO_LARGE,
            constant(&[1 << 15, 1 << 15]),
        ),
        guest(
            "range-of-trillions",
            "Its model counts to a trillion.",
            TOO_LARGE,
            made(
                &[
                    node("Range", &["a", "b", "c"], &["r"]),
                    with(
                        node("Cast", &["r"], &["f"]),
                        &[Message::default().text(1, "to").number(3, FLOAT).number(20, 2)],
                    ),
                    node("ReduceMax", &["f"], &["m"]),
                    node("Add", &["x", "m"], &["y"]),
                ],
                &[
                    filled("a", INT64, &[], &0_i64.to_le_bytes()),
                    filled("b", INT64, &[], &1_000_000_000_000_i64.to_le_bytes()),
                    filled("c", INT64, &[], &1_i64.to_le_bytes()),
                ],
            ),
        ),
        guest(
            "weights-of-megabytes",
            "Its model has twenty megabytes of weights that it hardly needs.",
            SURVIVES,
            made(
                &[node("ReduceMax", &["w"], &["m"]), node("Add", &["x", "m"], &["y"])],
                &[filled("w", FLOAT, &[5_000_000], &floats(5_000_000, 0.5))],
            ),
        ),
        guest("nodes-in-a-row", "Its model has 2,000 nodes in a row.", SURVIVES, made(&chain, &[])),
        late,
    ]
}
