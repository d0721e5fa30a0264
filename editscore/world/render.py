"""From a scene graph to pixels, at any size."""

import numpy as np
from numpy.typing import NDArray

from editscore.world.backgrounds import Canvas, Photos, paint_background
from editscore.world.figures import patch_of
from editscore.world.looks import apply_camera, apply_style, apply_tone
from editscore.world.palette import LATTICE
from editscore.world.scene import Camera, Scene, SceneObject

_STILL = Camera()


def render(scene: Scene, size: int = LATTICE, photos: Photos = ()) -> Canvas:
    """[size, size, 3] float32 on 0..255, before quality faults."""
    canvas = paint_background(scene.background, size, photos)
    if scene.old_background is not None and scene.background_share < 1:
        before = paint_background(scene.old_background, size, photos)
        canvas = before + np.float32(scene.background_share) * (canvas - before)
    else:
        canvas = canvas.copy()
    for thing in (*scene.ghosts, *scene.objects):
        _place(canvas, thing)
    if scene.tone:
        canvas = apply_tone(canvas, scene.tone, scene.tone_share)
    if scene.style:
        canvas = apply_style(canvas, scene.style, scene.style_share)
    if scene.camera != _STILL:
        canvas = apply_camera(canvas, scene.camera)
    return canvas


def to_pixels(canvas: Canvas) -> NDArray[np.uint8]:
    """Round to uint8."""
    return np.asarray(np.clip(canvas + np.float32(0.5), 0, 255), np.uint8)


def _place(canvas: Canvas, thing: SceneObject) -> None:
    size = canvas.shape[0]
    patch, left, top = patch_of(thing, size / LATTICE)
    n = patch.shape[0]
    x0, y0, x1, y1 = max(0, left), max(0, top), min(size, left + n), min(size, top + n)
    if x1 <= x0 or y1 <= y0:
        return
    part = patch[y0 - top : y1 - top, x0 - left : x1 - left]
    if thing.opacity < 1:
        part = part * np.float32(thing.opacity)
    region = canvas[y0:y1, x0:x1]
    region *= 1 - part[..., 3:]
    region += part[..., :3]
