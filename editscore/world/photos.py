"""Real photographs for backgrounds, where scikit-image is installed. The core never needs them."""

import importlib.util
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image as PillowImage

from editscore.types import InvalidInputError
from editscore.world.records import Pixels, Split

# Photographs that lie in scikit-image's wheel itself (nothing is downloaded), by split: what is trained on is not reported on.
_TRAIN: Final = ("astronaut.png", "coffee.png", "motorcycle_left.png", "rocket.jpg", "grass.png", "gravel.png", "camera.png")
_HELD_OUT: Final = ("chelsea.png", "ihc.png", "retina.jpg", "hubble_deep_field.jpg", "brick.png", "coins.png")


def load_photos(split: Split = "report") -> tuple[Pixels, ...]:
    """[H, W, 3] uint8 photographs for a split: train has its own, dev and report share the held-out ones.

    Empty when scikit-image is not installed or its wheel holds none of the files.
    """
    if split not in ("train", "dev", "report"):
        raise InvalidInputError("split", f"{split!r} is none of train, dev, report")
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        return ()
    folder = Path(spec.submodule_search_locations[0]) / "data"
    names = _TRAIN if split == "train" else _HELD_OUT
    return tuple(_read(folder / name) for name in names if (folder / name).is_file())


def _read(path: Path) -> Pixels:
    with PillowImage.open(path) as image:
        image.thumbnail((640, 640))
        return np.asarray(image.convert("RGB"), np.uint8)
