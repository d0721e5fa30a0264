"""The promise of a score: the same from one batch, from batches of seven, and in any order."""

from __future__ import annotations

import random

import pytest

from editscore.scoring import LocalScorer, load
from editscore.types import EditSample, Score
from editscore.world import sample_group


def edits(count: int) -> list[EditSample]:
    """Edits of EditWorld, several per source."""
    groups = (sample_group("report", i) for i in range(count))
    found = [(group.source, edit.image, group.instruction) for group in groups for edit in group.edits]
    return [EditSample(*parts, id=str(i)) for i, parts in enumerate(found[:count])]


def scored_apart(scorer: LocalScorer, samples: list[EditSample]) -> tuple[list[Score], list[Score], list[Score]]:
    """Together, in batches of 7, shuffled (given back in order)."""
    together = scorer.score(samples, passes=2)
    sevens = [score for i in range(0, len(samples), 7) for score in scorer.score(samples[i : i + 7], passes=2)]
    order = list(range(len(samples)))
    random.Random(3).shuffle(order)
    shuffled = dict(zip(order, scorer.score([samples[i] for i in order], passes=2), strict=True))
    return together, sevens, [shuffled[i] for i in range(len(samples))]


@pytest.mark.parametrize("count", [40, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_scores_do_not_depend_on_how_they_are_asked_for(count: int, dtype: str) -> None:
    samples = edits(count)
    with load("nano", cache=None, dtype=dtype) as scorer:
        together, sevens, shuffled = scored_apart(scorer, samples)
    assert len(together) == count
    assert together == sevens
    assert together == shuffled
    assert len({score.overall for score in together}) > count // 4, "constant scores would prove nothing"
