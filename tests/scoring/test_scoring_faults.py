"""Judges and samples at fault: what they cost, and what is said about it."""

from __future__ import annotations

import math
from collections.abc import Generator

import pytest
from fake_engine import FakeEngine, image, samples

from editscore.judges import PointwiseJudge
from editscore.scoring import LocalScorer
from editscore.types import Completion, EditSample, InvalidInputError, Message, Request, Score, Status, Text, TextPart


class OddJudge:
    """A judge that misbehaves as the instruction says."""

    name = "odd"
    prompts_digest = "0" * 64

    def run(self, sample: EditSample, *, num_passes: int, seed: int) -> Generator[list[Request], list[Completion], Score]:
        if sample.instruction == "raise":
            raise KeyError("lost")
        if sample.instruction == "nothing":
            yield []
        if sample.instruction == "none":
            return None  # type: ignore[return-value]
        if sample.instruction == "bare":
            yield Request((Message("user", (TextPart("?"),)),), (Text(4),))  # type: ignore[misc]
        if sample.instruction == "mixed":
            yield ["?"]  # type: ignore[list-item]
        return SCORES.get(sample.instruction, Score("", Status.OK, overall=5.0))


SCORES = {
    "high": Score("", Status.OK, overall=10.5),
    "nan": Score("", Status.OK, overall=5.0, sc=math.nan),
    "failed": Score("", Status.REFUSED, overall=5.0),
    "empty": Score("", Status.OK),
}
FAULTS = {
    "bare": "TypeError: the judge yielded a Request, not a list of Requests",
    "mixed": "TypeError: the judge yielded a list with a str, not a list of Requests",
    "high": "ValueError: the judge returned overall 10.5, which is outside 0..10",
    "nan": "ValueError: the judge returned sc nan, which is outside 0..10",
    "failed": "ValueError: the judge returned the status refused with overall 5.0",
    "empty": "ValueError: the judge returned the status ok with overall None",
}


@pytest.mark.parametrize("word", FAULTS)
def test_what_a_judge_must_not_yield_or_return_costs_its_own_sample(word: str) -> None:
    edits = [EditSample(image(1), image(2), text) for text in ("fine", word, "fine")]
    with LocalScorer(FakeEngine(), OddJudge()) as judge:
        scores = judge.score(edits)
    assert [s.status for s in scores] == [Status.OK, Status.ERROR, Status.OK]
    assert (scores[1].message, scores[1].overall, scores[1].sc) == (FAULTS[word], None, None)


def test_the_log_names_the_sample_and_the_exception(caplog: pytest.LogCaptureFixture) -> None:
    with LocalScorer(FakeEngine(), OddJudge()) as judge:
        judge.score([EditSample(image(1), image(2), "raise", "mine")])
    assert [record.getMessage() for record in caplog.records] == ["the judge failed on sample 'mine': KeyError('lost')"]


def test_what_is_no_list_of_samples_is_named() -> None:
    one = samples(1)[0]
    engine = FakeEngine()
    with LocalScorer(engine, PointwiseJudge()) as judge:
        for wrong, says in (
            (one, "not an EditSample"),
            (None, "not a NoneType"),
            ([one, "a.png"], "holds a str"),
            (iter(["x"]), "holds a str"),
        ):
            with pytest.raises(InvalidInputError, match=f"^samples: needs a list of EditSample, .*{says}"):
                judge.score(wrong)  # type: ignore[arg-type]
    assert not engine.added
    with pytest.raises(InvalidInputError, match=r"^judge: needs name, prompts_digest and run$"):
        LocalScorer(FakeEngine(), object())  # type: ignore[arg-type]


def test_a_judge_at_fault_is_an_error_of_its_sample() -> None:
    edits = [EditSample(image(1), image(2), word) for word in ("fine", "raise", "nothing", "none", "fine")]
    with LocalScorer(FakeEngine(), OddJudge()) as judge:
        scores = judge.score(edits)
    assert [s.status for s in scores] == [Status.OK, Status.ERROR, Status.ERROR, Status.ERROR, Status.OK]
    assert [s.message.split(":")[0] for s in scores[1:4]] == ["KeyError", "ValueError", "TypeError"]
