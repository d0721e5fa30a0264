"""What a judge may yield and return, checked where it does: a fault is its sample's alone."""

from __future__ import annotations

import math

from editscore.types import Request, Score, Status

_MEANS = ("overall", "prompt_following", "consistency", "naturalness", "artifacts", "sc", "pq")


def check_requests(requests: object) -> None:
    """Raises TypeError or ValueError for what a judge must not yield."""
    if not isinstance(requests, list):
        raise TypeError(f"the judge yielded a {type(requests).__name__}, not a list of Requests")
    wrong = next((request for request in requests if not isinstance(request, Request)), None)
    if wrong is not None:
        raise TypeError(f"the judge yielded a list with a {type(wrong).__name__}, not a list of Requests")
    if not requests:
        raise ValueError("the judge asked for nothing")


def fault_of(score: object) -> Exception | None:
    """What is wrong with the value that a judge returned: its type, a mean outside 0..10, numbers that the status forbids."""
    if not isinstance(score, Score):
        return TypeError(f"the judge returned a {type(score).__name__}, not a Score")
    for name in _MEANS:
        value = getattr(score, name)
        if value is None:
            continue
        if not isinstance(value, (int, float)):
            return TypeError(f"the judge returned a {type(value).__name__} as {name}, not a number")
        if not (math.isfinite(value) and 0 <= value <= 10):
            return ValueError(f"the judge returned {name} {value}, which is outside 0..10")
    if (score.status == Status.OK) != (score.overall is not None):
        return ValueError(f"the judge returned the status {score.status} with overall {score.overall}")
    return None
