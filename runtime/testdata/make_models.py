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
for name, onnx_type in [("f16", T.FLOAT16), ("f64", T.DOUBLE), ("u8", T.UINT8), ("i8", T.INT8),
                        ("i32", T.INT32), ("i64", T.INT64), ("bool", T.BOOL)]:
    cast(name, onnx_type)
hostile()
