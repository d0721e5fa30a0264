"""The scene graph: what stands where, on what, in which light. Pure records; nothing here draws.

A scene is a 3 x 3 grid of cells (numbered row by row, 0 = top left) with at most one object each. Half-done edits are states of
the graph as well (an opacity, a second color with its share, a ghost of the object that was there), so that a picture is a
function of its scene and the oracle can compare two scenes without looking at pixels.
"""

from typing import Final

import msgspec

from editscore.world.palette import CELL, GRID

NO_TARGET: Final = -1


class SceneObject(msgspec.Struct, frozen=True):
    """One thing. `key` stays the same through an edit, so that two scenes can be compared object by object."""

    key: int
    shape: str
    color: str  # a sign's board, a person's hair
    material: str
    size: str
    cell: int  # 0..8
    dx: int = 0  # offset from the cell's centre, lattice units
    dy: int = 0
    text: str = ""  # signs only
    expression: str = ""  # persons only
    accessory: str = ""  # persons only
    opacity: float = 1.0
    old_color: str = ""  # the color before a half-done change; `share` of the new one is there
    old_material: str = ""
    share: float = 1.0

    @property
    def center(self) -> tuple[int, int]:
        """(x, y) in lattice units."""
        return (self.cell % GRID) * CELL + CELL // 2 + self.dx, (self.cell // GRID) * CELL + CELL // 2 + self.dy

    @property
    def name(self) -> str:
        """What an instruction calls it; unique within a scene."""
        return "person" if self.shape == "person" else f"{self.color} {self.shape}"


class Background(msgspec.Struct, frozen=True):
    """`kind` of BACKGROUNDS; `color` only for the colored kinds; `seed` fixes the drawn texture.

    A photo is the square crop with its corner at (left, top) and its side `span`, all as shares (0..1) of what the photo allows.
    """

    kind: str
    color: str = ""
    seed: int = 0
    photo: int = -1
    left: float = 0.0
    top: float = 0.0
    span: float = 1.0

    @property
    def name(self) -> str:
        """What a reason calls it: plain gray, gray lines, forest."""
        if self.kind == "plain":
            return f"plain {self.color}"
        return f"{self.color} {self.kind}" if self.color else self.kind


class Camera(msgspec.Struct, frozen=True):
    """The window on the scene: `zoom` >= 1 about the point (x, y), then a shift, lattice units."""

    zoom: float = 1.0
    x: float = 42.0
    y: float = 42.0
    shift_x: float = 0.0
    shift_y: float = 0.0


class Scene(msgspec.Struct, frozen=True):
    """All that is in the picture before quality faults. `share` values of 0..1 are half-done global edits."""

    objects: tuple[SceneObject, ...]
    background: Background
    ghosts: tuple[SceneObject, ...] = ()  # drawn below the objects, with their opacity
    old_background: Background | None = None
    background_share: float = 1.0
    tone: str = ""
    tone_share: float = 1.0
    style: str = ""
    style_share: float = 1.0
    camera: Camera = Camera()

    def find(self, key: int) -> SceneObject | None:
        """The object with this key, or None."""
        return next((o for o in self.objects if o.key == key), None)

    def free_cells(self) -> tuple[int, ...]:
        """Cells without an object, ascending."""
        taken = {o.cell for o in self.objects}
        return tuple(c for c in range(GRID * GRID) if c not in taken)


class Operation(msgspec.Struct, frozen=True):
    """One thing an instruction asks for.

    kind: add | remove | replace | color | material | style | tone | background | extract | expression | hair | accessory | text | move.
    """

    kind: str
    target: int = NO_TARGET  # key of a source object
    value: str = ""  # the new color, material, style, tone, expression, hair color, accessory or text
    cell: int = -1  # the destination of a move
    object: SceneObject | None = None  # what is added, or stands in the target's place
    background: Background | None = None


class Fault(msgspec.Struct, frozen=True):
    """Something wrong with an edit. `part`: edit | collateral | quality. `seed` fixes how a quality fault looks."""

    kind: str
    grade: int = 1  # 1 weak, 2 medium, 3 strong
    part: str = "quality"
    seed: int = 0
    subject: str = ""

    @property
    def tag(self) -> str:
        """Short text for manifests: kind:grade."""
        return f"{self.kind}:{self.grade}"
