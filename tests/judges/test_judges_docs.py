"""The judge that docs/judges.md shows works as it stands there."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from judge_play import BLUE, SAMPLE, play

from editscore import types
from editscore.judges import Judge, PointwiseConfig
from editscore.types import Completion, FinishReason, Slot, Status

PAGE = (Path(__file__).parents[2] / "docs" / "judges.md").read_text("utf-8")


def test_the_smallest_judge_of_the_page_runs() -> None:
    (code,) = re.findall(r"```python\n(class CoinJudge.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {"hashlib": hashlib, **{name: getattr(types, name) for name in types.__all__}}
    exec(code, names)
    judge = names["CoinJudge"]()
    assert isinstance(judge, Judge)
    says = ["yes", "yes", "no", "yes"]
    score, rounds = play(judge, SAMPLE, lambda r, i: Completion(i, says[i], FinishReason.STOP, {"verdict": Slot(says[i])}), 4)
    assert score.overall == 7.5 and rounds[0][0].images == (BLUE,)
    lost, _ = play(judge, SAMPLE, lambda r, i: Completion(i, "", FinishReason.FAILED, status=Status.ERROR, message="lost"), 2)
    assert (lost.status, lost.overall, lost.message) == (Status.ERROR, None, "lost")


def test_the_page_names_every_setting() -> None:
    rows = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| `.*?\|", PAGE, re.MULTILINE))))
    assert set(PointwiseConfig.model_fields) <= rows
