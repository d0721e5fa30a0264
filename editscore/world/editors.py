"""Eleven simulated editors of graded skill, each with the faults it is known for.

An editor decides how it goes about each operation (a mode), what it spoils besides, and how clean its picture is. It only ever
produces a scene graph and painted faults; what these are worth is for the oracle to say.
"""

from typing import Final

import msgspec

from editscore.world.faults import CAST_COLORS
from editscore.world.operations import altered, apply, set_background, swap
from editscore.world.palette import BROKEN_TEXT, CELL, COLORS, MATERIALS, PAINTED_FAULTS, PLAIN_SHAPES, STYLES, TONES
from editscore.world.sampling import (
    EXTRA_KEY,
    NEW_KEY,
    Rng,
    can_take,
    draw_new_background,
    draw_object,
    draw_value,
    pick,
    pick_other,
    place,
    weighted,
)
from editscore.world.scene import NO_TARGET, Background, Camera, Fault, Operation, Scene, SceneObject

MODES: Final = ("full", "partial", "attribute", "object", "place", "over", "noop")
SIDE_EFFECTS: Final = ("recolor", "lose", "shift", "resize", "reshape", "rematerial", "extra", "background", "tone", "camera", "target")
_BASE_MODES: Final = {"full": 38, "partial": 18, "attribute": 14, "object": 12, "place": 8, "over": 6, "noop": 12}
_BASE_SIDE: Final = {k: 10 for k in SIDE_EFFECTS} | {"target": 30, "tone": 12, "camera": 12}
_BASE_FAULTS: Final = {k: 10 for k in PAINTED_FAULTS} | {"blocks": 12, "cut": 13, "cast": 9}


class Editor(msgspec.Struct, frozen=True):
    """`modes`, `side`, `faults` change the base weights; `num_side`, `num_faults` are weights of 0, 1, 2 at once."""

    name: str
    modes: dict[str, int] = {}
    side: dict[str, int] = {}
    faults: dict[str, int] = {}
    num_side: tuple[int, int, int] = (52, 34, 14)
    num_faults: tuple[int, int, int] = (42, 40, 18)


EDITORS: Final = (
    Editor("maestro", {"full": 400, "noop": 2}, num_side=(88, 11, 1), num_faults=(84, 15, 1)),
    Editor("journeyman", {"full": 120}, num_side=(65, 28, 7), num_faults=(55, 35, 10)),
    Editor("apprentice", {"partial": 120}, num_side=(50, 36, 14)),
    Editor("sleeper", {"noop": 110, "full": 20}, num_side=(72, 20, 8)),
    Editor("squinter", {"object": 110, "noop": 4}),
    Editor("daltonist", {"attribute": 110}, {"recolor": 40}),
    Editor("wanderer", {"place": 110}, {"shift": 50, "camera": 60}, {"cut": 40}),
    Editor("bulldozer", {"over": 90, "full": 60}, {"lose": 50, "extra": 40, "background": 30}, num_side=(15, 50, 35)),
    Editor("painter", {"full": 60}, {"tone": 60, "target": 60, "recolor": 30}, {"cast": 50, "burn": 50}, (30, 45, 25), (32, 48, 20)),
    Editor("compressor", {"full": 70}, {}, {"noise": 50, "blur": 50, "blocks": 60, "banding": 50}, num_faults=(10, 50, 40)),
    Editor("patcher", {"full": 70, "attribute": 30}, {"resize": 30}, {"seam": 60, "halo": 60, "cut": 70, "streaks": 30}, num_faults=(10, 50, 40)),
)


def work(editor: Editor, rng: Rng, scene: Scene, operations: tuple[Operation, ...]) -> tuple[Scene, tuple[Fault, ...]]:
    """One edit: the scene it leaves and the faults painted over it."""
    after = _Bench(editor, rng, scene, operations).edit()
    return after, _draw_faults(editor, rng, after)


class _Bench:
    """The state of one edit under way."""

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
            self._spoil(weighted(self.rng, {k: weights[k] for k in SIDE_EFFECTS if self._may_spoil(k)} or {"tone": 1}))
        return self.after

    def _carry_out(self, operation: Operation) -> None:
        rng = self.rng
        weights = _BASE_MODES | self.editor.modes
        modes = self._possible(operation)
        if len(self.operations) > 1:  # half-done compositions are this task's own fault: more of them
            weights = weights | {"noop": 3 * weights["noop"], "partial": weights["partial"] // 2}
        mode = weighted(rng, {m: weights[m] for m in MODES if m in modes})
        share = int(rng.integers(5, 16)) / 20
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
            self.after = apply(self.after, operation, share if mode == "partial" else 1.0, self._landing(operation))
            if mode == "over":
                self._overdo(operation)

    def _possible(self, operation: Operation) -> tuple[str, ...]:
        kind = operation.kind
        if kind in ("color", "material"):
            others = self._others(operation)
            return ("full", "partial", "attribute", *(("object", "over") if others else ()), "noop")
        if kind in ("remove", "extract", "replace", "move"):
            own = {"remove": ("over",), "extract": ("attribute",), "replace": ("attribute",), "move": ("place",)}[kind]
            if kind == "remove" and len(self.after.objects) < 3 or not self._others(operation):
                own = tuple(m for m in own if m == "place")
            partial = ("partial",) if kind != "move" or len(self.operations) == 1 else ()
            return ("full", *partial, *own, *(("object",) if self._others(operation) else ()), "noop")
        if kind == "add":
            free = set(self.after.free_cells()) - self.reserved
            return ("full", "partial", "attribute", *(("place",) if free else ()), "noop")
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
            wrong = change(operation, background=_near_background(rng, self.before.background, operation.background))
        elif kind in ("add", "replace"):
            assert operation.object is not None
            wrong = change(operation, object=_near_object(rng, operation.object, target))
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
        if "extract" in self.kinds and not self.idle:
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
            self.after = change(scene, tone=pick(rng, TONES), tone_share=int(rng.integers(8, 21)) / 20)
        elif kind == "background":
            self.after = set_background(scene, draw_new_background(rng, scene.background))
        elif kind == "camera":
            self.after = change(scene, camera=_draw_camera(rng))
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


def _near_background(rng: Rng, old: Background, goal: Background) -> Background:
    if goal.color and rng.integers(2):
        kinds = ("plain", "gradient", "lines", "tiles")
        return msgspec.structs.replace(goal, kind=pick_other(rng, kinds, goal.kind))
    return draw_new_background(rng, old, goal)


def _near_object(rng: Rng, goal: SceneObject, target: SceneObject | None) -> SceneObject:
    present = target.shape if target is not None else ""
    if rng.integers(2):
        return msgspec.structs.replace(goal, color=pick_other(rng, tuple(COLORS), goal.color))
    return msgspec.structs.replace(goal, shape=pick_other(rng, PLAIN_SHAPES, goal.shape, present))


def _draw_camera(rng: Rng) -> Camera:
    if rng.integers(2):
        reach = pick(rng, (5, 8, 12))
        across, down = pick(rng, ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1)))
        return Camera(shift_x=float(reach * across), shift_y=float(reach * down))
    x, y = int(rng.integers(1, 3)) * CELL, int(rng.integers(1, 3)) * CELL
    return Camera(zoom=pick(rng, (1.1875, 1.3125, 1.5)), x=float(x), y=float(y))


def _draw_faults(editor: Editor, rng: Rng, after: Scene) -> tuple[Fault, ...]:
    """Faults that show on this picture: those that its look would hide are left out."""
    hidden: set[str] = set()
    if after.style in ("sketch", "poster", "neon"):
        hidden |= {"burn", "cast"}
    if after.style in ("sketch", "neon"):
        hidden |= {"halo", "seam"}
    if after.tone in ("warm", "cool", "gray"):
        hidden |= {"cast"}
    if after.tone in ("dark", "bright", "gray"):
        hidden |= {"burn"}
    if not after.objects:
        hidden |= {"cut", "seam", "halo"}
    weights = _BASE_FAULTS | editor.faults
    faults: list[Fault] = []
    for _ in range(int(weighted(rng, {str(i): w for i, w in enumerate(editor.num_faults)}))):
        kind = weighted(rng, {k: weights[k] for k in PAINTED_FAULTS if k not in hidden})
        subject = pick(rng, CAST_COLORS) if kind == "cast" else ""
        faults.append(Fault(kind, 1 + int(rng.integers(3)), seed=int(rng.integers(1 << 31)), subject=subject))
        hidden |= {kind} | ({"blur", "blocks"} if kind in ("blur", "blocks") else set()) | ({"cast", "burn"} if kind in ("cast", "burn") else set())
    return tuple(faults)
