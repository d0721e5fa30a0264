"""Painting one object: a small premultiplied RGBA patch from distances, materials and colors.

Patches are pure functions of the object's look, the scale and the sub-pixel offset, so they are cached (bounded, small ones only).
Legend: n = the patch's side in pixels.
"""

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from editscore.world.palette import COLORS, SIZES
from editscore.world.scene import SceneObject
from editscore.world.shapes import Plane, box, disc, outline_distance, stroke_distance, text_distance

Patch = NDArray[np.float32]  # [n, n, 4]: premultiplied red, green, blue (0..255), coverage (0..1)
Rgb = tuple[float, float, float]

_RIM: Final = 0.9  # width of the dark outline, lattice units
_SHADOW: Final = 0.30
_SKIN: Final[tuple[Rgb, ...]] = ((255, 219, 182), (224, 172, 118), (150, 102, 66))
_INK: Final[Rgb] = (28, 26, 34)
_PAPER: Final[Rgb] = (252, 252, 250)
# Larger patches and outlines (pixels) are made anew each time, so that neither cache can grow beyond 32 MiB.
_CACHED_SIDE: Final = 44
_CACHED_OUTLINE: Final = 120


def radius_of(thing: SceneObject) -> float:
    """Lattice units. Persons are drawn a little larger, so that a face shows at 84 px."""
    return SIZES[thing.size] * (1.1 if thing.shape == "person" else 1.0)


class _Look(NamedTuple):
    """All of an object that its patch depends on, apart from where it stands."""

    shape: str
    size: str
    color: str
    material: str
    text: str
    expression: str
    accessory: str
    skin: int


class _Raster(NamedTuple):
    """Pixels per lattice unit, the patch's half side in pixels, and the object's offset within its pixel in 1/64."""

    scale: float
    reach: int
    fx: int
    fy: int


def patch_of(thing: SceneObject, scale: float) -> tuple[Patch, int, int]:
    """The patch and its top-left pixel (x, y) in the picture; it may reach over the border. `scale` = pixels per lattice unit."""
    cx, cy = thing.center
    px, py = cx * scale, cy * scale
    reach = int((radius_of(thing) * 1.22 + 4) * scale + 1.5)
    raster = _Raster(scale, reach, round((px - int(px)) * 64), round((py - int(py)) * 64))
    paint = _painted if 2 * reach + 1 <= _CACHED_SIDE else _painted.__wrapped__
    drawn = (thing.text, thing.expression, thing.accessory, thing.key % len(_SKIN))
    patch = paint(_Look(thing.shape, thing.size, thing.color, thing.material, *drawn), raster)
    if thing.share < 1:
        before = paint(_Look(thing.shape, thing.size, thing.old_color or thing.color, thing.old_material or thing.material, *drawn), raster)
        patch = before + np.float32(thing.share) * (patch - before)
    return patch, int(px) - reach, int(py) - reach


@lru_cache(maxsize=1024)
def _painted(look: _Look, raster: _Raster) -> Patch:
    radius = SIZES[look.size] * (1.1 if look.shape == "person" else 1.0)
    scale = raster.scale
    x, y = _grid(raster)
    canvas = np.zeros((*x.shape, 4), np.float32)
    if look.shape == "person":
        _paint_person(canvas, x, y, radius, scale, look)
    else:
        outline = _outline if x.shape[0] <= _CACHED_OUTLINE else _outline.__wrapped__
        distance, below = outline(look.shape, radius, raster)
        _cast_shadow(canvas, below)
        rgb = COLORS[look.color]
        _fill(canvas, distance, _textured(look.color, look.material, radius, x, y, scale), _dark(rgb), scale)
        if look.shape == "sign":
            ink = _INK if _luma(rgb) > 125 else _PAPER
            _fill(canvas, text_distance(look.text, radius, x, y) - np.float32(0.135 * radius), ink, None, scale)
    canvas.setflags(write=False)
    return canvas


def _grid(raster: _Raster) -> tuple[Plane, Plane]:
    """Coordinates [n, n] of pixel centres about the object's centre, lattice units."""
    scale, reach, fx, fy = raster
    steps = np.arange(-reach, reach + 1, dtype=np.float32) + np.float32(0.5)
    shape = (steps.size, steps.size)
    x = np.broadcast_to((steps - np.float32(fx / 64))[None, :] / np.float32(scale), shape)
    y = np.broadcast_to((steps - np.float32(fy / 64))[:, None] / np.float32(scale), shape)
    return x, y


@lru_cache(maxsize=288)
def _outline(shape: str, radius: float, raster: _Raster) -> tuple[Plane, Plane]:
    """Distances to the silhouette and to its shadow's."""
    x, y = _grid(raster)
    return outline_distance(shape, radius, x, y), outline_distance(shape, radius, x - np.float32(0.9), y - np.float32(1.6))


def _coverage(distance: Plane, scale: float) -> Plane:
    return np.asarray(np.clip(np.float32(0.5) - distance * np.float32(scale), 0, 1), np.float32)


def _cast_shadow(canvas: Patch, distance: Plane) -> None:
    canvas[..., 3] = np.float32(_SHADOW) * np.clip(np.float32(0.5) - distance / np.float32(3.5), 0, 1)


def _fill(canvas: Patch, distance: Plane, paint: Rgb | NDArray[np.float32], rim: Rgb | None, scale: float) -> None:
    """Lay a filled shape over the canvas, with a darker rim inside its edge."""
    alpha = _coverage(distance, scale)[..., None]
    color = np.asarray(paint, np.float32)
    if rim is not None:
        core = _coverage(distance + np.float32(_RIM), scale)[..., None]
        color = np.asarray(rim, np.float32) * (1 - core) + color * core
    canvas *= 1 - alpha
    canvas[..., :3] += color * alpha
    canvas[..., 3:] += alpha


def _luma(rgb: Rgb) -> float:
    return 0.3 * rgb[0] + 0.59 * rgb[1] + 0.11 * rgb[2]


def _dark(rgb: Rgb) -> Rgb:
    return (rgb[0] * 0.42, rgb[1] * 0.42, rgb[2] * 0.42)


def _light(rgb: Rgb) -> Rgb:
    return (rgb[0] + (255 - rgb[0]) * 0.72, rgb[1] + (255 - rgb[1]) * 0.72, rgb[2] + (255 - rgb[2]) * 0.72)


def _wave(t: Plane, width: float, scale: float) -> Plane:
    """A square wave of period 1 in t, antialiased; `width` lattice units to the period."""
    phase = t - np.floor(t)
    wave = (np.abs(phase - np.float32(0.5)) - np.float32(0.25)) * np.float32(width * scale)
    return np.asarray(np.clip(wave + np.float32(0.5), 0, 1), np.float32)


def _textured(color: str, material: str, radius: float, x: Plane, y: Plane, scale: float) -> NDArray[np.float32]:
    """[n, n, 3]: a material in its color. Patterns go light on dark colors and dark on light ones, so that they always show."""
    rgb = COLORS[color]
    base = np.broadcast_to(np.asarray(rgb, np.float32), (*x.shape, 3))
    other = np.asarray(_dark(rgb) if _luma(rgb) > 125 else _light(rgb), np.float32)
    if material == "solid":
        return base
    if material == "glossy":
        shade = np.clip((x + y) / np.float32(2.2 * radius) + np.float32(0.15), 0, 1)[..., None] * np.float32(0.55)
        px, py = (x + np.float32(0.3 * radius)) / np.float32(0.52 * radius), (y + np.float32(0.34 * radius)) / np.float32(0.4 * radius)
        spot = np.clip(np.float32(1.35) - np.sqrt(px * px + py * py), 0, 1)[..., None]
        return np.asarray(base * (1 - shade) * (1 - spot) + np.float32(255) * spot, np.float32)
    if material == "striped":
        mask = _wave((x + y) / np.float32(7.0), 5.0, scale)
    elif material == "checkered":
        a, b = _wave(x / np.float32(8.0), 8.0, scale), _wave(y / np.float32(8.0), 8.0, scale)
        mask = a + b - 2 * a * b
    else:
        pitch = np.float32(4.75)
        px, py = x / pitch + np.float32(0.5), y / pitch + np.float32(0.5)  # a dot in the very middle
        px, py = (px - np.floor(px) - np.float32(0.5)) * pitch, (py - np.floor(py) - np.float32(0.5)) * pitch
        mask = _coverage(np.sqrt(px * px + py * py) - np.float32(1.65), scale)
    return np.asarray(base + mask[..., None] * (other - base), np.float32)


def _paint_person(canvas: Patch, x: Plane, y: Plane, r: float, scale: float, look: _Look) -> None:
    """Head and shoulders: hair in the object's color, a drawn mouth, glasses or a hat."""
    body = np.maximum(disc(x, y, 0, 1.32 * r, 0.95 * r), y - np.float32(1.08 * r))
    _cast_shadow(canvas, np.minimum(disc(x, y, 0.9, 1.5, 0.92 * r), body))
    _fill(canvas, body, (92, 98, 122), (40, 42, 56), scale)
    _fill(canvas, disc(x, y, 0, -0.14 * r, 0.94 * r), COLORS[look.color], _dark(COLORS[look.color]), scale)
    _fill(canvas, disc(x, y, 0, 0.14 * r, 0.70 * r), _SKIN[look.skin], None, scale)
    for side in (-1, 1):
        _fill(canvas, disc(x, y, side * 0.29 * r, -0.02 * r, 0.11 * r), _INK, None, scale)
    if look.expression == "surprised":
        px, py = x, (y - np.float32(0.48 * r)) * np.float32(0.8)
        _fill(canvas, np.sqrt(px * px + py * py) - np.float32(0.2 * r), (120, 20, 30), None, scale)
    else:
        bend = 0.2 if look.expression == "happy" else -0.2
        middle = 0.46 + bend / 2
        mouth = (((-0.36 * r, (middle - bend) * r), (-0.14 * r, middle * r), (0.14 * r, middle * r), (0.36 * r, (middle - bend) * r)),)
        _fill(canvas, stroke_distance(mouth, x, y) - np.float32(0.085 * r), (120, 20, 30), None, scale)
    if look.accessory == "glasses":
        for side in (-1, 1):
            lens = np.abs(disc(x, y, side * 0.32 * r, -0.02 * r, 0.26 * r)) - np.float32(0.075 * r)
            _fill(canvas, lens, _INK, None, scale)
        _fill(canvas, box(x, y, 0, -0.04 * r, 0.1 * r, 0.06 * r), _INK, None, scale)
    elif look.accessory == "hat":
        _fill(canvas, box(x, y, 0, -0.82 * r, 0.56 * r, 0.36 * r, 0.08 * r), (52, 40, 70), (20, 14, 30), scale)
        _fill(canvas, box(x, y, 0, -0.48 * r, 1.0 * r, 0.11 * r, 0.1 * r), (52, 40, 70), (20, 14, 30), scale)
