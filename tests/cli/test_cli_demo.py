"""The demo's material without a model: thirteen tasks with a better and a worse edit, photographs edited as asked."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import PIL.Image
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def photo_edits() -> Iterator[ModuleType]:
    sys.path.insert(0, str(EXAMPLES))
    try:
        import photo_edits

        yield photo_edits
    finally:
        sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module")
def demo(photo_edits: ModuleType) -> ModuleType:
    import demo

    return demo


def test_each_task_has_a_better_and_a_worse_edit(demo: ModuleType) -> None:
    cases = demo.world_cases()
    assert len({case.task for case in cases}) == 13 and len({case.sample.id for case in cases}) == 26
    for better, worse in zip(cases[::2], cases[1::2], strict=True):
        assert better.is_better and not worse.is_better and better.sample.source == worse.sample.source
        assert better.truth["overall"] > worse.truth["overall"] + 1


def test_photographs_come_in_pairs(demo: ModuleType) -> None:
    pytest.importorskip("skimage")
    cases = demo.photo_cases()
    assert len(cases) == 2 * len(demo.PHOTO_CASES) and {case.task for case in cases} == {"tone_transfer", "style_change"}


def test_global_edits_do_what_they_say(photo_edits: ModuleType) -> None:
    values = np.random.default_rng(0).integers(60, 190, (40, 40, 3), dtype=np.uint8)
    picture = PIL.Image.fromarray(values)

    def mean(name: str) -> np.ndarray:
        edited = np.asarray(getattr(photo_edits, name)(picture)).astype(float)
        assert edited.shape == values.shape
        return edited.mean((0, 1))

    plain = values.mean((0, 1))
    assert mean("warm")[0] > plain[0] and mean("warm")[2] < plain[2]
    assert mean("cool")[0] < plain[0] and mean("cool")[2] > plain[2]
    assert (mean("dark") < plain / 2).all() and np.ptp(mean("gray")) < 1e-9
    np.testing.assert_allclose(mean("negative"), 255 - plain)
    assert set(np.unique(np.asarray(photo_edits.poster(picture)))) <= {0, 127, 255} and np.ptp(mean("sketch")) < 1e-9
    quiet = PIL.Image.new("RGB", (64, 64), (128, 128, 128))
    assert np.asarray(photo_edits.noisy(photo_edits.keep)(quiet)).std() > 20
    assert np.asarray(photo_edits.blurred(photo_edits.keep)(picture)).std() < values.std() / 1.5
