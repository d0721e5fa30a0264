"""The judge that docs/judges.md shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from judge_play import BLUE, SAMPLE, play

from editscore import judges
from editscore.judges import Judge, PointwiseConfig, make_judge
from editscore.types import Completion, FinishReason, InvalidInputError, Slot, Status

PAGE = (Path(__file__).parents[2] / "docs" / "judges.md").read_text("utf-8")


def test_the_smallest_judge_of_the_page_runs() -> None:
    (code,) = re.findall(r"```python\n((?:(?!```).)*?def run\(self.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {"__name__": "coin"}
    exec(code, names)
    judge = names["CoinJudge"]()
    assert isinstance(judge, Judge)
    says = ["yes", "yes", "no", "yes"]
    score, rounds = play(judge, SAMPLE, lambda r, i: Completion(i, says[i], FinishReason.STOP, {"verdict": Slot(says[i])}), 4)
    assert score.overall == 7.5 and rounds[0][0].images == (BLUE,)
    lost, _ = play(judge, SAMPLE, lambda r, i: Completion(i, "", FinishReason.FAILED, status=Status.ERROR, message="lost"), 2)
    assert (lost.status, lost.overall, lost.message) == (Status.ERROR, None, "lost")


def test_the_factory_of_the_page_names_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n((?:(?!```).)*?def from_settings.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {"__name__": "coin"}
    exec(code, names)
    monkeypatch.setattr(judges, "JUDGES", {"coin": names["from_settings"]})
    with pytest.raises(InvalidInputError, match="judge_settings: edges"):
        make_judge("coin", {"edges": 1})
    with pytest.raises(InvalidInputError, match="temperature"):
        make_judge("coin", {"temperature": "warm"})
    assert make_judge("coin", {"temperature": 0.5}).config.temperature == 0.5  # type: ignore[attr-defined]


def test_the_page_names_every_setting() -> None:
    rows = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| `.*?\|", PAGE, re.MULTILINE))))
    assert set(PointwiseConfig.model_fields) <= rows
