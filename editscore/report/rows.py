"""What the page shows of one sample."""

from __future__ import annotations

from typing import Any

import msgspec

from editscore.types import Image, PassScore, Score

DIMENSIONS = {
    "prompt_following": "Prompt following",
    "consistency": "Consistency",
    "naturalness": "Naturalness",
    "artifacts": "Artifacts",
}
"""The four fields of a Score that a judge reads off the images, with the names that people see; all on 0..10, higher is better."""


class ReportRow(msgspec.Struct, frozen=True):
    """One card. `source` and `edited` are None where the image could not be read.

    `truth` holds known values on 0..10 by field name (EditWorld's oracle), drawn as marks. `notes` are further texts to show.
    """

    score: Score
    instruction: str
    source: Image | None = None
    edited: Image | None = None
    task: str = ""
    truth: dict[str, float] = {}
    notes: dict[str, Any] = {}


def typical_pass(score: Score) -> PassScore | None:
    """The pass whose reasons stand for the sample: overall nearest to the mean, else the first one with any reason."""
    if score.overall is not None:
        mean = score.overall
        good = [one for one in score.passes if one.overall is not None]
        if good:
            return min(good, key=lambda one: (abs((one.overall or 0.0) - mean), one.index))
    return next((one for one in score.passes if one.sc_reasoning or one.pq_reasoning), None)
