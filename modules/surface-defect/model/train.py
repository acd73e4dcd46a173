"""Trains version 1 of the surface-defect model and writes it as ONNX.

Usage: python train.py [--out FOLDER]
The threshold is chosen on the validation region. The test region is not read here.
Version 2 is made from version 1 by finetune.py.
"""

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import export
import measure
import network
import tensors

SEED = 20261
BATCH = 64
STEPS = 2400
RATE = 4e-3
TRAIN_TILES = 18000
FOLD_TILES = 1500
VALIDATION_TILES = 3000
STARTED = time.monotonic()


def say(text: str) -> None:
    """Prints progress with the seconds since the start."""
    print(f"[{time.monotonic() - STARTED:6.1f} s] {text}", flush=True)


def gather(region: str, count: int, seed: int) -> dict[str, np.ndarray]:
    """Tiles of one region, made by two processes; the result depends on the seed alone."""
    parts = 6
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        seeds = [seed + i for i in range(parts)]
        made = list(pool.map(tensors.gather, [region] * parts, [count // parts] * parts, seeds))
    return {key: np.concatenate([part[key] for part in made]) for key in made[0]}


def batch_of(tiles, chosen, rng):
    """Tensors and cells of the chosen tiles, turned, mirrored and re-lit at random."""
    values = tensors.normalised(tiles["gray"][chosen])
    gain = rng.uniform(0.85, 1.15, (len(chosen), 1, 1)).astype(np.float32)
    shift = rng.uniform(-0.3, 0.3, (len(chosen), 1, 1)).astype(np.float32)
    values = values * gain + shift
    cells = tiles["cells"][chosen]
    turn = int(rng.integers(4))
    values, cells = np.rot90(values, turn, (1, 2)), np.rot90(cells, turn, (1, 2))
    if rng.random() < 0.5:
        values, cells = values[:, :, ::-1], cells[:, :, ::-1]
    return np.ascontiguousarray(values[:, None]), np.ascontiguousarray(cells)


def batches(count: int, steps: int, rng):
    """Index sets that walk through all tiles in fresh orders."""
    order, at = rng.permutation(count), 0
    for _ in range(steps):
        if at + BATCH > count:
            order, at = rng.permutation(count), 0
        yield order[at : at + BATCH]
        at += BATCH


def rate_at(done: int, steps: int, top: float) -> float:
    """Warm-up over a twentieth of the steps, then a cosine down to 1% of `top`."""
    warm = steps // 20
    if done < warm:
        return top * (done + 1) / warm
    part = (done - warm) / (steps - warm)
    return top * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * part)))


def train_all(tiles, checked):
    """Trains the whole network."""
    rng = np.random.default_rng(SEED + 1)
    weights = network.start(SEED)
    moments = network.rest(weights)
    for done, chosen in enumerate(batches(len(tiles["label"]), STEPS, rng)):
        values, cells = batch_of(tiles, chosen, rng)
        rate = rate_at(done, STEPS, RATE)
        weights, moments, loss = network.step(weights, moments, values, cells, rate, done + 1.0)
        if (done + 1) % 100 == 0:
            say(f"step {done + 1}: loss {float(loss):.4f}")
        if (done + 1) % 800 == 0 or done + 1 == STEPS:
            plain = network.folded(weights, tensors.normalised(tiles["gray"][:FOLD_TILES])[:, None])
            say(json.dumps(figures(scores_of(plain, checked), checked)))
    return plain


def scores_of(weights, tiles) -> np.ndarray:
    """The score of every tile: the largest cell of its heat map."""
    forward = jax.jit(lambda values: jax.nn.sigmoid(network.run(weights, values)).max((1, 2, 3)))
    values = tensors.normalised(tiles["gray"])[:, None]
    return np.concatenate([forward(part) for part in np.array_split(values, len(values) // 250)])


def figures(scores, tiles) -> dict:
    """The threshold chosen on these tiles and what it gives, also by surface and kind."""
    labels = tiles["label"]
    threshold = measure.best_threshold(scores, labels)
    surfaces = {
        str(name): round(measure.auc(scores[of], labels[of]), 4)
        for name in np.unique(tiles["surface"])
        if (of := tiles["surface"] == name).any()
    }
    kinds = {
        str(name): round(measure.auc(scores[of], labels[of]), 4)
        for name in np.unique(tiles["kind"])
        if name != "good" and (of := (tiles["kind"] == name) | (labels == 0)).any()
    }
    whole = measure.summary(scores, labels, threshold)
    return {"threshold": threshold, **whole, "auc_by_surface": surfaces, "auc_by_kind": kinds}


def finish(folder: Path, name: str, version: str, weights, checked) -> None:
    """Writes one version as ONNX, and its figures on the validation region beside it."""
    report = figures(scores_of(weights, checked), checked)
    export.write(folder / f"{name}.onnx", weights, version, report["threshold"])
    (folder / f"{name}.validation.json").write_text(json.dumps(report, indent=2) + "\n")
    say(f"version {version}: {json.dumps(report)}")


def main() -> None:
    """Makes the tiles, trains, writes the model and its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    tiles = gather("train", TRAIN_TILES, 1000)
    checked = gather("validation", VALIDATION_TILES, 2000)
    say(f"{len(tiles['label'])} tiles to train on, {len(checked['label'])} to validate on")
    finish(out, "surface-defect", "1", train_all(tiles, checked), checked)


if __name__ == "__main__":
    main()
