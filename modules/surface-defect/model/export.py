"""Writes the trained network as ONNX.

Purpose: one static graph of Conv, Relu, MaxPool, Sigmoid and Flatten in f32.
Invariant: two versions that differ only in their last layers give files that differ only
near the end: initialisers are raw bytes in the order of the layers, weights of the head
last, and what names the version stands in the metadata, which comes after the graph.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

import network
import tensors

OPSET = 13
IR_VERSION = 8


def write(file: Path, weights, version: str, threshold: float) -> None:
    """Builds, checks and writes one version."""
    model = helper.make_model(
        graph_of(weights),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="sanderling surface-defect",
    )
    helper.set_model_props(
        model,
        {
            "version": version,
            "threshold": f"{threshold:.2f}",
            "mean": str(tensors.MEAN),
            "std": str(tensors.STD),
            "input_range": "(gray / 255 - mean) / std",
            "resize": "bilinear, antialiased",
            "classes": "good,defect",
            "licence": "MIT OR Apache-2.0",
        },
    )
    onnx.checker.check_model(model, full_check=True)
    file.write_bytes(model.SerializeToString(deterministic=True))


def graph_of(weights) -> onnx.GraphProto:
    """The graph: layers, then the heat map, then its largest cell as the score."""
    nodes, constants = [], []
    value, edge = "image", tensors.INPUT
    for name, _, _, kernel, stride, pooled in network.LAYERS:
        for part in ("weight", "bias"):
            constants.append(constant(f"{name}.{part}", weights[name][part]))
        nodes.append(convolution(name, value, kernel, stride))
        value, edge = name, edge // stride
        if name != "heat":
            nodes.append(helper.make_node("Relu", [value], [f"{name}.relu"], f"{name}.relu"))
            value = f"{name}.relu"
        if pooled:
            nodes.append(pool(value, f"{name}.pool", 2))
            value, edge = f"{name}.pool", edge // 2
    # The raw output of the last layer is named apart from the graph's output.
    nodes[-1].output[0] = "heat.logit"
    nodes.append(helper.make_node("Sigmoid", ["heat.logit"], ["heat"], "heat.sigmoid"))
    nodes.append(pool("heat", "peak", edge))
    nodes.append(helper.make_node("Flatten", ["peak"], ["score"], "score", axis=1))
    side = tensors.INPUT
    return helper.make_graph(
        nodes,
        "surface-defect",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, side, side])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, [1, 1]),
            helper.make_tensor_value_info("heat", TensorProto.FLOAT, [1, 1, edge, edge]),
        ],
        constants,
    )


def convolution(name: str, value: str, kernel: int, stride: int) -> onnx.NodeProto:
    """A convolution that divides height and width by `stride`."""
    return helper.make_node(
        "Conv",
        [value, f"{name}.weight", f"{name}.bias"],
        [name],
        name,
        kernel_shape=[kernel, kernel],
        pads=[kernel // 2] * 4,
        strides=[stride, stride],
        dilations=[1, 1],
        group=1,
    )


def pool(value: str, name: str, size: int) -> onnx.NodeProto:
    """Max-pooling over squares of `size`, side by side."""
    return helper.make_node(
        "MaxPool", [value], [name], name, kernel_shape=[size, size], strides=[size, size]
    )


def constant(name: str, values) -> onnx.TensorProto:
    """An initialiser as raw little-endian f32."""
    plain = np.ascontiguousarray(values, dtype="<f4")
    return helper.make_tensor(name, TensorProto.FLOAT, plain.shape, plain.tobytes(), raw=True)
