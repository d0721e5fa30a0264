"""Carrying an operation out on a scene graph: fully, or to a share of it."""

from typing import Final

import msgspec

from editscore.world.palette import CELL, GRID, LATTICE
from editscore.world.scene import Background, Operation, Scene, SceneObject

EXTRACT_GROUND: Final = Background("plain", "white")
_change = msgspec.structs.replace


def apply(scene: Scene, operation: Operation, share: float = 1.0, jitter: tuple[int, int] = (0, 0)) -> Scene:
    """The scene after `share` (0..1] of the operation. `jitter` is where in its new cell a moved object lands.

    What half done means: add and remove = half transparent; replace, text and face = both mixed; color and material = half way;
    move = stopped on the way; background, tone, style, extract = cross-faded.
    """
    kind = operation.kind
    if kind == "tone":
        return _change(scene, tone=operation.value, tone_share=share)
    if kind == "style":
        return _change(scene, style=operation.value, style_share=share)
    if kind == "background":
        assert operation.background is not None
        return set_background(scene, operation.background, share)
    if kind == "add":
        assert operation.object is not None
        return _change(scene, objects=(*scene.objects, _change(operation.object, opacity=share)))
    target = scene.find(operation.target)
    if target is None:
        return scene
    if kind == "extract":
        return _extract(scene, target, share)
    if kind == "remove":
        return swap(scene, target, None if share >= 1 else _change(target, opacity=target.opacity * (1 - share)))
    new = altered(target, operation, share, jitter)
    if kind in ("color", "hair", "material", "move") or share >= 1:
        return swap(scene, target, new)
    mixed = swap(scene, target, _change(new, opacity=share))
    return _change(mixed, ghosts=(*scene.ghosts, _change(target, opacity=1 - share * share)))


def altered(target: SceneObject, operation: Operation, share: float, jitter: tuple[int, int]) -> SceneObject:
    """The target as the operation wants it (colors and moves: to the given share)."""
    kind, value = operation.kind, operation.value
    if kind in ("color", "hair"):
        return _change(target, color=value, old_color=target.color if share < 1 else "", share=share)
    if kind == "material":
        return _change(target, material=value, old_material=target.material if share < 1 else "", share=share)
    if kind == "text":
        return _change(target, text=value)
    if kind == "expression":
        return _change(target, expression=value)
    if kind == "accessory":
        return _change(target, accessory=value)
    if kind == "replace":
        assert operation.object is not None
        return _change(operation.object, key=target.key, size=target.size, cell=target.cell, dx=target.dx, dy=target.dy)
    return moved(target, operation.cell, share, jitter)


def moved(thing: SceneObject, cell: int, share: float, jitter: tuple[int, int]) -> SceneObject:
    """The object a share of its way to a cell."""
    arrived = _change(thing, cell=cell, dx=jitter[0], dy=jitter[1])
    if share >= 1:
        return arrived
    (x0, y0), (x1, y1) = thing.center, arrived.center
    x, y = round(x0 + (x1 - x0) * share), round(y0 + (y1 - y0) * share)
    now = cell_at(x, y)
    return _change(thing, cell=now, dx=x - (now % GRID) * CELL - CELL // 2, dy=y - (now // GRID) * CELL - CELL // 2)


def cell_at(x: float, y: float) -> int:
    """The cell of a point (lattice units), or -1 outside the picture."""
    if not (0 <= x < LATTICE and 0 <= y < LATTICE):
        return -1
    return int(y // CELL) * GRID + int(x // CELL)


def set_background(scene: Scene, background: Background, share: float = 1.0) -> Scene:
    """Put another background behind the objects."""
    if share >= 1:
        return _change(scene, background=background)
    return _change(scene, background=background, old_background=scene.background, background_share=share)


def _extract(scene: Scene, target: SceneObject, share: float) -> Scene:
    others = tuple(_change(o, opacity=o.opacity * (1 - share)) for o in scene.objects if o.key != target.key)
    kept = (*(others if share < 1 else ()), target)
    return _change(set_background(scene, EXTRACT_GROUND, share), objects=kept, ghosts=())


def swap(scene: Scene, old: SceneObject, new: SceneObject | None) -> Scene:
    """The scene with one object exchanged, or taken out."""
    objects = (new if o.key == old.key else o for o in scene.objects)
    return _change(scene, objects=tuple(o for o in objects if o is not None))
