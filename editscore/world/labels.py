"""Per-image truth as class ids, for auxiliary losses. 0 = none or empty; id = index in the palette's tuple + 1.

Legend: 9 cells, row by row.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from editscore.world.groups import Group, GroupEdit
from editscore.world.palette import (
    ACCESSORIES,
    BACKGROUND_COLORS,
    BACKGROUNDS,
    CAMERAS,
    COLORS,
    EXPRESSIONS,
    MATERIALS,
    SHAPES,
    SIZES,
    STYLES,
    TEXTS,
    TONES,
)
from editscore.world.scene import Fault, Scene

Ids = NDArray[np.int64]

# Number of classes, the 0 included. `detail` is a sign's text (broken last but faces), or a person's expression x accessory.
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
    """Labels of one picture; `faults` are those of the edit that made it (none for a source)."""
    raise NotImplementedError


def edit_labels(group: Group, edit: GroupEdit) -> EditLabels:
    """Labels of one edit against its group's source."""
    raise NotImplementedError
