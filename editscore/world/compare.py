"""How far each operation of an instruction got, read off the scene graphs before and after.

Nothing here knows what the editor meant to do: two editors that leave the same scene get the same words and the same verdict.
"""

import math
from typing import Final

import msgspec

from editscore.world.operations import EXTRACT_GROUND
from editscore.world.palette import BROKEN_TEXT, PLACES
from editscore.world.scene import Operation, Scene, SceneObject

# Share of an operation that is credited when something was done, but not the right thing.
CREDIT: Final = {
    "wrong_object": 0.12,
    "wrong_attribute": 0.3,
    "wrong_shape": 0.3,
    "wrong_color": 0.4,
    "wrong_place": 0.4,
    "broken_text": 0.1,
}
MOVE_TOLERANCE: Final = 6.0  # lattice units: this near to where it belongs counts as there
SHIFT_TOLERANCE: Final = 3.0
ATTRIBUTE: Final[dict[str, str]] = {"color": "color", "hair": "color"} | {k: k for k in ("material", "text", "expression", "accessory")}


class Progress(msgspec.Struct, frozen=True):
    """How far one operation got (0..1), in words, with its faults; `wrong` is the key of an object edited in the target's place."""

    share: float
    phrase: str
    faults: tuple[str, ...] = ()
    wrong: int = -1


def amount(share: float) -> str:
    """slightly, half, mostly, or nothing when all is done; with a trailing space."""
    return "" if share >= 0.999 else ("slightly " if share < 0.4 else ("half " if share < 0.6 else "mostly "))


def follow(operation: Operation, before: Scene, after: Scene, taken: tuple[int, ...]) -> Progress:
    """How far `operation` got. `taken` are the keys of all objects that the instruction names."""
    if operation.kind in ("tone", "style", "background"):
        return _follow_global(operation, before, after)
    if operation.kind == "add":
        return _follow_add(operation, before, after)
    target, now = before.find(operation.target), after.find(operation.target)
    assert target is not None
    if operation.kind == "extract":
        progress = _follow_extract(target, before, after)
    elif operation.kind == "remove":
        share = 1.0 if now is None else 1 - now.opacity
        progress = _graded(share, f"{target.name} {amount(share)}removed")
    elif now is None:
        progress = Progress(0.0, f"{target.name} lost", ("lose",))
    elif operation.kind == "move":
        progress = _follow_move(operation, target, now)
    elif operation.kind == "replace":
        progress = _follow_replace(operation, target, now)
    else:
        progress = _follow_attribute(operation, target, now)
    if progress.share > 0 or progress.faults:
        return progress
    return _wrong_object(operation, before, after, taken) or Progress(0.0, f"{target.name} unchanged", ("noop",))


def _graded(share: float, phrase: str) -> Progress:
    return Progress(share, phrase, () if share >= 0.999 or share <= 0 else ("partial",))


def _follow_global(operation: Operation, before: Scene, after: Scene) -> Progress:
    if operation.kind == "background":
        goal, now = operation.background, after.background
        assert goal is not None
        if now == before.background:
            return Progress(0.0, "background unchanged", ("noop",))
        same_color, same_kind = now.color == goal.color, now.kind == goal.kind
        if same_color and same_kind:
            return _graded(after.background_share, f"background {amount(after.background_share)}turned {now.name}")
        credit = 0.5 if same_kind else (0.4 if same_color and goal.color else 0.2)
        return Progress(credit, f"wrong background, turned {now.name}", ("wrong_attribute",))
    now_value, share = (after.tone, after.tone_share) if operation.kind == "tone" else (after.style, after.style_share)
    if not now_value:
        return Progress(0.0, f"{operation.kind} unchanged", ("noop",))
    if now_value == operation.value:
        return _graded(share, f"image {amount(share)}turned {now_value}")
    return Progress(0.2, f"wrong {operation.kind}, image turned {now_value}", ("wrong_attribute",))


def _follow_add(operation: Operation, before: Scene, after: Scene) -> Progress:
    goal = operation.object
    assert goal is not None
    new = added(operation, before, after)
    if new is None:
        return Progress(0.0, f"{goal.name} not added", ("noop",))
    wrong = _misses(goal, new)
    if not wrong:
        return _graded(new.opacity, f"{goal.name} {amount(new.opacity)}added")
    share = new.opacity
    for miss in wrong:
        share *= CREDIT[miss]
    words = " ".join(m.removeprefix("wrong_") for m in wrong)
    where = f" {PLACES[new.cell]}" if "wrong_place" in wrong else ""
    faults = ("wrong_place",) if wrong == ["wrong_place"] else ("wrong_attribute",)
    return Progress(share, f"wrong {words}, {new.name} added{where}", faults)


def _misses(goal: SceneObject, new: SceneObject) -> list[str]:
    pairs = (("wrong_shape", goal.shape == new.shape), ("wrong_color", goal.color == new.color), ("wrong_place", goal.cell == new.cell))
    return [name for name, fits in pairs if not fits]


def added(operation: Operation, before: Scene, after: Scene) -> SceneObject | None:
    """The new object that fits an add best; among equals the first."""
    assert operation.object is not None
    goal = operation.object
    new = [o for o in after.objects if before.find(o.key) is None]
    return min(new, key=lambda o: len(_misses(goal, o)), default=None)


def _follow_extract(target: SceneObject, before: Scene, after: Scene) -> Progress:
    """Leftovers are objects of the source that should be gone; what an editor adds is a side effect, not a leftover."""
    now = after.find(target.key)
    leftovers = [o for o in after.objects if o.key != target.key and before.find(o.key) is not None]
    was_white = before.background == EXTRACT_GROUND and after.background_share >= 1
    if after.background != EXTRACT_GROUND or (was_white and now is not None and len(leftovers) == len(before.objects) - 1):
        return Progress(0.0, f"{target.name} not extracted", ("noop",))
    if now is None:
        name = leftovers[0].name if leftovers else "image"
        return Progress(CREDIT["wrong_object"], f"wrong object, {name} extracted", ("wrong_object",))
    if after.background_share < 1 or not leftovers:
        return _graded(after.background_share, f"{target.name} {amount(after.background_share)}extracted")
    share = 1 - 0.6 * len(leftovers) / max(1, len(before.objects) - 1)
    kept = before.find(leftovers[0].key) or leftovers[0]
    return Progress(share, f"{target.name} extracted with {kept.name}", ("partial",))


def _follow_move(operation: Operation, target: SceneObject, now: SceneObject) -> Progress:
    goal = msgspec.structs.replace(target, cell=operation.cell, dx=0, dy=0).center
    way, left = distance(target.center, goal), distance(now.center, goal)
    gone = distance(target.center, now.center)
    if gone <= SHIFT_TOLERANCE:
        return Progress(0.0, "")
    if left <= MOVE_TOLERANCE:
        return Progress(1.0, f"{target.name} moved {PLACES[operation.cell]}")
    share = max(0.0, 1 - left / way)
    if gone + left <= way * 1.06 and share < 1:
        return Progress(share, f"{target.name} {amount(share)}moved {PLACES[operation.cell]}", ("partial",))
    credit = max(CREDIT["wrong_attribute"] * 0.5, CREDIT["wrong_place"] * share)
    return Progress(credit, f"wrong place, {target.name} moved {PLACES[now.cell]}", ("wrong_place",))


def distance(a: tuple[int, int], b: tuple[int, int]) -> float:
    """Euclidean, lattice units."""
    return math.sqrt((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2)


def _follow_replace(operation: Operation, target: SceneObject, now: SceneObject) -> Progress:
    goal = operation.object
    assert goal is not None
    if (now.shape, now.color) == (target.shape, target.color):
        return Progress(0.0, "")
    wrong = [m for m in _misses(goal, now) if m != "wrong_place"]
    if not wrong:
        return _graded(now.opacity, f"{target.name} {amount(now.opacity)}replaced with {goal.name}")
    share = now.opacity
    for miss in wrong:
        share *= CREDIT[miss]
    words = " ".join(m.removeprefix("wrong_") for m in wrong)
    return Progress(share, f"wrong {words}, {target.name} replaced with {now.name}", ("wrong_attribute",))


def _follow_attribute(operation: Operation, target: SceneObject, now: SceneObject) -> Progress:
    attribute = ATTRIBUTE[operation.kind]
    value, old = str(getattr(now, attribute)), str(getattr(target, attribute))
    if value == old:
        return Progress(0.0, "")
    mixed = operation.kind in ("text", "expression", "accessory")
    share = now.opacity if mixed else now.share
    if value == operation.value:
        return _graded(share, _became(operation.kind, target, value, amount(share)))
    if value == BROKEN_TEXT:
        return Progress(CREDIT["broken_text"], f"broken text on {target.name}", ("broken_text",))
    kind = {"expression": "face", "accessory": "object"}.get(operation.kind, attribute)
    return Progress(CREDIT["wrong_attribute"], f"wrong {kind}, {_became(operation.kind, target, value, '')}", ("wrong_attribute",))


def _became(kind: str, target: SceneObject, value: str, grade: str) -> str:
    if kind == "text":
        return f"{target.name} {grade}says {value}"
    if kind == "hair":
        return f"hair {grade}turned {value}"
    if kind == "accessory":
        return f"{target.accessory} {grade}removed" if value == "none" else f"{target.name} {grade}wears {value}"
    return f"{target.name} {grade}turned {value}"


def _wrong_object(operation: Operation, before: Scene, after: Scene, taken: tuple[int, ...]) -> Progress | None:
    """Another object underwent what the target should have."""
    for old in before.objects:
        if old.key in taken:
            continue
        phrase = _underwent(operation, old, after.find(old.key))
        if phrase:
            return Progress(CREDIT["wrong_object"], f"wrong object, {old.name} {phrase}", ("wrong_object",), old.key)
    return None


def _underwent(operation: Operation, old: SceneObject, now: SceneObject | None) -> str:
    """In words, when the operation was done to this object; otherwise empty."""
    kind = operation.kind
    if kind == "remove" and now is None:
        return "removed"
    if now is None:
        return ""
    if kind == "color" and now.color == operation.value != old.color:
        return f"turned {now.color}"
    if kind == "material" and now.material == operation.value != old.material:
        return f"turned {now.material}"
    goal = operation.object
    if kind == "replace" and goal is not None and (now.shape, now.color) == (goal.shape, goal.color):
        return f"replaced with {now.name}"
    if kind == "move" and now.cell == operation.cell != old.cell:
        return f"moved {PLACES[now.cell]}"
    return ""
