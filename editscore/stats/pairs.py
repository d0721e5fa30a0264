"""Pair accuracy: is the better one of two edits given the strictly higher score?

A tie is wrong and counted. A pair with a failed score (NaN) is neither right nor wrong: it leaves the denominator and is
counted, so that a judge's failures show beside its accuracy and never inside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Means over passes of equal numbers differ by rounding alone; scores are at most 25.
TIE_TOLERANCE = 1e-9


class PairCounts(NamedTuple):
    """How many pairs were right, tied, wrong and failed."""

    right: int
    tied: int
    wrong: int
    failed: int

    @property
    def num_judged(self) -> int:
        """Pairs with two scores."""
        return self.right + self.tied + self.wrong

    @property
    def accuracy(self) -> float:
        """right / judged, NaN without a judged pair."""
        return self.right / self.num_judged if self.num_judged else float("nan")

    @property
    def tie_share(self) -> float:
        """tied / judged, NaN without a judged pair."""
        return self.tied / self.num_judged if self.num_judged else float("nan")


class Pairs(NamedTuple):
    """Indices [P] of the better and the worse item of each pair, and the pair's group."""

    better: Ints
    worse: Ints
    group: Ints


def group_pairs(truth: ArrayLike, groups: ArrayLike, min_gap: float) -> Pairs:
    """All pairs within a group whose truth [N] differs by at least `min_gap` (> 0), better first; groups [N] are integers."""
    values, owner = np.asarray(truth, np.float64), np.asarray(groups, np.int64)
    if values.shape != owner.shape or values.ndim != 1:
        raise ValueError(f"truth {values.shape} and groups {owner.shape} are not two vectors of one length")
    if not min_gap > 0:
        raise ValueError(f"min_gap {min_gap} is not above 0")
    better: list[Ints] = []
    worse: list[Ints] = []
    for group in np.unique(owner):
        members = np.flatnonzero(owner == group)
        gaps = values[members][:, None] - values[members][None, :]
        first, second = np.nonzero(gaps >= min_gap)
        better.append(members[first])
        worse.append(members[second])
    joined = [np.concatenate(part) if part else np.zeros(0, np.int64) for part in (better, worse)]
    return Pairs(joined[0], joined[1], owner[joined[0]])


def compare_pairs(better_scores: ArrayLike, worse_scores: ArrayLike) -> NDArray[np.int8]:
    """1 right, 0 tied, -1 wrong, -2 failed, for each pair."""
    better, worse = np.asarray(better_scores, np.float64), np.asarray(worse_scores, np.float64)
    if better.shape != worse.shape:
        raise ValueError(f"shapes {better.shape} and {worse.shape} differ")
    failed = ~(np.isfinite(better) & np.isfinite(worse))
    gap = np.where(failed, 0.0, np.where(failed, 0.0, better) - np.where(failed, 0.0, worse))
    outcome = np.where(np.abs(gap) <= TIE_TOLERANCE, 0, np.sign(gap))
    return np.where(failed, -2, outcome).astype(np.int8)


def count_pairs(better_scores: ArrayLike, worse_scores: ArrayLike) -> PairCounts:
    """Counts over all pairs; strictly higher is right, equal is a tie, NaN or infinite is a failure."""
    outcome = compare_pairs(better_scores, worse_scores)
    return PairCounts(*(int((outcome == value).sum()) for value in (1, 0, -1, -2)))


def macro_mean(values: Mapping[str, float]) -> float:
    """Plain mean over the tasks, not over pairs; NaN values (a task without pairs) are left out, NaN when none is left."""
    present = [value for value in values.values() if np.isfinite(value)]
    return float(np.mean(present)) if present else float("nan")
