"""Writes the small ONNX models that the runtime's tests load, and what onnxruntime makes of them.

    pip install onnx onnxruntime numpy
    python3 make_models.py

Seeds are fixed; the files beside this script are its output.
"""

import json
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper

HERE = pathlib.Path(__file__).parent
RANDOM = np.random.default_rng(7)


def save(name, nodes, inputs, outputs, weights=()):
    graph = h.make_graph(
        nodes, name,
        [h.make_tensor_value_info(n, t, s) for n, t, s in inputs],
        [h.make_tensor_value_info(n, t, s) for n, t, s in outputs],
        [numpy_helper.from_array(v, n) for n, v in weights],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 13)], producer_name="")
    model.ir_version = 8
    onnx.checker.check_model(model)
    (HERE / f"{name}.onnx").write_bytes(model.SerializeToString())
    return model


def conv():
    """3x3 convolution, relu, global mean: image [1,1,8,8] -> score [1,2], and the map itself."""
    weight = RANDOM.normal(size=(2, 1, 3, 3)).astype(np.float32)
    bias = np.array([0.1, -0.2], np.float32)
    model = save(
        "conv",
        [h.make_node("Conv", ["image", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
         h.make_node("Relu", ["c"], ["map"]),
         h.make_node("GlobalAveragePool", ["map"], ["g"]),
         h.make_node("Flatten", ["g"], ["score"])],
        [("image", T.FLOAT, [1, 1, 8, 8])],
        [("score", T.FLOAT, [1, 2]), ("map", T.FLOAT, [1, 2, 8, 8])],
        [("w", weight), ("b", bias)],
    )
    # What tract is warmed up with before the worker is confined.
    (HERE.parent / "src" / "infer" / "probe.onnx").write_bytes(model.SerializeToString())
    image = (np.arange(64, dtype=np.float32).reshape(1, 1, 8, 8) % 7) / 7
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    score, feature = session.run(None, {"image": image})
    (HERE / "conv.json").write_text(json.dumps(
        {"image": image.ravel().tolist(), "score": score.ravel().tolist(), "map": feature.ravel().tolist()}) + "\n")


def two():
    """Two inputs, two outputs, a free batch: a, b [N,3] -> a + b, a * b."""
    save(
        "two",
        [h.make_node("Add", ["a", "b"], ["sum"]), h.make_node("Mul", ["a", "b"], ["product"])],
        [("a", T.FLOAT, ["N", 3]), ("b", T.FLOAT, ["N", 3])],
        [("sum", T.FLOAT, ["N", 3]), ("product", T.FLOAT, ["N", 3])],
    )


def opened():
    """Every dimension open, with a name and without: image [N,C,?,?] -> its mean [N,C], and twice the image."""
    save(
        "open",
        [h.make_node("GlobalAveragePool", ["image"], ["g"]),
         h.make_node("Flatten", ["g"], ["mean"]),
         h.make_node("Add", ["image", "image"], ["twice"])],
        [("image", T.FLOAT, ["N", "C", None, None])],
        [("mean", T.FLOAT, ["N", "C"]), ("twice", T.FLOAT, ["N", "C", None, None])],
    )


def dense():
    """A batch of any size, and 40,000 bytes of weights: x [N,100] -> y [N,100]."""
    # A generator of its own: the other models' weights do not depend on this one.
    weight = np.random.default_rng(8).normal(size=(100, 100)).astype(np.float32)
    save(
        "dense",
        [h.make_node("MatMul", ["x", "w"], ["y"])],
        [("x", T.FLOAT, ["N", 100])], [("y", T.FLOAT, ["N", 100])], [("w", weight)],
    )


def quantised():
    """The convolution of `conv` in int8, as QDQ and as QLinearConv: image [1,1,8,8] -> map [1,2,8,8] of the same scale."""
    random = np.random.default_rng(9)
    weight = random.integers(-127, 128, size=(2, 1, 3, 3)).astype(np.int8)
    bias = np.array([40, -60], np.int32)
    scales = {"xs": 1 / 255, "ws": 0.01, "ys": 0.02}
    zeros = {"xz": np.uint8(3), "wz": np.int8(0), "yz": np.uint8(117)}
    constants = [(name, np.array(value, np.float32)) for name, value in scales.items()]
    constants += [(name, np.array(value)) for name, value in zeros.items()]
    constants += [("w", weight), ("b", bias), ("bs", np.array(scales["xs"] * scales["ws"], np.float32)),
                  ("bz", np.array(0, np.int32))]
    quantise = h.make_node("QuantizeLinear", ["image", "xs", "xz"], ["xq"])
    models = {
        "qdq": [
            quantise,
            h.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["x"]),
            h.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"]),
            h.make_node("DequantizeLinear", ["b", "bs", "bz"], ["bf"]),
            h.make_node("Conv", ["x", "wf", "bf"], ["c"], pads=[1, 1, 1, 1]),
            h.make_node("QuantizeLinear", ["c", "ys", "yz"], ["yq"]),
            h.make_node("DequantizeLinear", ["yq", "ys", "yz"], ["map"]),
        ],
        "qlinear": [
            quantise,
            h.make_node("QLinearConv", ["xq", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"], ["yq"], pads=[1, 1, 1, 1]),
            h.make_node("DequantizeLinear", ["yq", "ys", "yz"], ["map"]),
        ],
    }
    image = random.random((1, 1, 8, 8)).astype(np.float32)
    out = {"image": image.ravel().tolist(), "step": scales["ys"]}
    for name, nodes in models.items():
        used = {wanted for node in nodes for wanted in node.input}
        model = save(
            name, nodes, [("image", T.FLOAT, [1, 1, 8, 8])], [("map", T.FLOAT, [1, 2, 8, 8])],
            [(constant, value) for constant, value in constants if constant in used])
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        out[name] = session.run(None, {"image": image})[0].ravel().tolist()
    (HERE / "quantised.json").write_text(json.dumps(out) + "\n")


def cast(name, onnx_type):
    """One input of a type, [2,2] -> the same doubled in f32, and unchanged in its own type."""
    save(
        name,
        [h.make_node("Cast", ["x"], ["f"], to=T.FLOAT),
         h.make_node("Add", ["f", "f"], ["double"]),
         h.make_node("Identity", ["x"], ["same"])],
        [("x", onnx_type, [2, 2])],
        [("double", T.FLOAT, [2, 2]), ("same", onnx_type, [2, 2])],
    )


def hostile():
    """Models that must be refused: data in another file, a string input, a tensor of terabytes, raw data cut."""
    weight = numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
    weight.ClearField("raw_data")
    weight.data_location = T.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", "passwd"
    graph = h.make_graph(
        [h.make_node("Add", ["x", "w"], ["y"])], "external",
        [h.make_tensor_value_info("x", T.FLOAT, [2, 2])], [h.make_tensor_value_info("y", T.FLOAT, [2, 2])], [weight])
    write_unchecked("external", graph)

    save("strings", [h.make_node("Identity", ["x"], ["y"])], [("x", T.STRING, [1])], [("y", T.STRING, [1])])

    save(
        "huge",
        [h.make_node("Expand", ["x", "shape"], ["y"])],
        [("x", T.FLOAT, [1])], [("y", T.FLOAT, [1 << 20, 1 << 20])],
        [("shape", np.array([1 << 20, 1 << 20], np.int64))],
    )

    shape = np.array([1 << 20, 1 << 20], np.int64)
    save(
        "claims_constant",
        [h.make_node("ConstantOfShape", ["shape"], ["c"]), h.make_node("ReduceSum", ["c"], ["s"], keepdims=0),
         h.make_node("Add", ["x", "s"], ["y"])],
        [("x", T.FLOAT, [1])], [("y", T.FLOAT, [1])], [("shape", shape)],
    )
    # The shape out of a node, and an operator that repeats.
    save(
        "claims_tile",
        [h.make_node("Constant", [], ["times"], value=numpy_helper.from_array(shape, "times")),
         h.make_node("Tile", ["w", "times"], ["t"]), h.make_node("ReduceSum", ["t"], ["s"], keepdims=0),
         h.make_node("Add", ["x", "s"], ["y"])],
        [("x", T.FLOAT, [1])], [("y", T.FLOAT, [1])], [("w", np.ones((1, 1), np.float32))],
    )
    large = numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
    del large.dims[:]
    large.dims.extend([1 << 20, 1 << 20])
    graph = h.make_graph(
        [h.make_node("Add", ["x", "w"], ["y"])], "claims_weights",
        [h.make_tensor_value_info("x", T.FLOAT, [2, 2])], [h.make_tensor_value_info("y", T.FLOAT, [2, 2])], [large])
    write_unchecked("claims_weights", graph)

    inner = h.make_graph([], "inner", [], [h.make_tensor_value_info("x", T.FLOAT, [1])])
    for _ in range(20):
        node = h.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=h.make_graph([], "no", [], []))
        inner = h.make_graph([node], "inner", [], [h.make_tensor_value_info("y", T.FLOAT, [1])])
    inner.input.extend([h.make_tensor_value_info("c", T.BOOL, [1])])
    write_unchecked("deep", inner)

    cut = numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
    cut.raw_data = cut.raw_data[:-3]
    graph = h.make_graph(
        [h.make_node("Add", ["x", "w"], ["y"])], "cut",
        [h.make_tensor_value_info("x", T.FLOAT, [2, 2])], [h.make_tensor_value_info("y", T.FLOAT, [2, 2])], [cut])
    write_unchecked("cut", graph)

    save(
        "unknown_operator",
        [h.make_node("Unique", ["x"], ["y"])],
        [("x", T.FLOAT, [4])], [("y", T.FLOAT, [None])],
    )


def write_unchecked(name, graph):
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 13)], producer_name="")
    model.ir_version = 8
    (HERE / f"{name}.onnx").write_bytes(model.SerializeToString())


conv()
two()
opened()
dense()
quantised()
for name, onnx_type in [("f16", T.FLOAT16), ("f64", T.DOUBLE), ("u8", T.UINT8), ("i8", T.INT8),
                        ("i32", T.INT32), ("i64", T.INT64), ("bool", T.BOOL)]:
    cast(name, onnx_type)
hostile()
