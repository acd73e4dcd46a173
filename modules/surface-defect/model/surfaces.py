"""Photographs of good surfaces, their split by region, and tiles cut from them.

Purpose: hand out 128x128 gray tiles of undamaged surface from one named region.
Invariant: the regions are disjoint rectangles of each photograph, a guard of 4 pixels
apart. A tile is resampled from a copy of its own rectangle, so no filter can reach over
the border.
Failure: a photograph whose SHA-256 is not the one named here is refused.
"""

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import skimage
from PIL import Image

SIDE = 128
"""Edge of a tile, and of a committed image, in pixels."""

PHOTOGRAPHS = {
    "brick": "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
    "gravel": "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
    "grass": "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
}
"""SHA-256 of each photograph's PNG file, as scikit-image's own registry states it."""

REGIONS = {
    "train": (0, 0, 254, 512),
    "later": (258, 0, 382, 254),
    "validation": (258, 258, 382, 512),
    "test": (386, 0, 512, 512),
}
"""Left, top, right and bottom edge of each region in each 512x512 photograph.

`later` is surface that version 2 saw and version 1 did not.
"""

CROP = (76.0, 122.0)
"""Smallest and largest edge of the part that becomes one tile, in the photograph's pixels."""


@cache
def patch(surface: str, region: str) -> Image.Image:
    """The part of one photograph that one region may see."""
    file = Path(skimage.__file__).parent / "data" / f"{surface}.png"
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != PHOTOGRAPHS[surface]:
        raise SystemExit(
            f"{file} has SHA-256 {found}, not {PHOTOGRAPHS[surface]}; "
            "install the scikit-image version that requirements.txt names"
        )
    with Image.open(file) as photograph:
        return photograph.convert("L").crop(REGIONS[region])


def clean_tile(surface: str, region: str, rng: np.random.Generator) -> np.ndarray:
    """One undamaged tile: `SIDE` x `SIDE`, f32 in 0..1, any of the eight orientations.

    In the training region, which is wide enough for it, tiles are also turned by any angle.
    """
    source = patch(surface, region)
    edge = rng.uniform(*CROP)
    turn = rng.uniform(-np.pi / 4, np.pi / 4) if region == "train" else 0.0
    need = edge * (np.cos(turn) + abs(np.sin(turn))) / 2
    x = rng.uniform(need, source.width - need)
    y = rng.uniform(need, source.height - need)
    scale = edge / SIDE
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    half = SIDE / 2
    corner = (x - half * (cos - sin), y - half * (sin + cos))
    affine = (cos, -sin, corner[0], sin, cos, corner[1])
    tile = source.transform((SIDE, SIDE), Image.AFFINE, affine, Image.BICUBIC)
    pixels = np.rot90(np.asarray(tile, np.float32) / 255, rng.integers(4))
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels


def exposed(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a camera makes of a tile: light, blur, noise; 8 bits."""
    grid = np.linspace(-1, 1, SIDE, dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    slope = np.cos(angle) * grid[None, :] + np.sin(angle) * grid[:, None]
    shade = 1 + rng.uniform(0, 0.15) * slope
    middle = pixels.mean()
    lit = (middle + (pixels - middle) * rng.uniform(0.7, 1.25)) * shade
    lit = lit + rng.uniform(-0.12, 0.12)
    seen = blurred(lit, rng.uniform(0, 0.9))
    seen = seen + rng.normal(0, rng.uniform(0.002, 0.012), seen.shape)
    return np.clip(np.rint(seen * 255), 0, 255).astype(np.uint8)


def blurred(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur, separable, edges repeated. `sigma` in pixels."""
    if sigma < 0.2:
        return pixels
    reach = int(np.ceil(3 * sigma))
    steps = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (steps / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        pad = [(reach, reach) if a == axis else (0, 0) for a in (0, 1)]
        wide = np.pad(pixels, pad, mode="edge")
        size = pixels.shape[axis]
        pixels = sum(
            weight * np.take(wide, range(i, i + size), axis) for i, weight in enumerate(kernel)
        )
    return pixels
