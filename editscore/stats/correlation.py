"""Pearson and Spearman correlations."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def pearson(x: ArrayLike, y: ArrayLike) -> float:
    """Covariance over the product of deviations, on -1..1; NaN with fewer than two items or a constant side."""
    a, b = _finite_pair(x, y)
    if len(a) < 2:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    # Scaled first, so that the squares of tiny or huge values neither vanish nor overflow.
    size_a, size_b = np.abs(a).max(), np.abs(b).max()
    if size_a == 0 or size_b == 0:
        return float("nan")
    a, b = a / size_a, b / size_b
    return float(np.clip((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()), -1.0, 1.0))


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson's correlation of the ranks; equal values share their mean rank."""
    a, b = _finite_pair(x, y)
    return pearson(average_ranks(a), average_ranks(b))


def average_ranks(values: ArrayLike) -> Floats:
    """Ranks 1..N of a vector; equal values get the mean of the ranks they span."""
    items = np.asarray(values, np.float64)
    _, inverse, counts = np.unique(items, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2.0)[inverse]
    return ranks


def _finite_pair(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    """The items where both are finite: a failed score has no place in a correlation."""
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"shapes {a.shape} and {b.shape} are not two vectors of one length")
    kept = np.isfinite(a) & np.isfinite(b)
    return a[kept], b[kept]
