"""The network: layers, forward pass, loss and Adam, in plain jax.

Purpose: one table of layers that training and the ONNX export both follow.
Shape: [N, 1, 64, 64] in; logits of an 8x8 heat map out. Padding is 1 for 3x3, 0 for 1x1.
The score of an image is the largest cell of its heat map.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

LAYERS = (
    # name, channels in, channels out, kernel, stride, max-pool by 2 afterwards
    ("stem", 1, 16, 5, 2, False),
    ("texture", 16, 24, 3, 1, True),
    ("part1", 24, 32, 3, 1, False),
    ("part2", 32, 32, 3, 1, True),
    ("region1", 32, 48, 3, 1, False),
    ("region2", 48, 48, 3, 1, False),
    ("decide", 48, 32, 1, 1, False),
    ("heat", 32, 1, 1, 1, False),
)
"""All layers in order. All but the last are followed by Relu."""

HEAD = ("decide", "heat")
"""The layers that version 2 trains further; they are last in the file."""


def start(seed: int) -> dict[str, dict[str, jax.Array]]:
    """Fresh weights, He-scaled. Layers before the head are normalised while training."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, taken, given, kernel, _, _ in LAYERS:
        scale = np.sqrt(2 / (taken * kernel * kernel))
        drawn = rng.normal(0, scale, (given, taken, kernel, kernel))
        bias = np.full(given, -2.0 if name == "heat" else 0.0)
        weights[name] = {
            "weight": jnp.asarray(drawn, jnp.float32),
            "bias": jnp.asarray(bias, jnp.float32),
        }
        if name not in HEAD:
            weights[name]["gain"] = jnp.ones(given, jnp.float32)
    return weights


def run(weights, values, names=None):
    """Runs the named layers (all of them unless told) over `values`, NCHW.

    Inside it is NHWC, which is the faster order on a CPU. A layer that has a `gain` is
    normalised over the batch; `folded` turns that into plain weights.
    """
    values = values.transpose(0, 2, 3, 1)
    for layer in LAYERS:
        if names is None or layer[0] in names:
            values = after(layer, weights[layer[0]], convolved(layer, weights[layer[0]], values))
    return values.transpose(0, 3, 1, 2)


def convolved(layer, own, values):
    """The convolution alone, NHWC, without its bias."""
    _, _, _, kernel, stride, _ = layer
    pad = (kernel // 2, kernel // 2)
    return lax.conv_general_dilated(
        values,
        own["weight"].transpose(2, 3, 1, 0),
        (stride, stride),
        [pad, pad],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def after(layer, own, values):
    """What follows the convolution: normalisation or bias alone, pooling, Relu."""
    if "gain" in own:
        mean, spread = statistics(values)
        values = (values - mean) * (own["gain"] / spread)
    values = values + own["bias"]
    if layer[5]:
        values = halved(values)
    return values if layer[0] == "heat" else jax.nn.relu(values)


def statistics(values):
    """Mean and standard deviation of each channel over a batch, NHWC."""
    mean = values.mean((0, 1, 2))
    variance = (values * values).mean((0, 1, 2)) - mean * mean
    return mean, jnp.sqrt(jnp.maximum(variance, 0) + 1e-5)


def folded(weights, values):
    """Plain weights and biases that do what the normalised layers do.

    The statistics are those of `values`, NCHW, taken layer by layer after the layers
    before it have been folded.
    """
    plain = {}
    values = values.transpose(0, 2, 3, 1)
    for layer in LAYERS:
        own = weights[layer[0]]
        raw = convolved(layer, own, values)
        plain[layer[0]] = {"weight": own["weight"], "bias": own["bias"]}
        if "gain" in own:
            mean, spread = statistics(raw)
            factor = own["gain"] / spread
            plain[layer[0]] = {
                "weight": own["weight"] * factor[:, None, None, None],
                "bias": own["bias"] - mean * factor,
            }
        values = after(layer, plain[layer[0]], convolved(layer, plain[layer[0]], values))
    return plain


def halved(values):
    """Max-pooling by 2, NHWC; a reshape, since its gradient is cheaper than a window's."""
    count, height, width, channels = values.shape
    parts = values.reshape(count, height // 2, 2, width // 2, 2, channels)
    return parts.max((2, 4))


def loss_of(weights, values, cells, names=None):
    """Cross-entropy of the image's score plus that of the cells that are certain."""
    logits = run(weights, values, names)[:, 0]
    sure = (cells >= 0).astype(jnp.float32)
    wanted = (cells == 1).astype(jnp.float32)
    by_cell = cross_entropy(logits, wanted) * sure * (1 + 2 * wanted)
    top = logits.max((1, 2))
    by_image = cross_entropy(top, wanted.max((1, 2)))
    return by_image.mean() + 2 * by_cell.sum() / sure.sum()


def cross_entropy(logits, wanted):
    """Binary cross-entropy of logits, stable for large values."""
    return jax.nn.softplus(logits) - logits * wanted


@partial(jax.jit, static_argnames=("names",), donate_argnums=(0, 1))
def step(weights, moments, values, cells, rate, count, names=None):
    """One Adam step with decoupled weight decay; returns weights, moments and the loss."""
    loss, slope = jax.value_and_grad(loss_of)(weights, values, cells, names)
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, moments[0], slope)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, moments[1], slope)

    def moved(w, m, v):
        size = m / (1 - 0.9**count) / (jnp.sqrt(v / (1 - 0.999**count)) + 1e-8)
        return w - rate * (size + 1e-3 * w)

    return jax.tree.map(moved, weights, first, second), (first, second), loss


def rest(weights):
    """Adam's moments before the first step."""
    zero = jax.tree.map(jnp.zeros_like, weights)
    return zero, jax.tree.map(jnp.zeros_like, weights)
