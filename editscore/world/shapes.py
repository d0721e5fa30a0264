"""Signed distances of every drawn thing, in lattice units (negative inside), on any sampling grid.

Distances make antialiasing resolution independent: coverage = clip(0.5 - distance in pixels, 0, 1). Only + - * / sqrt touch the
pixels, which IEEE arithmetic rounds alike on every machine; polygon corners come from `math` and are rounded to 1/1024.
Letters are strokes of our own, so no font file and no FreeType version decides a picture.
"""

import math
from functools import cache
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]  # [h, w]
Points = tuple[tuple[float, float], ...]

# Strokes in a box of -1..1, y down.
_GLYPHS: Final[dict[str, tuple[Points, ...]]] = {
    "h": (((-0.75, -1), (-0.75, 1)), ((0.75, -1), (0.75, 1)), ((-0.75, 0), (0.75, 0))),
    "k": (((-0.7, -1), (-0.7, 1)), ((0.8, -1), (-0.7, 0.1)), ((-0.15, -0.3), (0.8, 1))),
    "l": (((-0.6, -1), (-0.6, 1), (0.75, 1)),),
    "o": (((-0.4, -1), (0.4, -1), (0.85, -0.5), (0.85, 0.5), (0.4, 1), (-0.4, 1), (-0.85, 0.5), (-0.85, -0.5), (-0.4, -1)),),
    "s": (
        ((0.75, -0.75), (0.3, -1), (-0.4, -1), (-0.75, -0.55), (-0.4, -0.1), (0.4, 0.1), (0.75, 0.5), (0.4, 1), (-0.4, 1), (-0.8, 0.75)),
    ),
    "t": (((-0.85, -1), (0.85, -1)), ((0, -1), (0, 1))),
    "x": (((-0.8, -1), (0.8, 1)), ((0.8, -1), (-0.8, 1))),
    "z": (((-0.75, -1), (0.75, -1), (-0.75, 1), (0.75, 1)),),
    "g": (((0.75, -0.65), (0.3, -1), (-0.35, -1), (-0.8, -0.5), (-0.8, 0.5), (-0.35, 1), (0.4, 1), (0.8, 0.6), (0.8, 0.1), (0.2, 0.1)),),
    "n": (((-0.75, 1), (-0.75, -1), (0.75, 1), (0.75, -1)),),
    "u": (((-0.75, -1), (-0.75, 0.5), (-0.35, 1), (0.35, 1), (0.75, 0.5), (0.75, -1)),),
    "p": (((-0.65, 1), (-0.65, -1), (0.35, -1), (0.75, -0.7), (0.75, -0.3), (0.35, 0), (-0.65, 0)),),
    "i": (((0, -1), (0, 1)),),
}
# What a text model that cannot spell leaves behind: crossing strokes that are no letter.
_BROKEN: Final[tuple[Points, ...]] = (
    ((-0.9, -0.2), (-0.4, -0.9), (-0.1, 0.3), (0.5, -0.8), (0.9, 0.1)),
    ((-0.8, 0.9), (-0.5, 0.2), (0.1, 0.9), (0.4, 0.1), (0.9, 0.9)),
    ((-0.2, -1.0), (0.2, 1.0)),
)


def _round(value: float) -> float:
    return round(value * 1024) / 1024


@cache
def corners(shape: str) -> Points:
    """Corners of a polygonal shape of radius 1, y down."""
    if shape == "square":
        return ((-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86))
    if shape == "triangle":
        return ((0.0, -1.0), (1.02, 0.82), (-1.02, 0.82))
    if shape == "diamond":
        return ((0.0, -1.12), (0.86, 0.0), (0.0, 1.12), (-0.86, 0.0))
    if shape == "cross":
        a = 0.36
        return ((-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a), (a, 1), (-a, 1), (-a, a), (-1, a), (-1, -a), (-a, -a))
    if shape == "star":
        turns = [(math.pi * k / 5, 1.15 if k % 2 == 0 else 0.48) for k in range(10)]
        return tuple((_round(r * math.sin(t)), _round(-r * math.cos(t) + 0.06)) for t, r in turns)
    if shape == "heart":
        turns_heart = [2 * math.pi * k / 28 for k in range(28)]
        return tuple((_round(math.sin(t) ** 3 * 1.08), _round(_heart_y(t))) for t in turns_heart)
    raise ValueError(f"not a polygon: {shape}")


def _heart_y(t: float) -> float:
    return -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 15.0 - 0.12


def polygon_distance(points: Points, x: Plane, y: Plane) -> Plane:
    """Signed distance to a simple polygon."""
    best = np.full(x.shape, 1e9, np.float32)
    inside = np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in zip(points, (*points[1:], points[0]), strict=True):
        best = np.minimum(best, _segment_square(ax, ay, bx, by, x, y))
        if ay != by:
            crosses = (np.float32(ay) > y) != (np.float32(by) > y)
            at = np.float32(ax) + (y - np.float32(ay)) * np.float32((bx - ax) / (by - ay))
            inside ^= crosses & (x < at)
    distance = np.sqrt(best)
    return np.where(inside, -distance, distance).astype(np.float32)


def _segment_square(ax: float, ay: float, bx: float, by: float, x: Plane, y: Plane) -> Plane:
    ux, uy = np.float32(bx - ax), np.float32(by - ay)
    px, py = x - np.float32(ax), y - np.float32(ay)
    length = np.float32((bx - ax) ** 2 + (by - ay) ** 2)
    t = np.clip((px * ux + py * uy) / length, 0, 1)
    dx, dy = px - t * ux, py - t * uy
    return np.asarray(dx * dx + dy * dy, np.float32)


def stroke_distance(strokes: tuple[Points, ...], x: Plane, y: Plane) -> Plane:
    """Unsigned distance to the nearest stroke."""
    best = np.full(x.shape, 1e9, np.float32)
    for stroke in strokes:
        for (ax, ay), (bx, by) in pairwise(stroke):
            best = np.minimum(best, _segment_square(ax, ay, bx, by, x, y))
    return np.sqrt(best)


def disc(x: Plane, y: Plane, cx: float, cy: float, radius: float) -> Plane:
    """Signed distance to a disc."""
    px, py = x - np.float32(cx), y - np.float32(cy)
    return np.asarray(np.sqrt(px * px + py * py) - np.float32(radius), np.float32)


def box(x: Plane, y: Plane, cx: float, cy: float, half_w: float, half_h: float, corner: float = 0.0) -> Plane:
    """Signed distance to a rectangle with rounded corners."""
    qx = np.abs(x - np.float32(cx)) - np.float32(half_w - corner)
    qy = np.abs(y - np.float32(cy)) - np.float32(half_h - corner)
    ox, oy = np.maximum(qx, 0), np.maximum(qy, 0)
    return np.asarray(np.sqrt(ox * ox + oy * oy) + np.minimum(np.maximum(qx, qy), 0) - np.float32(corner), np.float32)


def outline_distance(shape: str, radius: float, x: Plane, y: Plane) -> Plane:
    """Signed distance to the silhouette of a plain shape or of a sign's board."""
    if shape == "circle":
        return disc(x, y, 0, 0, radius)
    if shape == "ring":
        return np.asarray(np.abs(disc(x, y, 0, 0, 0.75 * radius)) - np.float32(0.27 * radius), np.float32)
    if shape == "sign":
        return box(x, y, 0, 0, 1.14 * radius, 0.98 * radius, 0.16 * radius)
    scaled = tuple((px * radius, py * radius) for px, py in corners(shape))
    return polygon_distance(scaled, x, y)


def text_distance(text: str, radius: float, x: Plane, y: Plane) -> Plane:
    """Unsigned distance to the strokes of a sign's text; stroke half-width is 0.12 radius."""
    if text == "broken":
        return stroke_distance(_placed(_BROKEN, 0.0, 0.85 * radius, 0.7 * radius), x, y)
    if len(text) == 1:
        return stroke_distance(_placed(_GLYPHS[text], 0.0, 0.5 * radius, 0.62 * radius), x, y)
    left = _placed(_GLYPHS[text[0]], -0.52 * radius, 0.34 * radius, 0.58 * radius)
    right = _placed(_GLYPHS[text[1]], 0.52 * radius, 0.34 * radius, 0.58 * radius)
    return stroke_distance((*left, *right), x, y)


def _placed(strokes: tuple[Points, ...], cx: float, half_w: float, half_h: float) -> tuple[Points, ...]:
    return tuple(tuple((cx + px * half_w, py * half_h) for px, py in stroke) for stroke in strokes)
