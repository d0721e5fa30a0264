"""The oracle against verdicts worked out by hand, and against the laws that a fair judge obeys."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from editscore.world import TASKS, Background, Camera, Fault, Operation, Scene, SceneObject, plan_group
from editscore.world.operations import apply, set_background, swap
from editscore.world.oracle import ARTIFACT_COSTS, CONSISTENCY_COSTS, NATURALNESS_COSTS, pronounce
from editscore.world.palette import PAINTED_FAULTS

change = msgspec.structs.replace
RED_CIRCLE = SceneObject(0, "circle", "red", "solid", "large", 0)
BLUE_STAR = SceneObject(1, "star", "blue", "striped", "small", 4)
SIGN = SceneObject(2, "sign", "yellow", "solid", "large", 8, text="go")
PERSON = SceneObject(3, "person", "green", "solid", "large", 6, expression="sad", accessory="hat")
SCENE = Scene((RED_CIRCLE, BLUE_STAR, SIGN, PERSON), Background("plain", "gray"))
CLEAN = "clean image"
GREEN_RING = SceneObject(50, "ring", "green", "solid", "small", 2)
plans = st.builds(
    lambda index, seed, task: plan_group("dev", index, seed=seed, task_type=task),
    st.integers(0, 10_000),
    st.integers(0, 50),
    st.sampled_from(TASKS),
)


def judged(operation: Operation, after: Scene, *faults: Fault) -> tuple[int, int, int, int, str, str]:
    verdict, _ = pronounce((operation,), SCENE, after, faults)
    dimensions = (verdict.prompt_following, verdict.consistency, verdict.naturalness, verdict.artifacts)
    return (*dimensions, verdict.sc_reason, verdict.pq_reason)


COLOR = Operation("color", 0, "purple")
REMOVE = Operation("remove", 0)
ADD = Operation("add", object=GREEN_RING)
MOVE = Operation("move", 0, cell=2)
REPLACE = Operation("replace", 0, object=change(GREEN_RING, key=0, cell=0))
GROUND = Operation("background", background=Background("sea", seed=4))
TEXT = Operation("text", 2, "no")
HAT = Operation("accessory", 3, "none")
BOTH = apply(apply(SCENE, COLOR), change(COLOR, target=1))
SHIFTED = change(apply(SCENE, COLOR), camera=Camera(shift_x=12))
HEART = change(ADD, object=change(GREEN_RING, shape="heart"))
RIGHT = change(ADD, object=change(GREEN_RING, cell=5))

HAND_MADE = [
    (COLOR, apply(SCENE, COLOR), (25, 25, 25, 25, "red circle turned purple; rest kept", CLEAN)),
    (COLOR, SCENE, (0, 25, 25, 25, "red circle unchanged; rest kept", CLEAN)),
    (COLOR, apply(SCENE, COLOR, 0.5), (13, 25, 25, 25, "red circle half turned purple; rest kept", CLEAN)),
    (COLOR, apply(SCENE, change(COLOR, value="pink")), (8, 25, 25, 25, "wrong color, red circle turned pink; rest kept", CLEAN)),
    (COLOR, apply(SCENE, change(COLOR, target=1)), (3, 17, 25, 25, "wrong object, blue star turned purple; rest kept", CLEAN)),
    (COLOR, BOTH, (25, 17, 25, 25, "red circle turned purple; blue star also turned purple", CLEAN)),
    (REMOVE, swap(SCENE, RED_CIRCLE, None), (25, 25, 25, 25, "red circle removed; rest kept", CLEAN)),
    (REMOVE, apply(SCENE, REMOVE, 0.4), (10, 25, 19, 22, "red circle half removed; rest kept", "ghost object")),
    (REMOVE, swap(SCENE, BLUE_STAR, None), (3, 17, 25, 25, "wrong object, blue star removed; rest kept", CLEAN)),
    (ADD, apply(SCENE, RIGHT), (10, 25, 25, 25, "wrong place, green ring added right; rest kept", CLEAN)),
    (ADD, apply(SCENE, HEART), (8, 25, 25, 25, "wrong shape, green heart added; rest kept", CLEAN)),
    (MOVE, apply(SCENE, MOVE), (25, 25, 25, 25, "red circle moved top right; rest kept", CLEAN)),
    (MOVE, apply(SCENE, MOVE, 0.5), (13, 25, 25, 25, "red circle half moved top right; rest kept", CLEAN)),
    (MOVE, apply(SCENE, change(MOVE, cell=7)), (4, 25, 25, 25, "wrong place, red circle moved bottom; rest kept", CLEAN)),
    (REPLACE, apply(SCENE, REPLACE), (25, 25, 25, 25, "red circle replaced with green ring; rest kept", CLEAN)),
    (GROUND, set_background(SCENE, Background("sea", seed=9)), (25, 25, 25, 25, "background turned sea; rest kept", CLEAN)),
    (GROUND, set_background(SCENE, Background("forest")), (5, 25, 25, 25, "wrong background, turned forest; rest kept", CLEAN)),
    (TEXT, apply(SCENE, change(TEXT, value="broken")), (3, 25, 21, 17, "broken text on yellow sign; rest kept", "broken text")),
    (HAT, apply(SCENE, HAT), (25, 25, 25, 25, "hat removed; rest kept", CLEAN)),
    (Operation("extract", 1), apply(SCENE, Operation("extract", 1)), (25, 25, 25, 25, "blue star extracted; rest kept", CLEAN)),
    (Operation("tone", value="warm"), change(SCENE, tone="cool"), (5, 25, 25, 25, "wrong tone, image turned cool; rest kept", CLEAN)),
    (COLOR, SHIFTED, (25, 15, 25, 25, "red circle turned purple; image strongly shifted", CLEAN)),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "after", "expected"), HAND_MADE)
def test_hand_made_verdicts(operation: Operation, after: Scene, expected: tuple[object, ...]) -> None:
    assert judged(operation, after) == expected


def test_costs_add_up_and_end_at_zero() -> None:
    after = swap(swap(apply(SCENE, COLOR), BLUE_STAR, None), PERSON, None)
    assert judged(COLOR, after)[1] == 25 - 2 * 10
    after = set_background(change(after, objects=(*after.objects, GREEN_RING)), Background("night"))
    assert judged(COLOR, after)[1] == 0


def test_painted_faults_cost_what_the_tables_say() -> None:
    done = apply(SCENE, COLOR)
    assert judged(COLOR, done, Fault("noise", 3), Fault("cut", 1))[2:4] == (25 - 7 - 8, 25 - 18 - 3)
    assert judged(COLOR, done, Fault("cut", 1), Fault("noise", 3))[5] == "strong noise, weak cut"
    assert judged(COLOR, done, Fault("cast", 2, subject="green"))[1:5] == (20, 13, 23, "red circle turned purple; green cast")


@given(plans)
@settings(max_examples=150, deadline=None)
def test_the_goal_is_perfect_and_the_source_is_nothing(plan) -> None:  # type: ignore[no-untyped-def]
    best, faults = pronounce(plan.operations, plan.scene, plan.goal)
    assert (best.prompt_following, best.consistency, best.naturalness, best.artifacts, best.overall) == (25, 25, 25, 25, 10.0)
    assert faults == () and best.sc_reason.endswith("; rest kept") and best.pq_reason == "clean image"
    idle, faults = pronounce(plan.operations, plan.scene, plan.scene)
    assert (idle.prompt_following, idle.consistency, idle.naturalness, idle.artifacts, idle.overall) == (0, 25, 25, 25, 0.0)
    assert [f.kind for f in faults] == ["noop"]


@given(plans)
@settings(max_examples=100, deadline=None)
def test_more_of_an_operation_never_scores_less(plan) -> None:  # type: ignore[no-untyped-def]
    if len(plan.operations) > 1 or plan.operations[0].kind in ("text", "expression", "accessory"):
        return
    following = [
        pronounce(plan.operations, plan.scene, apply(plan.scene, plan.operations[0], s / 20))[0].prompt_following for s in range(6, 21)
    ]
    assert following == sorted(following) and following[0] > 0 and following[-1] == 25


@given(plans, st.sampled_from(PAINTED_FAULTS), st.sampled_from(PAINTED_FAULTS))
@settings(max_examples=100, deadline=None)
def test_verdicts_fall_with_the_grade_and_with_every_fault(plan, kind, other) -> None:  # type: ignore[no-untyped-def]
    scores = []
    for faults in ((), *((Fault(kind, g, subject="green"),) for g in (1, 2, 3))):
        verdict, _ = pronounce(plan.operations, plan.scene, plan.goal, faults)
        scores.append((verdict.naturalness, verdict.artifacts))
        if kind != other:
            more, _ = pronounce(plan.operations, plan.scene, plan.goal, (*faults, Fault(other, 2, subject="green")))
            assert more.naturalness < verdict.naturalness or verdict.naturalness == 0
            assert more.artifacts < verdict.artifacts or verdict.artifacts == 0
    for lower, higher in zip(scores[1:], scores, strict=False):
        assert lower[0] < higher[0] and lower[1] < higher[1]


def test_what_is_added_is_no_leftover_of_an_extraction() -> None:
    """On a source that is plain white already, an untouched scene with two extras is not extracted at all: 0, never below."""
    white = change(SCENE, background=Background("plain", "white"))
    extras = (GREEN_RING, change(GREEN_RING, key=51, cell=5, color="pink"))
    verdict, _ = pronounce((Operation("extract", 1),), white, change(white, objects=(*white.objects, *extras)))
    assert (verdict.prompt_following, verdict.consistency) == (0, 9)


@given(plans, st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_losing_a_bystander_costs_ten(plan, which) -> None:  # type: ignore[no-untyped-def]
    asked = {op.target for op in plan.operations}
    bystanders = [o for o in plan.goal.objects if o.key not in asked and o.key < 50]
    if not bystanders or {op.kind for op in plan.operations} & {"extract", "remove"}:
        return
    after = swap(plan.goal, bystanders[which % len(bystanders)], None)
    verdict, faults = pronounce(plan.operations, plan.scene, after)
    assert (verdict.prompt_following, verdict.consistency) == (25, 25 - CONSISTENCY_COSTS["lose"][0])
    assert [f.kind for f in faults] == ["lose"]


@given(plans)
@settings(max_examples=100, deadline=None)
def test_overall_is_the_published_formula(plan) -> None:  # type: ignore[no-untyped-def]
    for edit in plan.edits:
        v = edit.verdict
        assert all(isinstance(x, int) and 0 <= x <= 25 for x in (v.prompt_following, v.consistency, v.naturalness, v.artifacts))
        sc, pq = min(v.prompt_following, v.consistency) / 2.5, min(v.naturalness, v.artifacts) / 2.5
        assert math.isclose(v.overall, math.sqrt(sc * pq)) and 0 <= v.overall <= 10


def test_every_cost_grows_with_its_grade() -> None:
    for table in (CONSISTENCY_COSTS, NATURALNESS_COSTS, ARTIFACT_COSTS):
        assert all(0 < a <= b <= c <= 25 for a, b, c in table.values())
    assert set(NATURALNESS_COSTS) == set(ARTIFACT_COSTS)
