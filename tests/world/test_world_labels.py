"""Labels against scenes made by hand and against the pixels themselves."""

from __future__ import annotations

import numpy as np

from editscore.world import (
    CELL_FIELDS,
    CLASSES,
    IMAGE_FIELDS,
    QUALITY_FAULTS,
    Background,
    Camera,
    Fault,
    Scene,
    SceneObject,
    edit_labels,
    sample_group,
    scene_labels,
)
from editscore.world.palette import COLORS, MATERIALS, SHAPES, TEXTS


def test_a_scene_made_by_hand() -> None:
    scene = Scene(
        (
            SceneObject(0, "heart", "blue", "glossy", "small", 2),
            SceneObject(1, "sign", "pink", "solid", "large", 7, text="up"),
            SceneObject(2, "person", "red", "solid", "large", 3, expression="sad", accessory="hat"),
        ),
        Background("tiles", "mint"),
        tone="cool",
        style="neon",
    )
    labels = scene_labels(scene, (Fault("blur", 3), Fault("noop", 2, "edit"), Fault("noise", 1)))
    expected = np.zeros((9, 5), int)
    expected[2] = (SHAPES.index("heart") + 1, list(COLORS).index("blue") + 1, MATERIALS.index("glossy") + 1, 1, 0)
    expected[7] = (SHAPES.index("sign") + 1, list(COLORS).index("pink") + 1, 1, 2, 1 + TEXTS.index("up"))
    expected[3] = (SHAPES.index("person") + 1, 1, 1, 2, 2 + len(TEXTS) + 1 * 3 + 2)
    assert np.array_equal(labels.cells, expected)
    assert labels.image.tolist() == [4, 5, 2, 4]
    assert labels.quality.tolist() == [1, 3] + [0] * (len(QUALITY_FAULTS) - 2)


def test_half_done_changes_count_as_what_shows_more() -> None:
    def cells(**state: object) -> list[int]:
        thing = SceneObject(0, "star", "green", "dotted", "large", 4, **state)  # type: ignore[arg-type]
        return scene_labels(Scene((thing,), Background("sea"))).cells[4].tolist()

    assert cells(old_color="red", share=0.3)[1] == 1 and cells(old_color="red", share=0.7)[1] == 2
    assert cells(old_material="solid", share=0.3)[2] == 1 and cells(old_material="solid", share=0.7)[2] == 3
    ghost = SceneObject(0, "ring", "red", "solid", "large", 4, opacity=0.84)
    star = SceneObject(0, "star", "green", "solid", "large", 4, opacity=0.4)
    labels = scene_labels(Scene((star,), Background("sea"), ghosts=(ghost,)))
    assert labels.cells[4, 0] == SHAPES.index("ring") + 1
    assert labels.quality[QUALITY_FAULTS.index("ghost")] == 2


def test_the_camera_moves_labels_with_the_picture() -> None:
    thing = SceneObject(0, "star", "green", "solid", "large", 4, dx=4)
    scene = Scene((thing,), Background("sea"), camera=Camera(shift_x=12.0))
    assert np.flatnonzero(scene_labels(scene).cells[:, 0]).tolist() == [5]
    corner = SceneObject(0, "star", "green", "solid", "large", 0)
    scene = Scene((corner,), Background("sea"), camera=Camera(shift_x=-15.0))
    assert scene_labels(scene).cells.sum() == 0


def test_ids_stay_within_their_classes_and_all_occur() -> None:
    seen: dict[str, set[int]] = {name: set() for name in CLASSES}
    for index in range(650):
        group = sample_group("train", index, num_edits=3, size=28)
        for labels in (scene_labels(group.scene), *(edit_labels(group, e).image for e in group.edits)):
            for column, name in enumerate(CELL_FIELDS):
                seen[name] |= set(labels.cells[:, column].tolist())
            for column, name in enumerate(IMAGE_FIELDS):
                seen[name].add(int(labels.image[column]))
            seen["quality"] |= set(labels.quality.tolist())
        seen["camera"] |= {edit_labels(group, e).camera for e in group.edits}
    absent = {"background_kind": {0, CLASSES["background_kind"] - 1}}  # no picture without a background, none on a photo here
    for name, count in CLASSES.items():
        assert seen[name] == set(range(count)) - absent.get(name, set()), name


def test_changed_cells_are_those_whose_pixels_differ() -> None:
    """Edits without global changes and painted faults: the middle of a cell is untouched exactly where `changed` is 0."""
    compared = 0
    for index in range(200):
        group = sample_group("dev", index, num_edits=3)
        for edit in group.edits:
            labels = edit_labels(group, edit)
            if labels.globals.any() or labels.image.quality[:10].any():
                continue
            compared += 1
            for cell in range(9):
                y, x = cell // 3 * 28 + 8, cell % 3 * 28 + 8
                same = np.array_equal(group.source[y : y + 12, x : x + 12], edit.image[y : y + 12, x : x + 12])
                if labels.changed[cell]:
                    y, x = cell // 3 * 28, cell % 3 * 28
                    same = np.array_equal(group.source[y : y + 28, x : x + 28], edit.image[y : y + 28, x : x + 28])
                if not _neighbour_reaches_in(labels.changed, cell):
                    assert same == (not labels.changed[cell]), (group.instruction, edit.verdict.sc_reason, cell)
    assert compared > 100


def _neighbour_reaches_in(changed: np.ndarray, cell: int) -> bool:
    """A half-way object of the next cell may lie over this one."""
    near = [c for c in range(9) if c != cell and abs(c // 3 - cell // 3) <= 1 and abs(c % 3 - cell % 3) <= 1]
    return not changed[cell] and any(changed[c] for c in near)


def test_targets_are_where_the_instruction_points() -> None:
    for index in range(390):
        group = sample_group("dev", index, num_edits=1, size=28)
        target = edit_labels(group, group.edits[0]).target
        sources, goals = [], []
        for op in group.operations:
            wanted = group.scene.find(op.target)
            sources += [wanted.cell] if wanted is not None else []
            goals += [op.object.cell] if op.kind == "add" and op.object is not None else ([op.cell] if op.kind == "move" else [])
        assert np.flatnonzero(target == 1).tolist() == sorted(set(sources) - set(goals))
        assert np.flatnonzero(target == 2).tolist() == sorted(goals)
        local = group.task_type not in ("style_change", "tone_transfer", "background_change")
        assert target.any() == local
