"""From raw pairs of passes to the numbers of a score. The only place where 0..score_range becomes 0..10.

Formulas of EditScore (arXiv 2509.23909, section on self-ensemble): SC = min of the SC pair, PQ = min of the PQ pair, overall of a
pass = sqrt(SC * PQ). `average_last` is the mean of the overalls, `average_first` the square root of the product of the means.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from editscore.types import PassScore, Spread, Status

AGGREGATIONS = ("average_last", "average_first")
Pair = tuple[float, float]


def to_ten(raw: float, score_range: float) -> float:
    """A raw value on 0..score_range on the scale 0..10. Multiplied first, so that a value in range never leaves 0..10."""
    return raw * 10.0 / score_range


def pass_overall(sc_raw: Pair, pq_raw: Pair, score_range: float) -> float:
    """The overall (0..10) of one pass: sqrt(min(SC) * min(PQ))."""
    return math.sqrt(to_ten(min(sc_raw), score_range) * to_ten(min(pq_raw), score_range))


@dataclass(frozen=True)
class Summary:
    """The means over passes (0..10, None when absent), their spread, and the status of the sample with its message."""

    status: Status
    message: str = ""
    overall: float | None = None
    prompt_following: float | None = None
    consistency: float | None = None
    naturalness: float | None = None
    artifacts: float | None = None
    sc: float | None = None
    pq: float | None = None
    spread: Spread = field(default_factory=Spread)


def summarize(passes: Sequence[PassScore], *, score_range: float, aggregation: str) -> Summary:
    """Average the passes of one sample.

    `average_last` counts the passes whose two sides are both good; `average_first` counts each side's good passes for itself. A
    failed pass leaves the mean and its denominator. Without one good pass (for `average_first`: one good SC and one good PQ)
    nothing but the status comes back.
    """
    if aggregation not in AGGREGATIONS:
        raise ValueError(f"{aggregation!r} is none of {', '.join(AGGREGATIONS)}")
    both = [(p.sc_raw, p.pq_raw) for p in passes if p.sc_raw is not None and p.pq_raw is not None]
    if aggregation == "average_last":
        sc_raw, pq_raw = [sc for sc, _ in both], [pq for _, pq in both]
    else:
        sc_raw = [p.sc_raw for p in passes if p.sc_raw is not None]
        pq_raw = [p.pq_raw for p in passes if p.pq_raw is not None]
    if not sc_raw or not pq_raw:
        return _failure(passes)
    overalls = [pass_overall(sc, pq, score_range) for sc, pq in both]
    columns = {
        "prompt_following": [to_ten(first, score_range) for first, _ in sc_raw],
        "consistency": [to_ten(second, score_range) for _, second in sc_raw],
        "naturalness": [to_ten(first, score_range) for first, _ in pq_raw],
        "artifacts": [to_ten(second, score_range) for _, second in pq_raw],
        "sc": [to_ten(min(pair), score_range) for pair in sc_raw],
        "pq": [to_ten(min(pair), score_range) for pair in pq_raw],
    }
    means: dict[str, Any] = {name: _mean(values) for name, values in columns.items()}
    overall = _mean(overalls) if aggregation == "average_last" else math.sqrt(means["sc"] * means["pq"])
    spread = Spread(overall=_spread(overalls), **{name: _spread(values) for name, values in columns.items()})
    return Summary(Status.OK, "", overall, spread=spread, **means)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _spread(values: Sequence[float]) -> float | None:
    """Population standard deviation; None without a value."""
    if not values:
        return None
    mean = _mean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))


def _failure(passes: Iterable[PassScore]) -> Summary:
    """The most frequent failure of the passes (the first of equals) and the message of its first pass."""
    failed = [p for p in passes if p.status is not Status.OK]
    if not failed:
        return Summary(Status.ERROR, "no pass was run")
    status = Counter(p.status for p in failed).most_common(1)[0][0]
    first = next(p for p in failed if p.status is status)
    return Summary(status, f"pass {first.index}: {first.message}")
