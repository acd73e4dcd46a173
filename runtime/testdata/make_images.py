"""Writes the small images and resizing vectors that the runtime's tests read.

    pip install pillow numpy
    python3 make_images.py

Seeds are fixed. `resize.json` holds what Pillow makes of one 17x13 image; the PNG and JPEG files are inputs of the
decoders, and `decoded.json` is what Pillow reads in them.
"""

import json
import pathlib

import numpy as np
from PIL import Image

HERE = pathlib.Path(__file__).parent
RANDOM = np.random.default_rng(11)


def smooth(width, height, channels):
    """Waves and some noise: edges as well as flat parts."""
    y, x, c = np.mgrid[0:height, 0:width, 0:channels]
    waves = 128 + 60 * np.sin(x / 3 + c) + 50 * np.cos(y / 2 - c)
    return np.clip(waves + RANDOM.normal(scale=12, size=waves.shape), 0, 255).astype(np.uint8)


def flat(image):
    return np.asarray(image).ravel().tolist()


def resizing():
    pixels = smooth(17, 13, 3)
    rgb = Image.fromarray(pixels, "RGB")
    gray = rgb.convert("L")
    filters = {"nearest": Image.NEAREST, "bilinear": Image.BILINEAR, "area": Image.BOX}
    cases = []
    for name, mode in filters.items():
        for crop in [None, (3, 2, 11, 9)]:
            for size in [(6, 5), (17, 5), (6, 13), (22, 16), (1, 1)]:
                cut = lambda image: image.crop((crop[0], crop[1], crop[0] + crop[2], crop[1] + crop[3])) if crop else image
                cases.append({
                    "filter": name, "crop": crop or [0, 0, 0, 0], "size": size,
                    "gray": flat(cut(gray).resize(size, mode)), "rgb": flat(cut(rgb).resize(size, mode)),
                })
    out = {"width": 17, "height": 13, "rgb": flat(rgb), "gray": flat(gray), "cases": cases}
    (HERE / "resize.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")


def decoding():
    rgb = Image.fromarray(smooth(19, 13, 3), "RGB")
    gray = rgb.convert("L")
    alpha = Image.fromarray(smooth(19, 13, 1)[:, :, 0], "L")
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    gray_alpha = Image.merge("LA", (gray, alpha))
    palette = rgb.quantize(16)
    bits = gray.point(lambda value: 255 * (value > 128)).convert("1")
    wide = Image.fromarray((smooth(19, 13, 1)[:, :, 0].astype(np.uint16) << 8) + 77)
    decoded = {}

    def add(name, image, **options):
        image.save(HERE / name, **options)
        read = Image.open(HERE / name)
        if read.mode.startswith("I"):
            high = Image.fromarray((np.asarray(read).astype(np.uint32) >> 8).astype(np.uint8), "L")
            decoded[name] = {"gray": flat(high), "rgb": flat(high.convert("RGB"))}
        else:
            # Palette and bits through RGB, since that is what the file says.
            if read.mode in ("P",):
                read = read.convert("RGB")
            gray_read = Image.open(HERE / name) if name.endswith("jpg") else read
            if gray_read.mode == "RGB" and name.endswith("jpg"):
                # The luma that the file holds, not the one of clipped colours.
                gray_read.draft("L", gray_read.size)
            decoded[name] = {"gray": flat(gray_read.convert("L")), "rgb": flat(read.convert("RGB"))}

    add("rgb.png", rgb)
    add("gray.png", gray)
    add("rgba.png", rgba)
    add("gray_alpha.png", gray_alpha)
    add("palette.png", palette)
    add("bits.png", bits)
    add("gray16.png", wide)
    add("rgb.jpg", rgb, quality=92, subsampling=0)
    add("rgb420.jpg", rgb, quality=90, subsampling=2)
    add("gray.jpg", gray, quality=92)
    add("progressive.jpg", rgb, quality=92, subsampling=0, progressive=True)
    add("cmyk.jpg", rgb.convert("CMYK"), quality=92)
    (HERE / "decoded.json").write_text(
        json.dumps({"width": 19, "height": 13, "files": decoded}, separators=(",", ":")) + "\n")


resizing()
decoding()
