"""From an 8-bit gray image to the model's input, and whole sets of labelled tiles.

Purpose: the one definition of how pixels become a tensor; training, evaluation and the
host prepare it the same way.
tensor = (gray / 255 - MEAN) / STD, after an antialiased bilinear resize to INPUT x INPUT
that rounds to 8 bits.
"""

import numpy as np
from PIL import Image

import defects
import surfaces

INPUT = 64
"""Edge of the model's input, in pixels."""

CELLS = 8
"""Edge of the heat map, in cells; one cell is INPUT / CELLS pixels of the input."""

MEAN = 0.5
STD = 0.25


def tensor_of(gray: np.ndarray) -> np.ndarray:
    """The model's input, [1, INPUT, INPUT] f32, for an 8-bit gray image of any size."""
    small = Image.fromarray(gray).resize((INPUT, INPUT), Image.BILINEAR)
    return normalised(np.asarray(small))[None]


def normalised(gray: np.ndarray) -> np.ndarray:
    """Gray levels 0..255 to the range the model expects, f32."""
    return ((gray.astype(np.float32) / 255 - MEAN) / STD).astype(np.float32)


def cells_of(cover: np.ndarray) -> np.ndarray:
    """What each cell of the heat map should say: 1 defect, 0 none, -1 too little to say."""
    edge = surfaces.SIDE // CELLS
    share = cover.reshape(CELLS, edge, CELLS, edge).mean((1, 3))
    if share.max() <= 0:
        return np.zeros((CELLS, CELLS), np.int8)
    limit = min(0.08, 0.5 * float(share.max()))
    return np.where(share >= limit, 1, np.where(share > 0.005, -1, 0)).astype(np.int8)


def labelled(surface: str, region: str, kind: str, rng: np.random.Generator):
    """One 8-bit image with its coverage; `kind` is `good` or one of `defects.KINDS`."""
    pixels = surfaces.clean_tile(surface, region, rng)
    cover = np.zeros_like(pixels)
    if kind != "good":
        pixels, cover = defects.damaged(pixels, kind, rng)
    return surfaces.exposed(pixels, rng), cover


def gather(region: str, count: int, seed: int) -> dict[str, np.ndarray]:
    """`count` tiles of one region, half of them good, every surface and kind in turn."""
    rng = np.random.default_rng(seed)
    names = list(surfaces.PHOTOGRAPHS)
    gray = np.empty((count, INPUT, INPUT), np.uint8)
    cells = np.empty((count, CELLS, CELLS), np.int8)
    kinds, places = [], []
    for i in range(count):
        surface = names[i % len(names)]
        turn = i // len(names)
        kind = "good" if turn % 2 == 0 else defects.KINDS[turn // 2 % len(defects.KINDS)]
        image, cover = labelled(surface, region, kind, rng)
        small = Image.fromarray(image).resize((INPUT, INPUT), Image.BILINEAR)
        gray[i], cells[i] = np.asarray(small), cells_of(cover)
        kinds.append(kind)
        places.append(surface)
    kinds = np.array(kinds)
    return {
        "gray": gray,
        "cells": cells,
        "kind": kinds,
        "surface": np.array(places),
        "label": (kinds != "good").astype(np.int8),
    }
