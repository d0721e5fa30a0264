"""Per-image truth as class ids, for auxiliary losses. 0 = none or empty; id = index in the palette's tuple + 1.

Legend: 9 cells, row by row.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from editscore.world.operations import cell_at
from editscore.world.oracle import visible_faults
from editscore.world.palette import (
    ACCESSORIES,
    BACKGROUND_COLORS,
    BACKGROUNDS,
    BROKEN_TEXT,
    CAMERAS,
    COLORS,
    EXPRESSIONS,
    GRID,
    MATERIALS,
    PAINTED_FAULTS,
    QUALITY_FAULTS,
    SHAPES,
    SIZES,
    STYLES,
    TEXTS,
    TONES,
)
from editscore.world.records import Group, GroupEdit
from editscore.world.scene import Camera, Fault, Scene, SceneObject

Ids = NDArray[np.int64]

# Number of classes, the 0 included. `detail` is a sign's text (a broken one after all others), or a person's expression x accessory.
NUM_DETAILS: Final = 1 + len(TEXTS) + 1 + len(EXPRESSIONS) * len(ACCESSORIES)
CLASSES: Final[dict[str, int]] = {
    "shape": len(SHAPES) + 1,
    "color": len(COLORS) + 1,
    "material": len(MATERIALS) + 1,
    "size": len(SIZES) + 1,
    "detail": NUM_DETAILS,
    "background_kind": len(BACKGROUNDS) + 1,
    "background_color": len(BACKGROUND_COLORS) + 1,
    "tone": len(TONES) + 1,
    "style": len(STYLES) + 1,
    "camera": len(CAMERAS) + 1,
    "quality": 4,
}
CELL_FIELDS: Final = ("shape", "color", "material", "size", "detail")
IMAGE_FIELDS: Final = ("background_kind", "background_color", "tone", "style")


class SceneLabels(NamedTuple):
    """cells [9, 5] in the order CELL_FIELDS; image [4] in the order IMAGE_FIELDS; quality [len(QUALITY_FAULTS)] grades 0..3."""

    cells: Ids
    image: Ids
    quality: Ids


class EditLabels(NamedTuple):
    """What an edit did, against the source.

    changed [9] 0/1: the cell's content differs. target [9]: 0 no, 1 the instruction's source target, 2 its destination (add, move).
    globals [4] 0/1: background, tone, style, camera differ. camera: 0, 1 shifted, 2 cropped. image: the edited picture's labels.
    """

    image: SceneLabels
    changed: Ids
    target: Ids
    globals: Ids
    camera: int


def scene_labels(scene: Scene, faults: tuple[Fault, ...] = ()) -> SceneLabels:
    """Labels of one picture; `faults` are those of the edit that made it (none for a source).

    A half-done change counts as what more than half of it shows. An object counts for the cell that its centre lies in, camera
    included. Faults that the scene itself shows (ghost, broken text) are added.
    """
    cells = np.zeros((GRID * GRID, len(CELL_FIELDS)), np.int64)
    for thing in sorted((*scene.ghosts, *scene.objects), key=lambda o: o.opacity):
        cell = _seen_cell(thing, scene.camera)
        if cell >= 0 and thing.opacity > 0:
            cells[cell] = _object_ids(thing)
    background = scene.background
    if scene.old_background is not None and scene.background_share < 0.5:
        background = scene.old_background
    image = np.array(
        (
            _id(BACKGROUNDS, background.kind),
            _id(tuple(BACKGROUND_COLORS), background.color),
            _id(TONES, scene.tone),
            _id(STYLES, scene.style),
        ),
        np.int64,
    )
    quality = np.zeros(len(QUALITY_FAULTS), np.int64)
    for fault in visible_faults(scene, tuple(f for f in faults if f.part == "quality" and f.kind in PAINTED_FAULTS)):
        quality[QUALITY_FAULTS.index(fault.kind)] = fault.grade
    return SceneLabels(cells, image, quality)


def edit_labels(group: Group, edit: GroupEdit) -> EditLabels:
    """Labels of one edit against its group's source."""
    before, after = group.scene, edit.scene
    changed = np.zeros(GRID * GRID, np.int64)
    for old in before.objects:
        if after.find(old.key) != old:
            _mark(changed, _seen_cell(old, Camera()), 1)
    for new in after.objects:
        if before.find(new.key) != new:
            _mark(changed, _seen_cell(new, after.camera), 1)
    target = np.zeros(GRID * GRID, np.int64)
    for operation in group.operations:
        wanted = before.find(operation.target)
        if wanted is not None:
            _mark(target, wanted.cell, 1)
        goal = operation.object.cell if operation.kind == "add" and operation.object is not None else operation.cell
        _mark(target, goal, 2)
    camera = 0
    if after.camera != Camera():
        camera = 1 + CAMERAS.index("shifted" if after.camera.zoom == 1 else "cropped")
    differs = (after.background != before.background, after.tone != before.tone, after.style != before.style, camera > 0)
    return EditLabels(scene_labels(after, edit.faults), changed, target, np.array(differs, np.int64), camera)


def _mark(cells: Ids, cell: int, value: int) -> None:
    if cell >= 0:
        cells[cell] = value


def _id(names: tuple[str, ...], name: str) -> int:
    return names.index(name) + 1 if name else 0


def _seen_cell(thing: SceneObject, camera: Camera) -> int:
    x, y = thing.center
    at_x = (x - camera.x) * camera.zoom + camera.x + camera.shift_x
    at_y = (y - camera.y) * camera.zoom + camera.y + camera.shift_y
    return cell_at(at_x, at_y)


def _object_ids(thing: SceneObject) -> tuple[int, ...]:
    detail = 0
    if thing.shape == "sign":
        detail = 1 + (len(TEXTS) if thing.text == BROKEN_TEXT else TEXTS.index(thing.text))
    elif thing.shape == "person":
        detail = 2 + len(TEXTS) + EXPRESSIONS.index(thing.expression) * len(ACCESSORIES) + ACCESSORIES.index(thing.accessory)
    color = thing.old_color if thing.share < 0.5 and thing.old_color else thing.color
    material = thing.old_material if thing.share < 0.5 and thing.old_material else thing.material
    return (_id(SHAPES, thing.shape), _id(tuple(COLORS), color), _id(MATERIALS, material), _id(tuple(SIZES), thing.size), detail)
