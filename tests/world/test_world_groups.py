"""Groups: determinism, disjoint splits, words, and a fair share of every task and fault."""

from __future__ import annotations

import collections
import hashlib
import re
import subprocess
import sys

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from editscore.types import InvalidInputError
from editscore.world import EDITORS, QUALITY_FAULTS, SPLITS, TASKS, GroupPlan, plan_group, sample_group, vocabulary, words_of, world_version

NUM = 3_000
DIGEST = """
import hashlib, msgspec
from editscore.world import sample_group, world_version
h = hashlib.sha256()
for i in range(13):
    g = sample_group("report", i, seed=7)
    h.update(msgspec.json.encode((g.instruction, g.scene, [(e.editor, e.scene, e.faults, e.verdict) for e in g.edits])))
    h.update(g.source.tobytes() + b"".join(e.image.tobytes() for e in g.edits))
print(h.hexdigest(), world_version())
"""


@pytest.fixture(scope="module")
def plans() -> list[GroupPlan]:
    return [plan_group("train", i, seed=3) for i in range(NUM)]


def test_a_second_process_makes_the_same_groups() -> None:
    run = subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True)
    digest = hashlib.sha256()
    for index in range(13):
        g = sample_group("report", index, seed=7)
        digest.update(msgspec.json.encode((g.instruction, g.scene, [(e.editor, e.scene, e.faults, e.verdict) for e in g.edits])))
        digest.update(g.source.tobytes() + b"".join(e.image.tobytes() for e in g.edits))
    assert run.stdout == f"{digest.hexdigest()} {world_version()}\n"


def test_splits_and_seeds_share_no_scene() -> None:
    seen: set[bytes] = set()
    total = 0
    for split in SPLITS:
        for seed in (0, 1):
            scenes = {msgspec.json.encode(plan_group(split, i, seed=seed, num_edits=1).scene) for i in range(200)}
            seen |= scenes
            total += len(scenes)
    assert len(seen) == total == 6 * 200


@given(st.integers(0, 100_000), st.integers(0, 1_000), st.integers(1, 11))
@settings(max_examples=40, deadline=None)
def test_an_edit_does_not_depend_on_how_many_others_there_are(index: int, seed: int, num_edits: int) -> None:
    few, all_of_them = plan_group("dev", index, seed=seed, num_edits=num_edits), plan_group("dev", index, seed=seed, num_edits=11)
    assert few.edits == all_of_them.edits[:num_edits]
    assert len({e.editor for e in all_of_them.edits}) == len(EDITORS) == 11


def test_scenes_are_sound(plans: list[GroupPlan]) -> None:
    for plan in plans:
        assert 2 <= len(plan.scene.objects) <= 5
        names = [o.name for o in plan.scene.objects]
        assert len(set(names)) == len(names)
        for scene in (plan.scene, plan.goal, *(e.scene for e in plan.edits)):
            cells = [o.cell for o in scene.objects]
            assert len(set(cells)) == len(cells) and all(0 <= c < 9 for c in cells)


def test_every_word_is_in_the_vocabulary_and_every_one_is_used(plans: list[GroupPlan]) -> None:
    known, used = set(vocabulary()), set()
    for plan in plans:
        texts = [plan.instruction, *(t for e in plan.edits for t in (e.verdict.sc_reason, e.verdict.pq_reason))]
        for text in texts:
            used |= set(words_of(text))
            assert re.fullmatch(r"[a-z]+([,;]? [a-z]+)*", text), text
        assert "," not in plan.instruction and ";" not in plan.instruction
    assert used <= known and len(known) <= 300
    assert known - used <= {"a"}  # nothing that no sentence ever says
    assert vocabulary() == tuple(sorted(known))


def test_sentences_are_short(plans: list[GroupPlan]) -> None:
    instructions = [len(p.instruction.split()) for p in plans]
    reasons = [len(e.verdict.sc_reason.split()) for p in plans for e in p.edits]
    assert max(instructions) <= 20 and np.mean(instructions) < 8
    assert max(reasons) <= 24 and np.mean(reasons) < 9
    assert np.quantile(instructions, 0.98) <= 16 and np.quantile(reasons, 0.98) <= 16


def test_instructions_come_in_several_phrasings(plans: list[GroupPlan]) -> None:
    starts = collections.defaultdict(set)
    for plan in plans:
        starts[plan.task_type].add(plan.instruction.split()[0])
    assert all(len(starts[task]) >= 3 for task in TASKS), dict(starts)


def test_every_task_fault_and_value_has_its_share(plans: list[GroupPlan]) -> None:
    tasks = collections.Counter(p.task_type for p in plans)
    assert all(tasks[t] >= NUM // len(TASKS) for t in TASKS)
    edits = [e for p in plans for e in p.edits]
    faults = collections.Counter(kind for e in edits for kind in {f.kind for f in e.faults})
    for kind in (
        *QUALITY_FAULTS,
        "noop",
        "partial",
        "wrong_object",
        "wrong_attribute",
        "wrong_place",
        "half_compose",
        "broken_text",
        "over_edit",
    ):
        assert faults[kind] / len(edits) > 0.005, kind
    for kind in ("lose", "recolor", "rematerial", "reshape", "resize", "shift", "extra", "background", "tone", "shifted", "cropped"):
        assert faults[kind] / len(edits) > 0.02, kind
    assert sum(faults[k] for k in faults if k.startswith("target_")) / len(edits) > 0.05
    for name in ("prompt_following", "consistency", "naturalness", "artifacts"):
        values = np.array([getattr(e.verdict, name) for e in edits])
        assert len(np.unique(values)) >= 20, name
        assert 0.2 < (values == 25).mean() < 0.6 and (values < 9).mean() > 0.05, name


def test_groups_have_contrast(plans: list[GroupPlan]) -> None:
    """Shares of pairs that a bench can use: |difference| >= 3 in a dimension, >= 1 overall."""
    usable = np.zeros(5)
    for plan in plans:
        v = np.array([(e.verdict.prompt_following, e.verdict.consistency, e.verdict.naturalness, e.verdict.artifacts) for e in plan.edits])
        overall = np.array([e.verdict.overall for e in plan.edits])
        for a, b in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)):
            usable += np.array([*(np.abs(v[a] - v[b]) >= 3), abs(overall[a] - overall[b]) >= 1])
    assert (usable / (6 * NUM) > 0.6).all()


def test_editors_differ_in_skill(plans: list[GroupPlan]) -> None:
    marks = collections.defaultdict(list)
    following, consistency, natural = (collections.defaultdict(list) for _ in range(3))
    for edit in (e for p in plans for e in p.edits):
        marks[edit.editor].append(edit.verdict.overall)
        following[edit.editor].append(edit.verdict.prompt_following)
        consistency[edit.editor].append(edit.verdict.consistency)
        natural[edit.editor].append(min(edit.verdict.naturalness, edit.verdict.artifacts))
    mean = {name: np.mean(values) for name, values in marks.items()}
    assert max(mean, key=mean.__getitem__) == "maestro" and mean["maestro"] > 8.5
    assert mean["journeyman"] > max(v for k, v in mean.items() if k not in ("maestro", "journeyman"))
    assert min(following, key=lambda k: np.mean(following[k])) == "sleeper"
    assert min(consistency, key=lambda k: np.mean(consistency[k])) == "bulldozer"
    assert {k for k, _ in sorted(natural.items(), key=lambda kv: np.mean(kv[1]))[:2]} == {"patcher", "compressor"}


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"split": "test"}, "split"),
        ({"index": -1}, "index"),
        ({"seed": -1}, "seed"),
        ({"task_type": "subject_add"}, "task_type"),
        ({"num_edits": 0}, "num_edits"),
        ({"num_edits": 12}, "num_edits"),
    ],
)
def test_bad_arguments_name_their_field(arguments: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        sample_group(**({"split": "dev", "index": 0} | arguments))  # type: ignore[arg-type]
    assert caught.value.field == field


def test_the_world_needs_no_torch_and_no_scikit_image() -> None:
    code = "import sys, editscore.world; assert not {'torch', 'skimage', 'pyarrow', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
