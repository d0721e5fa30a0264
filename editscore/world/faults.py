"""Quality faults painted over a finished picture. Grades 1..3; every length is in lattice units (1/84 of the side).

Grain, blur and blocks work on the picture brought down to the lattice of 84 x 84, so a picture painted at 168 px and brought down
to 84 looks like one painted at 84. The order of painting is fixed: places first, then light, then sharpness, then grain.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from editscore.world.backgrounds import Canvas
from editscore.world.figures import radius_of
from editscore.world.looks import luma
from editscore.world.palette import LATTICE
from editscore.world.scene import Fault, Scene

_ORDER: Final = ("cut", "seam", "halo", "cast", "burn", "blur", "blocks", "banding", "noise", "streaks")
_CASTS: Final[dict[str, tuple[float, float, float]]] = {"green": (0.5, 1.12, 0.5), "purple": (0.98, 0.42, 1.06)}
CAST_COLORS: Final = tuple(_CASTS)


def paint_faults(canvas: Canvas, scene: Scene, faults: tuple[Fault, ...]) -> Canvas:
    """Paint the faults; a kind that is not painted (ghost, broken, edit faults) is skipped."""
    for fault in sorted((f for f in faults if f.kind in _ORDER), key=lambda f: _ORDER.index(f.kind)):
        canvas = _PAINTERS[fault.kind](canvas, scene, fault, np.random.Generator(np.random.PCG64(fault.seed)))
        canvas = np.clip(canvas, 0, 255)
    return canvas


def _by_grade(fault: Fault, weak: float, medium: float, strong: float) -> float:
    return (weak, medium, strong)[fault.grade - 1]


def _axis(size: int) -> NDArray[np.float32]:
    """Pixel centres in lattice units."""
    return (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(LATTICE / size)


def _to_lattice(canvas: Canvas) -> Canvas:
    """Area average onto 84 x 84 (exact for whole multiples, otherwise nearest rows of a finer average)."""
    size = canvas.shape[0]
    if size == LATTICE:
        return canvas
    if size % LATTICE == 0:
        k = size // LATTICE
        return np.asarray(canvas.reshape(LATTICE, k, LATTICE, k, 3).mean((1, 3)), np.float32)
    return _sampled(canvas, LATTICE)


def _from_lattice(plane: Canvas, size: int, smooth: bool) -> Canvas:
    if size == LATTICE:
        return plane
    if smooth:
        return _sampled(plane, size)
    at = (np.arange(size) * LATTICE) // size
    return plane[at][:, at]


def _sampled(canvas: Canvas, size: int) -> Canvas:
    """Bilinear resampling to size x size; when shrinking, over a box of the step's width."""
    old = canvas.shape[0]
    taps = max(1, round(old / size))
    total = np.zeros((size, size, canvas.shape[2]), np.float32)
    for i in range(taps):
        rows = _lerp(canvas, size, old, (i + 0.5) / taps - 0.5, 0)
        for j in range(taps):
            total += _lerp(rows, size, old, (j + 0.5) / taps - 0.5, 1)
    return total / np.float32(taps * taps)


def _lerp(canvas: Canvas, size: int, old: int, offset: float, axis: int) -> Canvas:
    at = np.clip((np.arange(size, dtype=np.float64) + 0.5 + offset) * (old / size) - 0.5, 0, old - 1).astype(np.float32)
    low = np.minimum(at.astype(np.int64), old - 2)
    share = (at - low.astype(np.float32)).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    a, b = np.take(canvas, low, axis=axis), np.take(canvas, low + 1, axis=axis)
    return np.asarray(a + (b - a) * share, np.float32)


def _spot(scene: Scene, rng: np.random.Generator) -> tuple[float, float, float]:
    """Centre and radius of an object that is really there."""
    solid = [o for o in scene.objects if o.opacity > 0.5] or list(scene.objects)
    thing = solid[int(rng.integers(len(solid)))]
    (cx, cy), camera = thing.center, scene.camera
    x = (cx - camera.x) * camera.zoom + camera.x + camera.shift_x
    y = (cy - camera.y) * camera.zoom + camera.y + camera.shift_y
    return min(max(x, 8.0), 76.0), min(max(y, 8.0), 76.0), radius_of(thing) * camera.zoom


def _cut(canvas: Canvas, scene: Scene, fault: Fault, rng: np.random.Generator) -> Canvas:
    """A band through an object slips sideways."""
    x, y, _ = _spot(scene, rng)
    size, upright = canvas.shape[0], bool(rng.integers(2))
    middle = (x if upright else y) + int(rng.integers(-3, 4))
    shift = round(_by_grade(fault, 4, 7, 11) * size / LATTICE) * (1 if rng.integers(2) else -1)
    axis = _axis(size)
    inside = (axis > middle - 1) & (axis < middle + 22) if rng.integers(2) else (axis < middle + 1) & (axis > middle - 22)
    canvas = canvas.copy()
    at = np.arange(size) - shift  # what comes in at the border is mirrored, so that no piece shows up on the other side
    at = np.where(at < 0, -1 - at, np.where(at >= size, 2 * size - 1 - at, at))
    if upright:
        canvas[:, inside] = canvas[at][:, inside]
    else:
        canvas[inside] = canvas[:, at][inside]
    return canvas


def _seam(canvas: Canvas, scene: Scene, fault: Fault, rng: np.random.Generator) -> Canvas:
    """A box around an object is lighter or darker than its surroundings: pasted in."""
    x, y, r = _spot(scene, rng)
    axis, half = _axis(canvas.shape[0]), r + 4 + int(rng.integers(0, 4))
    rows, columns = np.nonzero(np.abs(axis - y) < half)[0], np.nonzero(np.abs(axis - x) < half)[0]
    where = np.ix_(rows, columns)
    canvas = canvas.copy()
    part = canvas[where]
    step = _by_grade(fault, 34, 58, 88)
    canvas[where] = part - np.float32(step) if _is_bright(part, rng) else part + np.float32(step)
    return canvas


def _is_bright(part: Canvas, rng: np.random.Generator) -> bool:
    """Above the middle; near it, chance decides. Summed as whole numbers, so that rounding never does."""
    total = int(np.floor(luma(part)).astype(np.int64).sum())
    chance = int(rng.integers(2))
    mean = total // max(1, part.shape[0] * part.shape[1])
    return bool(chance) if 100 <= mean <= 150 else mean > 150


def _halo(canvas: Canvas, scene: Scene, fault: Fault, rng: np.random.Generator) -> Canvas:
    """A ring of wrong light around an object."""
    x, y, r = _spot(scene, rng)
    axis = _axis(canvas.shape[0])
    dx, dy = axis[None, :] - np.float32(x), axis[:, None] - np.float32(y)
    off = np.abs(np.sqrt(dx * dx + dy * dy) - np.float32(r + 3.2))
    ring = np.clip(np.float32(2.6) - off, 0, 1) * np.float32(_by_grade(fault, 0.42, 0.68, 0.95))
    rows, columns = np.nonzero(np.abs(axis - y) < r + 5)[0], np.nonzero(np.abs(axis - x) < r + 5)[0]
    light = np.float32(12) if _is_bright(canvas[np.ix_(rows, columns)], rng) else np.float32(255)
    return np.asarray(canvas + ring[..., None] * (light - canvas), np.float32)


def _cast(canvas: Canvas, scene: Scene, fault: Fault, rng: np.random.Generator) -> Canvas:
    share = np.float32(_by_grade(fault, 0.38, 0.65, 1.0))
    return canvas * (1 - share + share * np.asarray(_CASTS[fault.subject], np.float32))


def _burn(canvas: Canvas, scene: Scene, fault: Fault, rng: np.random.Generator) -> Canvas:
    """Too much contrast and color, until they clip."""
    gray = luma(canvas)[..., None]
    vivid = gray + (canvas - gray) * np.float32(_by_grade(fault, 1.3, 1.6, 2.0))
    return np.asarray((vivid - 122) * np.float32(_by_grade(fault, 1.5, 2.1, 3.0)) + 128, np.float32)


def _blur(canvas: Canvas, scene: Scene, fault: Fault, rng: np.random.Generator) -> Canvas:
    """Repeated averages of three on the lattice."""
    plane = _to_lattice(canvas)
    for _ in range(int(_by_grade(fault, 2, 4, 8))):
        wide = np.concatenate((plane[:1], plane, plane[-1:]))
        plane = (wide[:-2] + wide[1:-1] + wide[2:]) / np.float32(3)
        wide = np.concatenate((plane[:, :1], plane, plane[:, -1:]), axis=1)
        plane = (wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]) / np.float32(3)
    return _from_lattice(plane, canvas.shape[0], smooth=True)


def _blocks(canvas: Canvas, scene: Scene, fault: Fault, rng: np.random.Generator) -> Canvas:
    """What hard compression leaves: squares of nearly one color."""
    side = int(_by_grade(fault, 3, 4, 6))
    n = LATTICE // side
    plane = _to_lattice(canvas)
    tiles = plane.reshape(n, side, n, side, 3)
    mean = tiles.sum(1, keepdims=True).sum(3, keepdims=True) / np.float32(side * side)
    flat = (tiles + np.float32(0.82) * (mean - tiles)).reshape(LATTICE, LATTICE, 3)
    return _from_lattice(flat, canvas.shape[0], smooth=False)


def _banding(canvas: Canvas, scene: Scene, fault: Fault, rng: np.random.Generator) -> Canvas:
    """Regular dark bands across the picture."""
    axis, phase = _axis(canvas.shape[0]), np.float32(int(rng.integers(12)))
    t = (axis + phase) / np.float32(12)
    wave = np.abs((t - np.floor(t)) * 2 - 1)
    share = np.clip(wave * 3 - 1, 0, 1) * np.float32(_by_grade(fault, 0.26, 0.42, 0.62))
    return np.asarray(canvas * (1 - share[:, None, None]), np.float32)


def _noise(canvas: Canvas, scene: Scene, fault: Fault, rng: np.random.Generator) -> Canvas:
    """Color grain: sums of four uniform whole numbers, near enough to a normal law and equal on every machine."""
    grain = rng.integers(-128, 129, (4, LATTICE, LATTICE, 3)).sum(0).astype(np.float32)
    grain *= np.float32(_by_grade(fault, 20, 36, 58) / 148.4)
    return canvas + _from_lattice(grain, canvas.shape[0], smooth=False)


def _streaks(canvas: Canvas, scene: Scene, fault: Fault, rng: np.random.Generator) -> Canvas:
    """Broken scan lines in random colors, two units thick."""
    axis, canvas = _axis(canvas.shape[0]), canvas.copy()
    for _ in range(int(_by_grade(fault, 2, 4, 7))):
        top, color = int(rng.integers(0, LATTICE - 2)), rng.integers(0, 256, 3).astype(np.float32)
        rows = (axis > top) & (axis < top + 2)
        canvas[rows] = canvas[rows] * np.float32(0.25) + color * np.float32(0.75)
    return canvas


_PAINTERS: Final = {
    "cut": _cut,
    "seam": _seam,
    "halo": _halo,
    "cast": _cast,
    "burn": _burn,
    "blur": _blur,
    "blocks": _blocks,
    "banding": _banding,
    "noise": _noise,
    "streaks": _streaks,
}
