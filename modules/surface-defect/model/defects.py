"""Generated defects: scratches, dents, stains and holes.

Purpose: damage a clean tile and say where.
Invariant: a defect goes onto the surface before light, blur and noise do, so that its
edges are no sharper than the surface's own.
Contrast is a multiple of the tile's own standard deviation (`STRENGTH`), never less than
`LEAST`; nothing is thrown away for being hard to see.
"""

import numpy as np
from PIL import Image, ImageDraw

from surfaces import SIDE, blurred

KINDS = ("scratch", "dent", "stain", "hole")

STRENGTH = {
    "scratch": (2.4, 4.4),
    "dent": (1.8, 3.6),
    "stain": (1.5, 3.0),
    "hole": (1.8, 3.2),
}
"""Contrast of each kind, drawn evenly, in standard deviations of the clean tile."""

LEAST = 0.08
"""Smallest contrast, as a part of full scale, for tiles that are nearly even."""

FINER = 4
"""Shapes are drawn this much larger, then averaged down, so that edges are smooth."""


def damaged(clean: np.ndarray, kind: str, rng: np.random.Generator):
    """The tile with one defect of `kind`, and the defect's coverage (0..1 a pixel)."""
    contrast = max(rng.uniform(*STRENGTH[kind]) * float(clean.std()), LEAST)
    return {"scratch": scratch, "dent": dent, "stain": stain, "hole": hole}[kind](
        clean, contrast, rng
    )


def scratch(clean, contrast, rng):
    """A thin, slightly bent line of an even shade, fading at its ends."""
    length = rng.uniform(64, 130)
    angle = rng.uniform(0, np.pi)
    bend = rng.normal(0, 0.12) * length
    centre = rng.uniform(0.3 * SIDE, 0.7 * SIDE, 2)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    t = np.linspace(-1, 1, 40)[:, None]
    path = centre + t * along * length / 2 + (1 - t**2) * across * bend
    path += np.cumsum(rng.normal(0, 0.12, (40, 1)), 0) * across
    width = rng.uniform(2.4, 4.6)
    sheet, pen = blank()
    for i, (start, end) in enumerate(zip(path[:-1], path[1:])):
        thick = width * (0.55 + 0.45 * np.sin(np.pi * (i + 0.5) / 39))
        pen.line(
            [tuple(start * FINER), tuple(end * FINER)],
            fill=255,
            width=max(round(thick * FINER), 2),
        )
    cover = finish(sheet, 0.4)
    sign = 1 if rng.random() < 0.45 else -1
    shade = clean.mean() + sign * contrast
    weight = cover * rng.uniform(0.85, 1.0)
    return clean * (1 - weight) + shade * weight, cover


def dent(clean, contrast, rng):
    """A hollow: one flank in shadow, the other in light, the texture still there."""
    radius = rng.uniform(11, 26)
    cx, cy = rng.uniform(0.2 * SIDE, 0.8 * SIDE, 2)
    stretch = rng.uniform(0.75, 1.3)
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    u, v = (x - cx) / (radius * stretch), (y - cy) / (radius / stretch)
    depth = np.exp(-2 * (u**2 + v**2))
    light = rng.uniform(0, 2 * np.pi)
    flank = (np.cos(light) * u + np.sin(light) * v) * depth / 0.303
    cover = np.where(u**2 + v**2 < 1.0, 1.0, 0.0)
    return clean + 1.2 * contrast * flank - 0.25 * contrast * depth, cover


def stain(clean, contrast, rng):
    """An uneven patch that pulls the surface to one shade, with a soft rim."""
    cover = blob(rng, rng.uniform(12, 28), 0.28, rng.uniform(1.0, 3.0))
    sign = 1 if rng.random() < 0.35 else -1
    shade = clean.mean() + sign * contrast
    weight = cover * rng.uniform(0.6, 0.95)
    return clean * (1 - weight) + shade * weight, cover


def hole(clean, contrast, rng):
    """A missing piece: nearly black, sharp, with a thin lit rim on one side."""
    radius = rng.uniform(7, 16)
    cover = blob(rng, radius, 0.12, 0.5)
    floor = max(float(clean.mean()) - contrast, 0.02) * rng.uniform(0.35, 0.8)
    inside = clean * (1 - cover) + floor * cover
    shift = rng.integers(1, 3, 2) * rng.choice([-1, 1], 2)
    rim = np.clip(np.roll(cover, tuple(shift), (0, 1)) - cover, 0, 1)
    return inside + rim * contrast * rng.uniform(0.0, 0.5), cover


def blob(rng, radius, roughness, softness):
    """Coverage of one closed, uneven shape of about `radius` pixels."""
    centre = rng.uniform(0.2 * SIDE, 0.8 * SIDE, 2)
    turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    reach = np.ones_like(turn)
    for wave in range(2, 7):
        reach += roughness / wave * rng.normal() * np.cos(wave * turn + rng.uniform(0, 7))
    reach = radius * np.clip(reach, 0.4, 1.8)
    stretch = rng.uniform(0.75, 1.3)
    x = centre[0] + reach * np.cos(turn) * stretch
    y = centre[1] + reach * np.sin(turn) / stretch
    sheet, pen = blank()
    pen.polygon(list(zip(x * FINER, y * FINER)), fill=255)
    return finish(sheet, softness)


def blank():
    """An empty sheet and a pen for it."""
    sheet = Image.new("L", (SIDE * FINER, SIDE * FINER))
    return sheet, ImageDraw.Draw(sheet)


def finish(sheet, softness):
    """Averages a sheet down to a tile and softens its edge (pixels)."""
    small = sheet.resize((SIDE, SIDE), Image.BOX)
    return blurred(np.asarray(small, np.float32) / 255, softness)


def box_of(cover: np.ndarray) -> tuple[int, int, int, int]:
    """Bounding box (x, y, width, height) in pixels of where coverage is at least a half."""
    rows, columns = np.nonzero(cover >= 0.5 * cover.max())
    x, y = int(columns.min()), int(rows.min())
    return x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1
