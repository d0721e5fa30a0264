"""Global looks: tones, styles and the camera. Each maps [size, size, 3] float32 (0..255) to the same shape."""

import numpy as np

from editscore.world.backgrounds import Canvas
from editscore.world.palette import LATTICE
from editscore.world.scene import Camera
from editscore.world.shapes import Plane


def apply_tone(canvas: Canvas, tone: str, share: float) -> Canvas:
    """Blend the picture with its toned version."""
    if tone == "warm":
        toned = canvas * np.asarray((1.12, 0.98, 0.58), np.float32) + np.asarray((24, 6, 0), np.float32)
    elif tone == "cool":
        toned = canvas * np.asarray((0.58, 0.95, 1.12), np.float32) + np.asarray((0, 6, 28), np.float32)
    elif tone == "dark":
        toned = canvas * np.float32(0.44)
    elif tone == "bright":
        toned = canvas * np.float32(0.55) + np.float32(112)
    else:
        toned = np.repeat(luma(canvas)[..., None], 3, axis=2)
    return np.asarray(canvas + np.float32(share) * (np.clip(toned, 0, 255) - canvas), np.float32)


def apply_style(canvas: Canvas, style: str, share: float) -> Canvas:
    """Blend the picture with its restyled version."""
    if style == "sketch":
        lines = np.clip(edges(luma(canvas)) * np.float32(3.2), 0, 225)
        styled = np.repeat((np.float32(250) - lines)[..., None], 3, axis=2)
    elif style == "poster":
        styled = np.clip(np.floor(canvas / np.float32(86)) * np.float32(127.5), 0, 255)
        styled = np.clip((styled - 128) * np.float32(1.25) + 128, 0, 255)
    elif style == "negative":
        styled = np.float32(255) - canvas
    else:
        glow = np.stack([edges(canvas[..., c]) for c in range(3)], axis=2)
        styled = np.clip(glow * np.float32(3.4) + np.asarray((12, 4, 26), np.float32), 0, 255)
    return np.asarray(canvas + np.float32(share) * (styled - canvas), np.float32)


def luma(canvas: Canvas) -> Plane:
    """[size, size] brightness 0..255."""
    return np.asarray(canvas[..., 0] * np.float32(0.3) + canvas[..., 1] * np.float32(0.59) + canvas[..., 2] * np.float32(0.11), np.float32)


def edges(plane: Plane) -> Plane:
    """Sum of absolute differences over one lattice unit, right and down; the last row and column repeat."""
    step = max(1, round(plane.shape[0] / LATTICE))
    right = np.zeros_like(plane)
    down = np.zeros_like(plane)
    right[:, :-step] = np.abs(plane[:, step:] - plane[:, :-step])
    down[:-step] = np.abs(plane[step:] - plane[:-step])
    return right + down


def apply_camera(canvas: Canvas, camera: Camera) -> Canvas:
    """Zoom about a point, then shift; what comes in at the border is mirrored."""
    size = canvas.shape[0]
    scale = size / LATTICE
    columns = _source(size, scale, camera.zoom, camera.x, camera.shift_x)
    rows = _source(size, scale, camera.zoom, camera.y, camera.shift_y)
    low, high, share = _mirror(columns, size)
    wide = canvas[:, low] + (canvas[:, high] - canvas[:, low]) * share[None, :, None]
    low, high, share = _mirror(rows, size)
    return np.asarray(wide[low] + (wide[high] - wide[low]) * share[:, None, None], np.float32)


def _source(size: int, scale: float, zoom: float, anchor: float, shift: float) -> Plane:
    """The source coordinate in pixels (0 = first centre) of each target pixel."""
    units = (np.arange(size, dtype=np.float64) + 0.5) / scale
    return np.asarray((((units - shift - anchor) / zoom + anchor) * scale - 0.5), np.float32)


def _mirror(at: Plane, size: int) -> tuple[np.ndarray, np.ndarray, Plane]:
    low = np.floor(at).astype(np.int64)
    share = at - low.astype(np.float32)
    period = 2 * size
    fold = [np.where(i % period < size, i % period, period - 1 - i % period) for i in (low, low + 1)]
    return fold[0], fold[1], share
