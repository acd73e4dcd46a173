"""Gives the light models of the package onnx weights, and says what onnxruntime makes of them.

Usage: python onnx_models.py FOLDER NAME...
The light models have the graphs of well-known networks, but one number for all weights, so that every output is the same. Here each weight
gets random numbers of a fixed seed. For each NAME, FOLDER then holds NAME.onnx, with the input of its softmax as an output besides,
NAME.input.f32 and for each output NAME.output-N.f32.
"""

import sys
import zlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of a size that keeps the signal as large from layer to layer; scales of half and variances
    of one, about, since sums of two branches grow."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    if len(shape) > 1:
        return random.normal(size=shape, scale=np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)
    if name.endswith("_s_0"):
        return random.uniform(0.3, 0.7, size=shape).astype(np.float32)
    if name.endswith("_riv_0"):
        return random.uniform(0.8, 1.2, size=shape).astype(np.float32)
    return random.normal(size=shape, scale=0.05).astype(np.float32)


def weighted(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with weights instead of what makes them up."""
    graph = model.graph
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    fillings = [node for node in graph.node if node.op_type == "ConstantOfShape" and node.input[0] in shapes]
    for node in fillings:
        name, shape = node.output[0], tuple(int(side) for side in shapes[node.input[0]])
        graph.node.remove(node)
        graph.initializer.append(numpy_helper.from_array(weight(name, shape), name))
    unused = {node.input[0] for node in fillings}
    for tensors in (graph.initializer, graph.input):
        for tensor in [tensor for tensor in tensors if tensor.name in unused]:
            tensors.remove(tensor)
    softmax = next(node for node in graph.node if node.op_type == "Softmax")
    graph.output.append(onnx.helper.make_empty_tensor_value_info(softmax.input[0]))
    graph.output[-1].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return model


def main() -> None:
    """Writes all of it."""
    folder = Path(sys.argv[1])
    for name in sys.argv[2:]:
        model = weighted(onnx.load(LIGHT / f"light_{name}.onnx"))
        file = folder / f"{name}.onnx"
        file.write_bytes(model.SerializeToString())
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        taken = session.get_inputs()[0]
        image = np.random.default_rng(5).random(taken.shape, dtype=np.float32)
        image.tofile(folder / f"{name}.input.f32")
        for index, output in enumerate(session.run(None, {taken.name: image})):
            output.astype("<f4").tofile(folder / f"{name}.output-{index}.f32")


if __name__ == "__main__":
    main()
