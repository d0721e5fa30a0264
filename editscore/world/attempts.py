"""One edit under way: how an editor carries operations out, rightly or wrongly, and what it spoils besides.

Only changes that the picture shows are made: no recoloring under a gray tone, nothing on top of what is asked for.
"""

from typing import Final

import msgspec

from editscore.world.operations import altered, apply, set_background, swap
from editscore.world.palette import BROKEN_TEXT, COLORS, MATERIALS, PLAIN_SHAPES, STYLES, TONES
from editscore.world.sampling import (
    EXTRA_KEY,
    NEW_KEY,
    Rng,
    can_take,
    draw_camera,
    draw_new_background,
    draw_object,
    draw_value,
    near_background,
    near_object,
    pick,
    pick_other,
    place,
    weighted,
)
from editscore.world.scene import NO_TARGET, Camera, Operation, Scene, SceneObject

MODES: Final = ("full", "partial", "attribute", "object", "place", "over", "noop")
SIDE_EFFECTS: Final = ("recolor", "lose", "shift", "resize", "reshape", "rematerial", "extra", "background", "tone", "camera", "target")
_BASE_MODES: Final = {"full": 38, "partial": 18, "attribute": 14, "object": 12, "place": 16, "over": 6, "noop": 12}
_BASE_SIDE: Final = {k: 10 for k in SIDE_EFFECTS} | {"target": 30, "tone": 12, "camera": 12}

# Least twentieths of a half-done operation: less would not show (red on its way to orange, a touch of a poster).
_LEAST: Final = {"style": 8, "tone": 8, "color": 8, "hair": 8}
_COLOR_KINDS: Final = frozenset(("add", "replace", "color", "hair", "background"))


class Editor(msgspec.Struct, frozen=True):
    """`modes`, `side`, `faults` change the base weights; `num_side`, `num_faults` are weights of 0, 1, 2 at once."""

    name: str
    modes: dict[str, int] = {}
    side: dict[str, int] = {}
    faults: dict[str, int] = {}
    num_side: tuple[int, int, int] = (52, 34, 14)
    num_faults: tuple[int, int, int] = (42, 40, 18)


class Attempt:
    """The state of one edit; `edit()` runs it."""

    def __init__(self, editor: Editor, rng: Rng, scene: Scene, operations: tuple[Operation, ...]) -> None:
        self.editor, self.rng, self.before, self.operations = editor, rng, scene, operations
        self.after = scene
        self.kinds = {op.kind for op in operations}
        # Objects that no side effect may touch, and cells that must stay free for what is asked.
        self.spoken_for = {op.target for op in operations}
        self.reserved = {op.cell for op in operations} | {op.object.cell for op in operations if op.object is not None}
        self.idle = True
        self.next_key = EXTRA_KEY

    def edit(self) -> Scene:
        for operation in self.operations:
            self._carry_out(operation)
        counts = {str(i): w for i, w in enumerate(self.editor.num_side)}
        for _ in range(int(weighted(self.rng, counts))):
            weights = _BASE_SIDE | self.editor.side
            possible = {k: weights[k] for k in SIDE_EFFECTS if self._may_spoil(k)}
            if possible:
                self._spoil(weighted(self.rng, possible))
        return self.after

    def _carry_out(self, operation: Operation) -> None:
        rng = self.rng
        weights = _BASE_MODES | self.editor.modes
        modes = self._possible(operation)
        if len(self.operations) > 1:  # half-done compositions are this task's own fault: more of them
            weights = weights | {"noop": 3 * weights["noop"], "partial": weights["partial"] // 2}
        mode = weighted(rng, {m: weights[m] for m in MODES if m in modes})
        share = int(rng.integers(_LEAST.get(operation.kind, 6), 16)) / 20
        self.idle = self.idle and mode == "noop"
        if mode == "noop":
            return
        if mode == "attribute":
            self._wrong_value(operation)
        elif mode == "object":
            self._wrong_object(operation)
        elif mode == "place":
            self._wrong_place(operation)
        else:
            landing = self._landing(operation)
            after = apply(self.after, operation, share if mode == "partial" else 1.0, landing)
            if len({o.cell for o in after.objects}) < len(after.objects):  # stopped on top of another object: go on to the end
                after = apply(self.after, operation, 1.0, landing)
            self.after = after
            if mode == "over":
                self._overdo(operation)

    def _possible(self, operation: Operation) -> tuple[str, ...]:
        kind = operation.kind
        if kind in ("color", "material"):
            others = self._others(operation)
            return ("full", "partial", "attribute", *(("object", "over") if others else ()), "noop")
        if kind in ("remove", "extract", "replace", "move"):
            own: tuple[str, ...] = {"remove": ("over",), "extract": ("attribute",), "replace": ("attribute",), "move": ("place",)}[kind]
            if (kind == "remove" and len(self.after.objects) < 3) or not self._others(operation):
                own = tuple(m for m in own if m == "place")
            partial = ("partial",) if kind != "move" or len(self.operations) == 1 else ()
            return ("full", *partial, *own, *(("object",) if self._others(operation) else ()), "noop")
        if kind == "add":
            free = set(self.after.free_cells()) - self.reserved
            return ("full", "partial", "attribute", *(("place",) if free else ()), "noop")
        if kind in ("text", "expression", "accessory"):  # half a smile does not show at 84 px
            return ("full", "attribute", "noop")
        return ("full", "partial", "attribute", "noop")

    def _others(self, operation: Operation) -> list[SceneObject]:
        """Objects that the same operation could be done to by mistake."""
        fit = [o for o in self.after.objects if o.key not in self.spoken_for and o.key < NEW_KEY and can_take(o, operation.kind)]
        if operation.kind in ("color", "material"):
            return [o for o in fit if operation.value not in (o.color, o.material)]
        return fit

    def _landing(self, operation: Operation) -> tuple[int, int]:
        target = self.after.find(operation.target)
        wide = target is not None and target.shape in ("sign", "person")
        return place(self.rng, target.size if target is not None else "large", wide)

    def _wrong_value(self, operation: Operation) -> None:
        rng, kind, scene = self.rng, operation.kind, self.after
        change = msgspec.structs.replace
        target = scene.find(operation.target)
        wrong = operation
        if kind in ("tone", "style"):
            wrong = change(operation, value=pick_other(rng, TONES if kind == "tone" else STYLES, operation.value))
        elif kind == "background":
            assert operation.background is not None
            wrong = change(operation, background=near_background(rng, self.before.background, operation.background))
        elif kind in ("add", "replace"):
            assert operation.object is not None
            wrong = change(operation, object=near_object(rng, operation.object, target))
        elif kind == "extract":
            extra = pick(rng, self._others(operation))
            kept = apply(scene, operation)
            self.after = change(kept, objects=(*kept.objects, extra))
            return
        elif kind == "text" and rng.integers(2):
            wrong = change(operation, value=BROKEN_TEXT)
        elif target is not None:
            wrong = change(operation, value=draw_value(rng, kind, scene, target, operation.value))
        self.after = apply(scene, wrong)

    def _wrong_object(self, operation: Operation) -> None:
        victim = pick(self.rng, self._others(operation))
        self.spoken_for.add(victim.key)
        wrong = msgspec.structs.replace(operation, target=victim.key)
        self.after = apply(self.after, wrong, 1.0, place(self.rng, victim.size, victim.shape in ("sign", "person")))

    def _wrong_place(self, operation: Operation) -> None:
        start = self.before.find(operation.target)
        goal = operation.object.cell if operation.object is not None else operation.cell
        free = [c for c in self.after.free_cells() if c not in self.reserved and c != goal]
        if not free or (start is not None and operation.kind != "move"):
            self.after = apply(self.after, operation, 1.0, self._landing(operation))
            return
        cell = pick(self.rng, free)
        if operation.object is not None:
            wrong = msgspec.structs.replace(operation, object=msgspec.structs.replace(operation.object, cell=cell))
        else:
            wrong = msgspec.structs.replace(operation, cell=cell)
        self.reserved.add(cell)
        self.after = apply(self.after, wrong, 1.0, self._landing(operation))

    def _overdo(self, operation: Operation) -> None:
        """Do the same to one or two others."""
        others = self._others(operation)
        if operation.kind == "remove":
            others = others[: max(0, len(self.after.objects) - 1)]
        for victim in [others[i] for i in self.rng.permutation(len(others))[: 1 + int(self.rng.integers(2))].tolist()]:
            if operation.kind == "remove" and len(self.after.objects) < 2:
                return
            self.spoken_for.add(victim.key)
            if operation.kind == "remove":
                self.after = swap(self.after, victim, None)
            else:
                self.after = swap(self.after, victim, altered(victim, operation, 1.0, (0, 0)))

    def _may_spoil(self, kind: str) -> bool:
        structural = bool(self.kinds & {"style"}) or self.after.tone == "gray"
        if kind == "target":
            return self._own_target() is not None
        if "extract" in self.kinds and not self.idle and kind not in ("tone", "camera"):
            return False
        if kind == "tone":
            return not self.kinds & {"tone", "style"} and not self.after.tone
        if kind == "background":
            return not self.kinds & {"background", "style"} and self.after.background == self.before.background
        if kind == "camera":
            return self.after.camera == Camera()
        if kind == "extra":
            return bool(set(self.after.free_cells()) - self.reserved) and not ("add" in self.kinds and self.idle)
        if kind == "shift" and "move" in self.kinds and self.idle:
            return False
        return bool(self._victims(kind)) and not (structural and kind in ("recolor", "rematerial"))

    def _victims(self, kind: str) -> list[SceneObject]:
        free = [o for o in self.after.objects if o.key not in self.spoken_for and o.key < NEW_KEY]
        if kind == "lose":
            return free if len(self.after.objects) > 1 and not (self.idle and "remove" in self.kinds) else []
        if kind in ("reshape", "rematerial"):
            return [o for o in free if o.shape in PLAIN_SHAPES]
        if kind == "shift":
            return free if set(self.after.free_cells()) - self.reserved else []
        return free

    def _own_target(self) -> SceneObject | None:
        """The instruction's target when it is there, whole and plain enough to be altered besides."""
        if self.idle or self.kinds & {"style"}:
            return None
        targets = (self.after.find(op.target) for op in self.operations if op.target != NO_TARGET)
        whole = [t for t in targets if t is not None and t.opacity >= 1 and t.share >= 1]
        return whole[0] if whole and not self.after.ghosts else None

    def _spoil(self, kind: str) -> None:
        rng, scene, change = self.rng, self.after, msgspec.structs.replace
        if kind == "tone":
            colorful = self.kinds & _COLOR_KINDS or any(o.color != n.color for o in scene.objects if (n := self.before.find(o.key)))
            tone = pick(rng, [t for t in TONES if t != "gray" or not colorful])
            self.after = change(scene, tone=tone, tone_share=int(rng.integers(8, 21)) / 20)
        elif kind == "background":
            self.after = set_background(scene, draw_new_background(rng, scene.background))
        elif kind == "camera":
            self.after = change(scene, camera=draw_camera(rng))
        elif kind == "extra":
            cell = pick(rng, sorted(set(scene.free_cells()) - self.reserved))
            extra = draw_object(rng, self.next_key, cell, {o.name for o in scene.objects})
            self.next_key += 1
            self.after = change(scene, objects=(*scene.objects, extra))
        elif kind == "target":
            target = self._own_target()
            assert target is not None
            self._alter(target, self._target_damage(target))
        else:
            victim = pick(rng, self._victims(kind))
            self.spoken_for.add(victim.key)
            self._alter(victim, kind)

    def _target_damage(self, target: SceneObject) -> str:
        options = ["resize", "resize"]
        if target.shape in PLAIN_SHAPES:
            if not self.kinds & {"replace"}:
                options.append("reshape")
            if not self.kinds & {"material", "replace"} and self.after.tone != "gray":
                options.append("rematerial")
        if "move" not in self.kinds and set(self.after.free_cells()) - self.reserved:
            options.append("shift")
        if not self.kinds & {"color", "hair", "replace"} and self.after.tone != "gray":
            options.append("recolor")
        self.spoken_for.add(target.key)
        return pick(self.rng, options)

    def _alter(self, thing: SceneObject, kind: str) -> None:
        rng, change = self.rng, msgspec.structs.replace
        if kind == "lose":
            self.after = swap(self.after, thing, None)
            return
        if kind == "recolor":
            asked = [op.value for op in self.operations if op.kind == "color"]
            new = change(thing, color=pick_other(rng, tuple(COLORS), thing.color, *asked))
        elif kind == "rematerial":
            asked = [op.value for op in self.operations if op.kind == "material"]
            new = change(thing, material=pick_other(rng, MATERIALS, thing.material, *asked))
        elif kind == "reshape":
            new = change(thing, shape=pick_other(rng, PLAIN_SHAPES, thing.shape))
        elif kind == "resize":
            new = change(thing, size="small" if thing.size == "large" else "large", dx=thing.dx // 2, dy=thing.dy // 2)
        else:
            cell = pick(rng, sorted(set(self.after.free_cells()) - self.reserved))
            dx, dy = place(rng, thing.size, thing.shape in ("sign", "person"))
            new = change(thing, cell=cell, dx=dx, dy=dy)
        self.after = swap(self.after, thing, new)
