"""Crops and resizes images with Pillow, for comparison with the runtime.

Usage: python pillow_resize.py CASES.json
CASES.json is a list of {file, mode, width, height, crop, size, filter, gray, out}: raw pixels are read from `file`, cropped, resized,
made gray where `gray` says so, and written raw to `out`.
"""

import json
import sys
from pathlib import Path

from PIL import Image

FILTERS = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR, "area": Image.Resampling.BOX}


def main() -> None:
    """Works on every case of the file named on the command line."""
    for case in json.loads(Path(sys.argv[1]).read_text()):
        x, y, width, height = case["crop"]
        image = Image.frombytes(case["mode"], (case["width"], case["height"]), Path(case["file"]).read_bytes())
        image = image.crop((x, y, x + width, y + height)).resize(case["size"], FILTERS[case["filter"]])
        if case["gray"]:
            image = image.convert("L")
        Path(case["out"]).write_bytes(image.tobytes())


if __name__ == "__main__":
    main()
