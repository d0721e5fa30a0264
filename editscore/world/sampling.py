"""Drawing source scenes and what is asked of them. Every draw goes through one generator, in a fixed order."""

from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec
import numpy as np

from editscore.world.palette import (
    ACCESSORIES,
    BACKGROUND_COLORS,
    CELL,
    COLORED_BACKGROUNDS,
    COLORS,
    EXPRESSIONS,
    GRID,
    MATERIALS,
    PLAIN_SHAPES,
    SCENIC_BACKGROUNDS,
    STYLES,
    TEXTS,
    TONES,
)
from editscore.world.scene import Background, Camera, Operation, Scene, SceneObject

Rng = np.random.Generator
T = TypeVar("T")

NEW_KEY: Final = 50  # key of an object that the instruction brings in; editors' own extras count up from EXTRA_KEY
EXTRA_KEY: Final = 90
_SCENIC_SHARE: Final = 300  # of 1000 sources
_PHOTO_SHARE: Final = 250

# What kind of operation a task asks for; several are drawn alike.
OPERATIONS: Final[dict[str, tuple[str, ...]]] = {
    "subject-add": ("add",),
    "subject-remove": ("remove",),
    "subject-replace": ("replace",),
    "color_alter": ("color",),
    "material_alter": ("material",),
    "style_change": ("style",),
    "tone_transfer": ("tone",),
    "background_change": ("background",),
    "extract": ("extract",),
    "ps_human": ("expression", "hair", "accessory"),
    "text_change": ("text",),
    "motion_change": ("move",),
    "compose": ("color", "material", "remove", "replace", "move"),
}


def pick(rng: Rng, options: Sequence[T]) -> T:
    """One of the options, all alike."""
    return options[int(rng.integers(len(options)))]


def pick_other(rng: Rng, options: Sequence[T], *excluded: T) -> T:
    """One of the options that is none of the excluded ones."""
    return pick(rng, [o for o in options if o not in excluded])


def weighted(rng: Rng, weights: dict[str, int]) -> str:
    """A key with probability proportional to its whole-number weight (whole numbers: no rounding decides)."""
    at = int(rng.integers(sum(weights.values())))
    for name, weight in weights.items():
        at -= weight
        if at < 0:
            return name
    raise AssertionError("weights changed under the draw")


def place(rng: Rng, thing_size: str, wide: bool = False) -> tuple[int, int]:
    """A jitter (dx, dy) in lattice units that keeps the object within its cell."""
    reach = 1 if wide else (2 if thing_size == "large" else 4)
    return int(rng.integers(-reach, reach + 1)), int(rng.integers(-reach, reach + 1))


def draw_object(rng: Rng, key: int, cell: int, names: set[str], shape: str = "") -> SceneObject:
    """An object whose name is not taken yet."""
    while True:
        what = shape or pick(rng, PLAIN_SHAPES)
        color = pick(rng, tuple(COLORS))
        if what == "person" or f"{color} {what}" not in names:
            break
    special = what in ("sign", "person")
    size = "large" if special or rng.integers(2) else "small"
    material = pick(rng, MATERIALS)
    if special or rng.integers(10) < 4:
        material = "solid"
    dx, dy = place(rng, size, special)
    return SceneObject(
        key=key,
        shape=what,
        color=color,
        material=material,
        size=size,
        cell=cell,
        dx=dx,
        dy=dy,
        text=pick(rng, TEXTS) if what == "sign" else "",
        expression=pick(rng, EXPRESSIONS) if what == "person" else "",
        accessory=pick(rng, ACCESSORIES) if what == "person" else "",
    )


def draw_background(rng: Rng, num_photos: int) -> Background:
    """A source's background. The same numbers are drawn whether or not photos are there."""
    roll = int(rng.integers(1000))
    kind, color = pick(rng, COLORED_BACKGROUNDS), pick(rng, tuple(BACKGROUND_COLORS))
    scenic, seed = pick(rng, SCENIC_BACKGROUNDS), int(rng.integers(1 << 31))
    photo, span = int(rng.integers(1 << 20)), int(rng.integers(24, 65)) / 64
    left, top = int(rng.integers(65)) / 64, int(rng.integers(65)) / 64
    if roll < _PHOTO_SHARE and num_photos:
        return Background("photo", photo=photo % num_photos, left=left, top=top, span=span)
    if roll < _PHOTO_SHARE + _SCENIC_SHARE:
        return Background(scenic, seed=seed)
    return Background(kind, color)


def draw_scene(rng: Rng, task_type: str, num_photos: int) -> Scene:
    """Two to five objects in cells of their own. text_change has a sign, ps_human a person; elsewhere both are rare."""
    background = draw_background(rng, num_photos)
    count = int(weighted(rng, {"2": 15, "3": 35, "4": 30, "5": 20}))
    cells = rng.permutation(GRID * GRID)[:count].tolist()
    special = [("sign", int(rng.integers(100)) < 13), ("person", int(rng.integers(100)) < 10)]
    shapes = [name for name, chance in special if chance or (name, task_type) in (("sign", "text_change"), ("person", "ps_human"))]
    objects: list[SceneObject] = []
    for key, cell in enumerate(cells):
        shape = shapes[key] if key < len(shapes) and count - key > 1 else ""
        if task_type in ("ps_human", "text_change") and key == 0:
            shape = "person" if task_type == "ps_human" else "sign"
        elif shape and any(o.shape == shape for o in objects):
            shape = ""
        objects.append(draw_object(rng, key, int(cell), {o.name for o in objects}, shape))
    return Scene(tuple(objects), background)


def draw_operations(rng: Rng, task_type: str, scene: Scene) -> tuple[Operation, ...]:
    """What the instruction asks for: one operation, or two on different objects for compose."""
    if task_type != "compose":
        return (draw_operation(rng, pick(rng, OPERATIONS[task_type]), scene, ()),)
    first = draw_operation(rng, pick(rng, OPERATIONS["compose"]), scene, ())
    while True:
        second = draw_operation(rng, pick(rng, OPERATIONS["compose"]), scene, (first.target,))
        clash = second.kind == "move" and second.cell == first.cell
        named = first.object is not None and second.object is not None and first.object.name == second.object.name
        if not clash and not named and not (first.kind == second.kind == "remove" and len(scene.objects) < 3):
            return first, second


def draw_operation(rng: Rng, kind: str, scene: Scene, taken: tuple[int, ...]) -> Operation:
    """One operation of a kind on an object not in `taken`."""
    if kind in ("style", "tone"):
        return Operation(kind, value=pick(rng, STYLES if kind == "style" else TONES))
    if kind == "background":
        return Operation(kind, background=draw_new_background(rng, scene.background))
    if kind == "add":
        thing = draw_object(rng, NEW_KEY, pick(rng, scene.free_cells()), {o.name for o in scene.objects})
        return Operation(kind, object=msgspec.structs.replace(thing, material="solid"))
    free = [o for o in scene.objects if o.key not in taken]
    target = pick(rng, [o for o in free if can_take(o, kind)] or free)
    if not can_take(target, kind):
        kind = "move"
    return _targeted(rng, kind, scene, target)


def can_take(thing: SceneObject, kind: str) -> bool:
    """Whether an operation of this kind can be asked of this object."""
    if kind in ("hair", "expression", "accessory"):
        return thing.shape == "person"
    if kind == "text":
        return thing.shape == "sign"
    if kind == "color":
        return thing.shape != "person"
    return kind not in ("material", "replace") or thing.shape in PLAIN_SHAPES


def _targeted(rng: Rng, kind: str, scene: Scene, target: SceneObject) -> Operation:
    if kind in ("remove", "extract"):
        return Operation(kind, target.key)
    if kind == "move":
        return Operation(kind, target.key, cell=pick(rng, scene.free_cells()))
    if kind == "replace":
        while True:
            new = draw_object(rng, target.key, target.cell, {o.name for o in scene.objects})
            if new.shape != target.shape:
                break
        return Operation(kind, target.key, object=replacement(target, new))
    return Operation(kind, target.key, value=draw_value(rng, kind, scene, target))


def replacement(target: SceneObject, new: SceneObject) -> SceneObject:
    """`new` standing where and as large as the target stood, in plain material."""
    return SceneObject(target.key, new.shape, new.color, "solid", target.size, target.cell, target.dx, target.dy)


def draw_value(rng: Rng, kind: str, scene: Scene, target: SceneObject, *excluded: str) -> str:
    """A new color, material, text ... for the target: not the present one, none of `excluded`, no name twice."""
    if kind in ("color", "hair"):
        taken = {o.color for o in scene.objects if o.shape == target.shape}
        return pick_other(rng, tuple(COLORS), *taken, *excluded)
    if kind == "accessory" and not excluded:  # asked for: put one on, or take it off, never exchange two
        return "none" if target.accessory != "none" else pick(rng, ("glasses", "hat"))
    options, present = {
        "material": (MATERIALS, target.material),
        "text": (TEXTS, target.text),
        "expression": (EXPRESSIONS, target.expression),
        "accessory": (ACCESSORIES, target.accessory),
    }[kind]
    return pick_other(rng, options, present, *excluded)


def draw_new_background(rng: Rng, old: Background, *excluded: Background) -> Background:
    """A background to ask for: half colored, half scenic; clearly another one than the old."""
    while True:
        colored = int(rng.integers(2))
        kind, color = pick(rng, COLORED_BACKGROUNDS), pick(rng, tuple(BACKGROUND_COLORS))
        scenic, seed = pick(rng, SCENIC_BACKGROUNDS), int(rng.integers(1 << 31))
        new = Background(kind, color) if colored else Background(scenic, seed=seed)
        if all((new.color != b.color) if colored else (new.kind != b.kind) for b in (old, *excluded)):
            return new


def near_background(rng: Rng, old: Background, goal: Background) -> Background:
    """A background like the one asked for, yet another."""
    if goal.color and rng.integers(2):
        kinds = ("plain", "gradient", "lines", "tiles")
        return msgspec.structs.replace(goal, kind=pick_other(rng, kinds, goal.kind))
    return draw_new_background(rng, old, goal)


def near_object(rng: Rng, goal: SceneObject, target: SceneObject | None) -> SceneObject:
    """An object like the one asked for, in another color or shape."""
    present = target.shape if target is not None else ""
    if rng.integers(2):
        return msgspec.structs.replace(goal, color=pick_other(rng, tuple(COLORS), goal.color))
    return msgspec.structs.replace(goal, shape=pick_other(rng, PLAIN_SHAPES, goal.shape, present))


def draw_camera(rng: Rng) -> Camera:
    """A shift or a crop that moves every object by several pixels at 84 px."""
    if rng.integers(2):
        reach = pick(rng, (5, 8, 12))
        across, down = pick(rng, ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1)))
        return Camera(shift_x=float(reach * across), shift_y=float(reach * down))
    x, y = int(rng.integers(1, 3)) * CELL, int(rng.integers(1, 3)) * CELL
    return Camera(zoom=pick(rng, (1.125, 1.25, 1.375)), x=float(x), y=float(y))
