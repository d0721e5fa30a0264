"""What lies behind the objects: flat and patterned grounds, six drawn landscapes, and crops of a caller's photographs.

Everything is defined on the unit lattice (84 units a side) and sampled at pixel centres, so that a larger picture shows the same
thing with more pixels. Noise is value noise: random numbers on a coarse lattice, interpolated by gathers (no matrix product, whose
rounding would differ between machines).
"""

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from editscore.world.palette import BACKGROUND_COLORS, LATTICE
from editscore.world.scene import Background
from editscore.world.shapes import Plane

Canvas = NDArray[np.float32]  # [size, size, 3], 0..255
Photos = tuple[NDArray[np.uint8], ...]

_MAX_CACHED_SIDE: Final = 256


def paint_background(background: Background, size: int, photos: Photos = ()) -> Canvas:
    """[size, size, 3] float32. A photo that the caller did not pass is drawn as stone, so that a scene without its photos still draws."""
    if background.kind == "photo" and photos:
        return _photo(background, size, photos[background.photo % len(photos)])
    kind = "stone" if background.kind == "photo" else background.kind
    paint = _drawn if size <= _MAX_CACHED_SIDE else _drawn.__wrapped__
    return paint(kind, background.color, background.seed, size)


@lru_cache(maxsize=24)
def _drawn(kind: str, color: str, seed: int, size: int) -> Canvas:
    unit = np.float32(LATTICE / size)
    steps = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * unit
    x, y = np.broadcast_to(steps[None, :], (size, size)), np.broadcast_to(steps[:, None], (size, size))
    if color:
        canvas = _colored(kind, np.asarray(BACKGROUND_COLORS[color], np.float32), x, y, 1 / float(unit))
    else:
        rng = np.random.Generator(np.random.PCG64(seed))
        canvas = _SCENIC[kind](rng, x, y)
    canvas = np.clip(canvas, 0, 255).astype(np.float32)
    canvas.setflags(write=False)
    return canvas


def _photo(background: Background, size: int, photo: NDArray[np.uint8]) -> Canvas:
    height, width = photo.shape[:2]
    side = max(1, int(background.span * min(height, width)))
    left, top = int(background.left * (width - side)), int(background.top * (height - side))
    crop = np.ascontiguousarray(photo[top : top + side, left : left + side, :3])
    image = PillowImage.fromarray(crop).resize((size, size), PillowImage.Resampling.BICUBIC)
    return np.asarray(image, np.float32)


def _colored(kind: str, base: NDArray[np.float32], x: Plane, y: Plane, scale: float) -> Canvas:
    bright = float(base[0]) + float(base[1]) + float(base[2]) > 270
    other = base * np.float32(0.7) if bright else base + np.float32(48)
    if kind == "plain":
        share = np.zeros_like(x)
    elif kind == "gradient":
        share = y / np.float32(LATTICE) * np.float32(1.35)
    elif kind == "lines":
        share = _square_wave(x / np.float32(8), 8, scale)
    else:
        a, b = _square_wave(x / np.float32(14), 14, scale), _square_wave(y / np.float32(14), 14, scale)
        share = a + b - 2 * a * b
    return np.asarray(base + share[..., None] * (other - base), np.float32)


def _square_wave(t: Plane, width: float, scale: float) -> Plane:
    phase = t - np.floor(t)
    wave = (np.abs(phase - np.float32(0.5)) - np.float32(0.25)) * np.float32(width * scale)
    return np.asarray(np.clip(wave + np.float32(0.5), 0, 1), np.float32)


def value_noise(rng: np.random.Generator, x: Plane, y: Plane, cells: tuple[tuple[int, int, float], ...]) -> Plane:
    """Sum of octaves, about 0..1. `cells` gives (columns, rows, weight) of each octave's lattice; 0.5 is the mean."""
    total = np.full(x.shape, 0.5, np.float32)
    for columns, rows, weight in cells:
        grid = rng.integers(0, 1024, (rows + 1, columns + 1)).astype(np.float32) / np.float32(1023) - np.float32(0.5)
        total += np.float32(weight) * _interpolate(grid, x[0] * np.float32(columns / LATTICE), y[:, 0] * np.float32(rows / LATTICE))
    return total


def _interpolate(grid: Plane, u: Plane, v: Plane) -> Plane:
    """Smooth interpolation of `grid` at the outer product of v (rows) and u (columns)."""
    i, j = np.minimum(u.astype(np.int64), grid.shape[1] - 2), np.minimum(v.astype(np.int64), grid.shape[0] - 2)
    fu, fv = u - i.astype(np.float32), v - j.astype(np.float32)
    fu, fv = fu * fu * (3 - 2 * fu), (fv * fv * (3 - 2 * fv))[:, None]
    across = grid[:, i] + (grid[:, i + 1] - grid[:, i]) * fu
    return np.asarray(across[j] + (across[j + 1] - across[j]) * fv, np.float32)


def _blend(low: tuple[int, int, int], high: tuple[int, int, int], share: Plane) -> Canvas:
    a, b = np.asarray(low, np.float32), np.asarray(high, np.float32)
    return np.asarray(a + np.clip(share, 0, 1)[..., None] * (b - a), np.float32)


def _over(canvas: Canvas, color: tuple[int, int, int], share: Plane) -> Canvas:
    return np.asarray(canvas + np.clip(share, 0, 1)[..., None] * (np.asarray(color, np.float32) - canvas), np.float32)


def _sky(rng: np.random.Generator, x: Plane, y: Plane) -> Canvas:
    clouds = value_noise(rng, x, y, ((3, 5, 0.6), (7, 11, 0.4), (17, 24, 0.22)))
    return _over(_blend((86, 150, 226), (196, 224, 246), y / np.float32(LATTICE)), (255, 255, 255), (clouds - np.float32(0.5)) * 4)


def _forest(rng: np.random.Generator, x: Plane, y: Plane) -> Canvas:
    leaves = value_noise(rng, x, y, ((4, 4, 0.35), (11, 11, 0.45), (29, 29, 0.55)))
    trunks = value_noise(rng, x, y, ((14, 1, 1.0),))
    ground = _blend((18, 50, 24), (122, 168, 74), leaves)
    return _over(ground, (54, 38, 26), (trunks - np.float32(0.74)) * 8)


def _desert(rng: np.random.Generator, x: Plane, y: Plane) -> Canvas:
    ridge = value_noise(rng, x, y, ((3, 1, 0.5),))
    ripples = value_noise(rng, x, y, ((3, 9, 0.5), (9, 30, 0.3)))
    sand = _blend((176, 122, 66), (240, 202, 136), ripples)
    return _over(sand, (186, 214, 226), 26 + (ridge - np.float32(0.5)) * 24 - y)


def _sea(rng: np.random.Generator, x: Plane, y: Plane) -> Canvas:
    horizon = np.float32(int(rng.integers(16, 34)))
    waves = value_noise(rng, x, y, ((4, 18, 0.5), (12, 42, 0.45)))
    water = _over(_blend((14, 74, 122), (74, 152, 178), waves), (228, 244, 244), (waves - np.float32(0.84)) * 6)
    return _over(water, (222, 226, 224), horizon - y)


def _night(rng: np.random.Generator, x: Plane, y: Plane) -> Canvas:
    hills = value_noise(rng, x, y, ((5, 1, 0.6), (13, 1, 0.2)))
    sky = _blend((14, 16, 44), (66, 54, 104), y / np.float32(LATTICE))
    stars = rng.integers(0, LATTICE, (26, 2))
    for sx, sy in stars.tolist():
        px, py = x[0] - np.float32(sx + 0.5), y[:, 0] - np.float32(sy + 0.5)
        columns, rows = np.nonzero(np.abs(px) < 1.6)[0], np.nonzero(np.abs(py) < 1.6)[0]
        patch = np.ix_(rows, columns)
        distance = np.sqrt(px[columns][None, :] ** 2 + py[rows][:, None] ** 2)
        sky[patch] = _over(sky[patch], (250, 246, 220), np.float32(1.3) - distance)
    return _over(sky, (10, 12, 22), y - 64 - (hills - np.float32(0.5)) * 26)


def _stone(rng: np.random.Generator, x: Plane, y: Plane) -> Canvas:
    rough = value_noise(rng, x, y, ((5, 5, 0.4), (13, 13, 0.35), (37, 37, 0.45)))
    veins = np.abs(value_noise(rng, x, y, ((4, 6, 0.7), (11, 9, 0.4))) - np.float32(0.5))
    return _over(_blend((84, 80, 78), (186, 178, 168), rough), (52, 48, 48), (np.float32(0.035) - veins) * 18)


_SCENIC: Final = {"sky": _sky, "forest": _forest, "desert": _desert, "sea": _sea, "night": _night, "stone": _stone}
