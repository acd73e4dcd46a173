"""Scores raw tensors with onnxruntime, for comparison with another engine.

Usage: python reference.py [--model FILE] TENSOR...
Each TENSOR is a file of 64*64 little-endian f32. One JSON object a line:
{"file", "score", "heat"}; `heat` is the 8x8 map, row by row.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime

SHAPE = (1, 1, 64, 64)


def tensor_from(file: Path) -> np.ndarray:
    """The tensor in one file; a wrong length ends the program with a sentence."""
    raw = file.read_bytes()
    wanted = 4 * int(np.prod(SHAPE))
    if len(raw) != wanted:
        raise SystemExit(f"{file} has {len(raw)} bytes, a tensor has {wanted}")
    return np.frombuffer(raw, "<f4").reshape(SHAPE)


def session_of(model: Path) -> onnxruntime.InferenceSession:
    """One session on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model), options, ["CPUExecutionProvider"])


def main() -> None:
    """Scores every file named on the command line."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=here / "surface-defect.onnx")
    parser.add_argument("tensors", type=Path, nargs="+", metavar="TENSOR")
    asked = parser.parse_args()
    session = session_of(asked.model)
    for file in asked.tensors:
        score, heat = session.run(["score", "heat"], {"image": tensor_from(file)})
        line = {"file": str(file), "score": float(score[0, 0])}
        print(json.dumps({**line, "heat": [float(cell) for cell in heat.ravel()]}))


if __name__ == "__main__":
    main()
