"""Global edits of photographs, done with Pillow and numpy alone: tones, styles, and what a careless editor adds.

Each takes and returns a Pillow image of the same size. They share no code with EditWorld, so that the judge sees photographs
edited by somebody else.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import PIL.Image
import PIL.ImageFilter
import PIL.ImageOps

Picture = PIL.Image.Image
Edit = Callable[[Picture], Picture]


def keep(picture: Picture) -> Picture:
    """The editor that does nothing."""
    return picture.copy()


def _mapped(picture: Picture, gain: tuple[float, float, float], offset: tuple[float, float, float]) -> Picture:
    pixels = np.asarray(picture.convert("RGB")).astype(np.float64) * gain + offset
    return PIL.Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def warm(picture: Picture) -> Picture:
    """More red, less blue."""
    return _mapped(picture, (1.10, 0.98, 0.62), (22, 6, 0))


def cool(picture: Picture) -> Picture:
    """More blue, less red."""
    return _mapped(picture, (0.62, 0.95, 1.10), (0, 6, 26))


def dark(picture: Picture) -> Picture:
    """Less than half of the light."""
    return _mapped(picture, (0.44,) * 3, (0.0,) * 3)


def gray(picture: Picture) -> Picture:
    """No colour."""
    return PIL.ImageOps.grayscale(picture).convert("RGB")


def negative(picture: Picture) -> Picture:
    """Every value turned round."""
    return PIL.ImageOps.invert(picture.convert("RGB"))


def poster(picture: Picture) -> Picture:
    """Three levels in each channel."""
    pixels = np.asarray(picture.convert("RGB")).astype(np.float64)
    return PIL.Image.fromarray((np.floor(pixels / 86) * 127.5).astype(np.uint8))


def sketch(picture: Picture) -> Picture:
    """Dark lines where brightness changes, on white."""
    light = np.asarray(PIL.ImageOps.grayscale(picture)).astype(np.float64)
    down, across = np.gradient(light)
    lines = np.clip((np.abs(down) + np.abs(across)) * 4, 0, 225)
    return PIL.Image.fromarray(np.rint(250 - lines).astype(np.uint8)).convert("RGB")


def blurred(edit: Edit) -> Edit:
    """The edit, out of focus."""
    return lambda picture: edit(picture).filter(PIL.ImageFilter.GaussianBlur(max(picture.size) / 60))


def noisy(edit: Edit) -> Edit:
    """The edit, with heavy grain."""

    def run(picture: Picture) -> Picture:
        pixels = np.asarray(edit(picture).convert("RGB")).astype(np.float64)
        grain = np.random.default_rng(1).normal(0, 42, pixels.shape)
        return PIL.Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))

    return run


def blocky(edit: Edit) -> Edit:
    """The edit, saved as a very small JPEG."""

    def run(picture: Picture) -> Picture:
        buffer = io.BytesIO()
        edit(picture).save(buffer, "JPEG", quality=4)
        return PIL.Image.open(buffer).convert("RGB")

    return run
