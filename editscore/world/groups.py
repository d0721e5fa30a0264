"""Groups by number: one source picture, one instruction, several candidate edits with their true verdicts."""

import hashlib
from typing import Final, get_args

import msgspec
import numpy as np

from editscore.types import InvalidInputError
from editscore.world import oracle
from editscore.world.attempts import Editor
from editscore.world.compare import CREDIT
from editscore.world.editors import EDITORS, work
from editscore.world.faults import paint_faults
from editscore.world.instructions import ACCESSORY_PHRASES, PHRASES, write_instruction
from editscore.world.operations import apply
from editscore.world.palette import LATTICE, TASKS
from editscore.world.records import Group, GroupEdit, Pixels, Split, Verdict
from editscore.world.render import render, to_pixels
from editscore.world.sampling import Rng, draw_operations, draw_scene, place
from editscore.world.scene import Fault, Operation, Scene

SPLITS: Final[tuple[Split, ...]] = get_args(Split)
MAX_EDITS: Final = len(EDITORS)
_REVISION: Final = 1  # of the painting code, whose pixels no table below describes
_PROBES: Final = 8 * len(TASKS)


class EditPlan(msgspec.Struct, frozen=True):
    """An edit before it is painted."""

    editor: str
    scene: Scene
    painted: tuple[Fault, ...]
    faults: tuple[Fault, ...]
    verdict: Verdict


class GroupPlan(msgspec.Struct, frozen=True):
    """A group before it is painted: every decision, no pixel."""

    id: str
    task_type: str
    instruction: str
    operations: tuple[Operation, ...]
    scene: Scene
    goal: Scene
    edits: tuple[EditPlan, ...]


def plan_group(
    split: Split, index: int, *, seed: int = 0, task_type: str | None = None, num_edits: int = 4, num_photos: int = 0
) -> GroupPlan:
    """Decide a group. Tasks take turns by index unless one is named; an edit does not depend on how many others there are."""
    _check(split, index, seed, task_type, num_edits)
    task = task_type or TASKS[index % len(TASKS)]
    rng = _stream(split, seed, index, 0)
    scene = draw_scene(rng, task, num_photos)
    operations = draw_operations(rng, task, scene)
    instruction = write_instruction(rng, scene, operations)
    goal = scene
    for operation in operations:
        target = scene.find(operation.target)
        wide = target is not None and target.shape in ("sign", "person")
        goal = apply(goal, operation, 1.0, place(rng, target.size if target is not None else "large", wide))
    order = rng.permutation(len(EDITORS)).tolist()[:num_edits]
    edits = tuple(_plan_edit(EDITORS[e], _stream(split, seed, index, 1 + e), scene, operations) for e in order)
    return GroupPlan(f"{split}-{seed}-{index:06d}", task, instruction, operations, scene, goal, edits)


def _plan_edit(editor: Editor, rng: Rng, scene: Scene, operations: tuple[Operation, ...]) -> EditPlan:
    after, painted = work(editor, rng, scene, operations)
    verdict, faults = oracle.pronounce(operations, scene, after, painted)
    return EditPlan(editor.name, after, painted, faults, verdict)


def _stream(split: Split, seed: int, index: int, part: int) -> Rng:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((SPLITS.index(split), seed, index, part))))


def _check(split: str, index: int, seed: int, task_type: str | None, num_edits: int) -> None:
    if split not in SPLITS:
        raise InvalidInputError("split", f"{split!r} is none of {', '.join(SPLITS)}")
    if index < 0 or seed < 0:
        raise InvalidInputError("index" if index < 0 else "seed", "must not be negative")
    if task_type is not None and task_type not in TASKS:
        raise InvalidInputError("task_type", f"{task_type!r} is none of {', '.join(TASKS)}")
    if not 1 <= num_edits <= MAX_EDITS:
        raise InvalidInputError("num_edits", f"must be 1..{MAX_EDITS}, is {num_edits}")


def sample_group(
    split: Split,
    index: int,
    *,
    seed: int = 0,
    task_type: str | None = None,
    num_edits: int = 4,
    size: int = LATTICE,
    photos: tuple[Pixels, ...] = (),
) -> Group:
    """Group number `index` of a split: the same bytes for the same arguments, on any machine.

    `size` is the pictures' side in pixels (28 or more); `photos` are [H, W, 3] uint8 pictures that a quarter of the sources stand
    on. Raises InvalidInputError.
    """
    if size < 28:
        raise InvalidInputError("size", f"must be at least 28 px, is {size}")
    plan = plan_group(split, index, seed=seed, task_type=task_type, num_edits=num_edits, num_photos=len(photos))
    return paint_group(plan, size, photos)


def paint_group(plan: GroupPlan, size: int = LATTICE, photos: tuple[Pixels, ...] = ()) -> Group:
    """Paint what was decided."""
    edits = tuple(
        GroupEdit(f"{plan.id}-{k}", e.editor, paint(e.scene, e.painted, size, photos), e.scene, e.faults, e.verdict)
        for k, e in enumerate(plan.edits)
    )
    source = paint(plan.scene, (), size, photos)
    return Group(plan.id, plan.task_type, plan.instruction, plan.operations, plan.scene, plan.goal, source, edits)


def paint(scene: Scene, faults: tuple[Fault, ...] = (), size: int = LATTICE, photos: tuple[Pixels, ...] = ()) -> Pixels:
    """[size, size, 3] uint8 of a scene with its faults."""
    return to_pixels(paint_faults(render(scene, size, photos), scene, faults))


def world_version() -> str:
    """Hash of the tables and of the decisions of 104 probe groups: texts, scenes, verdicts. 16 hex digits."""
    probes = [plan_group("dev", i, num_edits=MAX_EDITS, num_photos=3) for i in range(_PROBES)]
    costs = (CREDIT, oracle.CONSISTENCY_COSTS, oracle.TONE_COST, oracle.NATURALNESS_COSTS, oracle.ARTIFACT_COSTS)
    tables = (_REVISION, EDITORS, PHRASES, ACCESSORY_PHRASES, costs)
    encoded = msgspec.json.encode((tables, probes), order="deterministic")
    return hashlib.sha256(encoded).hexdigest()[:16]
