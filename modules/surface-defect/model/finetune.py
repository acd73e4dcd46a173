"""Makes version 2 from version 1: trains the last two layers further.

Usage: python finetune.py [--out FOLDER]
Reads surface-defect.onnx from FOLDER and writes surface-defect-2.onnx there. The layers in
`network.HEAD` are trained on tiles of the training region and of the region `later`, which
version 1 never saw; every other weight is kept, bit for bit.
Every CHECK steps the head is measured on the validation region; the best one is kept.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from onnx import numpy_helper

import measure
import network
import tensors
import train

SEED = 20262
BATCH = 256
STEPS = 600
CHECK = 20
RATE = 5e-4
TILES = 9000


def read(file: Path) -> dict[str, dict[str, jax.Array]]:
    """The weights in an ONNX file that `export` wrote."""
    weights = {name: {} for name, *_ in network.LAYERS}
    for constant in onnx.load(file).graph.initializer:
        layer, part = constant.name.split(".")
        weights[layer][part] = jnp.asarray(numpy_helper.to_array(constant))
    return weights


def features_of(weights, gray, rng) -> np.ndarray:
    """What the head sees of each tile; re-lit at random when `rng` is given."""
    body = tuple(name for name, *_ in network.LAYERS if name not in network.HEAD)
    forward = jax.jit(lambda values: network.run(weights, values, body))
    values = tensors.normalised(gray)[:, None]
    if rng is not None:
        gain = rng.uniform(0.85, 1.15, (len(values), 1, 1, 1)).astype(np.float32)
        values = values * gain + rng.uniform(-0.3, 0.3, gain.shape).astype(np.float32)
    return np.concatenate([forward(part) for part in np.array_split(values, len(values) // 300)])


def train_head(weights, tiles, checked):
    """Trains the head; returns all weights with the head that validated best."""
    rng = np.random.default_rng(SEED)
    seen = features_of(weights, tiles["gray"], rng)
    unseen = features_of(weights, checked["gray"], None)
    top = jax.jit(lambda head: network.run(head, unseen, network.HEAD).max((1, 2, 3)))
    head = {name: jax.tree.map(jnp.array, weights[name]) for name in network.HEAD}
    moments = network.rest(head)
    train.say(f"version 1: AUC {measure.auc(np.asarray(top(head)), checked['label']):.5f}")
    best, kept, kept_at = 0.0, head, 0
    for done in range(1, STEPS + 1):
        chosen = rng.integers(0, len(seen), BATCH)
        rate = train.rate_at(done - 1, STEPS, RATE)
        head, moments, _ = network.step(
            head, moments, seen[chosen], tiles["cells"][chosen], rate, float(done), network.HEAD
        )
        if done % CHECK == 0:
            found = measure.auc(np.asarray(top(head)), checked["label"])
            if found > best:
                best, kept_at = found, done
                kept = jax.tree.map(jnp.array, head)
    train.say(f"kept the head of step {kept_at}: AUC {best:.5f}")
    return {**weights, **kept}


def main() -> None:
    """Makes the tiles, trains the head, writes version 2 and its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    parts = [train.gather("train", TILES, 3000), train.gather("later", TILES, 4000)]
    tiles = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    checked = train.gather("validation", train.VALIDATION_TILES, 2000)
    weights = train_head(read(out / "surface-defect.onnx"), tiles, checked)
    train.finish(out, "surface-defect-2", "2", weights, checked)


if __name__ == "__main__":
    main()
