"""Bootstrap over groups: edits of one source are not independent, so whole groups are drawn (Efron, 1979)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

CHUNK = 256  # resamples at a time, to bound memory


class Interval(NamedTuple):
    """An estimate with the bounds of its percentile interval."""

    estimate: float
    low: float
    high: float


def bootstrap_ratio(
    numerators: ArrayLike, denominators: ArrayLike, *, num_resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> Interval:
    """sum(numerators) / sum(denominators) over groups [G], with the percentile interval over resampled groups.

    For an accuracy: right pairs and judged pairs of each group; for a difference of two judges on the same pairs: the
    difference of their right pairs. Resamples without a single pair are left out. NaN when there is no pair at all.
    """
    top, bottom = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    if top.shape != bottom.shape or top.ndim != 1:
        raise ValueError(f"shapes {top.shape} and {bottom.shape} are not two vectors of one length")
    if not 0 < level < 1 or num_resamples < 1:
        raise ValueError(f"level {level} is outside (0, 1) or num_resamples {num_resamples} below 1")
    if bottom.sum() == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    ratios = []
    for start in range(0, num_resamples, CHUNK):
        drawn = rng.integers(0, len(top), (min(CHUNK, num_resamples - start), len(top)))
        sums = bottom[drawn].sum(1)
        ratios.append((top[drawn].sum(1)[sums > 0]) / sums[sums > 0])
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(ratios), [tail, 1 - tail])
    return Interval(float(top.sum() / bottom.sum()), float(low), float(high))
