"""Makes the committed held-out images and their labels from the test region.

Usage: python make_images.py
Writes ../images/held-out/*.png (128x128, 8-bit gray) and ../images/held-out/labels.csv.
For each surface 20 good images and 5 of each kind of defect, drawn once with a fixed seed;
none is left out or drawn again.
"""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

import defects
import surfaces
import tensors

SEED = 7
EACH = 5
FOLDER = Path(__file__).resolve().parent.parent / "images" / "held-out"


def plan() -> list[tuple[str, str]]:
    """Every (surface, kind) to draw, good and defective in turn."""
    pairs = []
    for _ in range(EACH):
        for kind in defects.KINDS:
            for surface in surfaces.PHOTOGRAPHS:
                pairs += [(surface, "good"), (surface, kind)]
    return pairs


def main() -> None:
    """Draws the images in a mixed order and writes them."""
    rng = np.random.default_rng(SEED)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob("*.png"):
        old.unlink()
    pairs = plan()
    rows = []
    for number, at in enumerate(rng.permutation(len(pairs))):
        surface, kind = pairs[at]
        image, cover = tensors.labelled(surface, "test", kind, rng)
        name = f"{number:03d}-{surface}.png"
        Image.fromarray(image).save(FOLDER / name, optimize=True)
        box = defects.box_of(cover) if kind != "good" else ("", "", "", "")
        rows.append([name, int(kind != "good"), kind, *box])
    with open(FOLDER / "labels.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "label", "kind", "x", "y", "w", "h"])
        writer.writerows(rows)
    size = sum(file.stat().st_size for file in FOLDER.iterdir())
    print(f"{len(rows)} images, {size / 1e6:.2f} MB in {FOLDER}")


if __name__ == "__main__":
    main()
