"""Real photographs for training, and EditWorld's global edits of them.

The photographs lie in scikit-image's wheel (its data README names the licences), an optional package. Those of HELD_OUT are never
trained on: they measure the domain head.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editscore.world import MAX_EDITS, Background, Group, GroupEdit, Scene, Split, load_photos, paint, plan_group

Pixels = NDArray[np.uint8]
Rng = np.random.Generator

# Beside those that EditWorld lends for training: more of scikit-image's pictures, none of them in EditWorld's held-out set.
MORE: Final = ("cell.png", "clock_motion.png", "moon.png", "page.png")
LONGEST_SIDE: Final = 384
GLOBAL_TASKS: Final = ("style_change", "tone_transfer", "background_change")
# A halo, a seam or a cut is painted about an object.
_NEEDS_OBJECT: Final = frozenset({"halo", "seam", "cut"})


def training_photos() -> tuple[Pixels, ...]:
    """Photographs to train over, at most 384 px long, each also with its channels in another order and upside down.

    None without scikit-image.
    """
    photos = [_shrunk(Image.fromarray(photo)) for photo in load_photos("train")]
    spec = importlib.util.find_spec("skimage")
    if spec is not None and spec.origin is not None:
        for path in (Path(spec.origin).parent / "data" / name for name in MORE):
            if path.is_file():
                with Image.open(path) as image:
                    photos.append(_shrunk(image))
    varied = [np.ascontiguousarray(photo[::-1, :, order]) for photo in photos for order in ([2, 0, 1], [1, 2, 0])]
    return (*photos, *varied)


def _shrunk(image: Image.Image) -> Pixels:
    photo = image.convert("RGB")
    photo.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(photo)


def bare_photo_group(split: Split, index: int, *, seed: int, num_edits: int, size: int, photos: tuple[Pixels, ...]) -> Group | None:
    """A photograph without any object under a global instruction, with EditWorld's own edits and verdicts.

    It is a group of the world whose objects are taken out, so only edits that touched none of them qualify: their verdicts
    speak of the picture alone. None where fewer than `num_edits` do.
    """
    plan = plan_group(split, index, seed=seed, task_type=GLOBAL_TASKS[index % len(GLOBAL_TASKS)], num_edits=MAX_EDITS)
    rng = np.random.default_rng([seed, 3, index])
    left, top, span = rng.integers(0, 65, 3).tolist()
    photo = Background("photo", photo=int(rng.integers(len(photos))), left=left / 64, top=top / 64, span=(32 + span // 2) / 64)
    old = plan.scene.background
    edits: list[GroupEdit] = []
    for edit in plan.edits:
        untouched = edit.scene.objects == plan.scene.objects and not edit.scene.ghosts
        if untouched and not any(fault.kind in _NEEDS_OBJECT for fault in edit.painted) and len(edits) < num_edits:
            scene = _bare(edit.scene, old, photo)
            picture = paint(scene, edit.painted, size, photos)
            edits.append(GroupEdit(f"{plan.id}-photo-{len(edits)}", edit.editor, picture, scene, edit.faults, edit.verdict))
    if len(edits) < num_edits:
        return None
    source, goal = _bare(plan.scene, old, photo), _bare(plan.goal, old, photo)
    picture = paint(source, (), size, photos)
    return Group(f"{plan.id}-photo", plan.task_type, plan.instruction, plan.operations, source, goal, picture, tuple(edits))


def _bare(scene: Scene, old: Background, photo: Background) -> Scene:
    """The scene without objects, over the photograph where it stood on the old background."""
    return msgspec.structs.replace(
        scene,
        objects=(),
        background=photo if scene.background == old else scene.background,
        old_background=photo if scene.old_background == old else scene.old_background,
    )
