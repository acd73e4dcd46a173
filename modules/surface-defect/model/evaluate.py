"""Scores the committed held-out images with onnxruntime and prints the figures.

Usage: python evaluate.py [--write] [--fresh N]
The threshold is the one in each model's metadata, chosen on the validation region.
--write   also writes expected-scores.csv (file, score of version 1, score of version 2).
--fresh N also scores N newly drawn tiles of the test region, for a narrower estimate.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

import measure
import reference
import tensors
from make_images import FOLDER

HERE = Path(__file__).resolve().parent
MODELS = {"1": HERE / "surface-defect.onnx", "2": HERE / "surface-defect-2.onnx"}
BOX_SHARE = 0.5
"""A cell belongs to the box when its heat is at least this part of the threshold."""


def read_labels() -> list[dict[str, str]]:
    """The rows of labels.csv."""
    with open(FOLDER / "labels.csv", newline="") as file:
        return list(csv.DictReader(file))


def read_tensors(rows) -> np.ndarray:
    """The tensors of the committed images, [N, 1, 64, 64]."""
    made = []
    for row in rows:
        with Image.open(FOLDER / row["file"]) as image:
            made.append(tensors.tensor_of(np.asarray(image)))
    return np.stack(made)


def run(model: Path, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores and heat maps of all tensors, one by one as the model is static."""
    session = reference.session_of(model)
    found = [session.run(["score", "heat"], {"image": value[None]}) for value in values]
    return np.array([score[0, 0] for score, _ in found]), np.array([heat[0, 0] for _, heat in found])


def threshold_of(model: Path) -> float:
    """The threshold in the model's metadata."""
    props = {entry.key: entry.value for entry in onnx.load(model).metadata_props}
    return float(props["threshold"])


def box_from(heat: np.ndarray, limit: float, side: int) -> tuple[int, int, int, int]:
    """Box (x, y, w, h), in pixels of an image of `side`, of the cells at or above `limit`."""
    rows, columns = np.nonzero(heat >= limit)
    cell = side // heat.shape[0]
    x, y = columns.min() * cell, rows.min() * cell
    return x, y, (columns.max() + 1) * cell - x, (rows.max() + 1) * cell - y


def overlap(a, b) -> float:
    """Intersection over union of two boxes."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def boxes(rows, scores, heats, threshold) -> dict[str, float]:
    """How well the boxes of found defects meet the labelled ones."""
    ious, peaks = [], []
    for row, score, heat in zip(rows, scores, heats):
        if row["label"] == "1" and score >= threshold:
            told = tuple(int(row[key]) for key in "xywh")
            ious.append(overlap(box_from(heat, BOX_SHARE * threshold, 128), told))
            y, x = np.unravel_index(heat.argmax(), heat.shape)
            peaks.append(overlap((x * 16, y * 16, 16, 16), told) > 0)
    return {
        "box_iou_mean": round(float(np.mean(ious)), 4),
        "peak_in_box": round(float(np.mean(peaks)), 4),
    }


def by(names: np.ndarray, scores, labels, threshold) -> dict[str, dict]:
    """The figures for each name; a kind of defect is measured against all good images."""
    found = {}
    for name in np.unique(names[names != "good"]):
        of = (names == name) | ((labels == 0) & bool((names == "good").any()))
        found[str(name)] = measure.summary(scores[of], labels[of], threshold)
    return found


def main() -> None:
    """Evaluates both versions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--fresh", type=int, default=0, metavar="N")
    asked = parser.parse_args()
    rows = read_labels()
    labels = np.array([int(row["label"]) for row in rows])
    kinds = np.array([row["kind"] for row in rows])
    places = np.array([Path(row["file"]).stem.split("-")[1] for row in rows])
    values = read_tensors(rows)
    fresh = tensors.gather("test", asked.fresh, 9000) if asked.fresh else None
    columns = []
    for version, model in MODELS.items():
        threshold = threshold_of(model)
        scores, heats = run(model, values)
        columns.append(scores)
        report = {"version": version, "threshold": threshold}
        report |= measure.summary(scores, labels, threshold)
        report |= boxes(rows, scores, heats, threshold)
        report["by_surface"] = by(places, scores, labels, threshold)
        report["by_kind"] = by(kinds, scores, labels, threshold)
        if fresh:
            drawn, _ = run(model, tensors.normalised(fresh["gray"])[:, None])
            report["fresh"] = measure.summary(drawn, fresh["label"], threshold)
        print(json.dumps(report, indent=2))
    if asked.write:
        with open(HERE / "expected-scores.csv", "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["file", "score_1", "score_2"])
            for row, first, second in zip(rows, *columns):
                writer.writerow([row["file"], f"{first:.7f}", f"{second:.7f}"])


if __name__ == "__main__":
    main()
