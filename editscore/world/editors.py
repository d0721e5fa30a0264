"""Eleven simulated editors of graded skill, each with the faults it is known for.

An editor decides how it goes about each operation (a mode), what it spoils besides, and how clean its picture is. It only ever
produces a scene graph and painted faults; what these are worth is for the oracle to say.
"""

from typing import Final

from editscore.world.attempts import Attempt, Editor
from editscore.world.faults import CAST_COLORS
from editscore.world.palette import PAINTED_FAULTS
from editscore.world.sampling import Rng, pick, weighted
from editscore.world.scene import Fault, Operation, Scene

_BASE_FAULTS: Final = {k: 10 for k in PAINTED_FAULTS} | {"blocks": 12, "cut": 13, "cast": 9}
# Of each pair at most one: the second would hide in the first.
_EXCLUSIVE: Final = (frozenset(("blur", "blocks")), frozenset(("cast", "burn")))

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
    Editor("patcher", {"full": 70, "attribute": 30}, {"resize": 30}, {"seam": 60, "halo": 60, "cut": 70}, num_faults=(10, 50, 40)),
)


def work(editor: Editor, rng: Rng, scene: Scene, operations: tuple[Operation, ...]) -> tuple[Scene, tuple[Fault, ...]]:
    """One edit: the scene it leaves and the faults painted over it."""
    after = Attempt(editor, rng, scene, operations).edit()
    return after, _draw_faults(editor, rng, after)


def _hidden_faults(scene: Scene) -> frozenset[str]:
    """Faults that would not show on this picture."""
    hidden: set[str] = set()
    if scene.style in ("sketch", "poster", "neon"):
        hidden |= {"burn", "cast"}
    if scene.style in ("sketch", "neon"):
        hidden |= {"halo", "seam"}
    if scene.tone in ("warm", "cool", "gray", "dark") or scene.background.kind == "night":
        hidden |= {"cast"}
    if scene.tone in ("dark", "bright", "gray") or scene.background.color == "white":
        hidden |= {"burn"}
    if not scene.objects:
        hidden |= {"cut", "seam", "halo"}
    return frozenset(hidden)


def _draw_faults(editor: Editor, rng: Rng, after: Scene) -> tuple[Fault, ...]:
    """Zero to two painted faults that show."""
    hidden = set(_hidden_faults(after))
    dim = after.tone == "dark" or after.style == "neon" or after.background.kind == "night"
    weights = _BASE_FAULTS | editor.faults
    faults: list[Fault] = []
    for _ in range(int(weighted(rng, {str(i): w for i, w in enumerate(editor.num_faults)}))):
        kind = weighted(rng, {k: weights[k] for k in PAINTED_FAULTS if k not in hidden})
        grade = 1 + int(rng.integers(3))
        if dim and kind in ("banding", "blur", "blocks"):  # what is weak in the dark is not there
            grade = max(2, grade)
        subject = pick(rng, CAST_COLORS) if kind == "cast" else ""
        faults.append(Fault(kind, grade, seed=int(rng.integers(1 << 31)), subject=subject))
        hidden |= next((pair for pair in _EXCLUSIVE if kind in pair), frozenset((kind,)))
    return tuple(faults)
