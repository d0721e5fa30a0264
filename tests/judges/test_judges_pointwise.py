"""The pointwise judge: what it asks, what it makes of the answers, what it does when they fail."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judge_play import BLUE, RED, SAMPLE, WIDE, choices, is_sc, play, slot_answer, text_answer
from pydantic import BaseModel, ConfigDict

from editscore import judges
from editscore.judges import JUDGES, Judge, PointwiseConfig, PointwiseJudge, make_judge
from editscore.types import Completion, EditSample, FinishReason, ImagePart, InvalidInputError, Request, Status, Text, TextPart


def judge(**settings: Any) -> PointwiseJudge:
    return PointwiseJudge.from_settings(settings)


def ask(sample: EditSample = SAMPLE, passes: int = 1, seed: int = 42, **settings: Any) -> list[Request]:
    return next(judge(**settings).run(sample, num_passes=passes, seed=seed))


def words(request: Request) -> str:
    return "\n".join(p.text for m in request.messages for p in m.parts if isinstance(p, TextPart))


def test_sc_sees_both_images_and_pq_the_edited_one_only() -> None:
    sc, pq = ask(passes=4, seed=7)
    assert sc.images == (RED, BLUE)
    assert pq.images == (BLUE,)
    assert SAMPLE.instruction in words(sc)
    assert SAMPLE.instruction not in words(pq)
    for request in (sc, pq):
        assert (request.num_passes, request.first_pass, request.seed) == (4, 0, 7)
        assert [c.options for c in choices(request)] == [tuple(map(str, range(26)))] * 2
        sampling = request.sampling
        assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.7, 0.9, 20)
        assert Text(512, "fail") in request.answer


@pytest.mark.parametrize("side", [0, 1])
def test_the_rules_come_before_the_images_and_are_the_same_for_every_sample(side: int) -> None:
    first = ask()[side]
    other = ask(EditSample(WIDE, RED, "add 10 candles"))[side]
    parts = [part for message in first.messages for part in message.parts]
    place = next(i for i, part in enumerate(parts) if isinstance(part, ImagePart))
    assert place > 0 and other.messages[0] == first.messages[0]
    rules = parts[0].text
    assert len(rules) > 1000, "the rules are the long part"
    assert "25" in rules and "{" not in rules.replace('{"reasoning": "...", "score": [grade 1, grade 2]}', "")


def test_the_range_is_in_the_prompt_and_in_the_options_and_numbers_of_the_instruction_stay() -> None:
    sample = EditSample(RED, BLUE, "Give it 10 candles and 25 lamps.")
    for request in ask(sample, score_range=10):
        assert "0 to 10" in words(request)
        assert [len(c.options) for c in choices(request)] == [11, 11]
    for request in ask(sample, score_range=30):
        assert "0 to 30" in words(request)
    assert "10 candles and 25 lamps" in words(ask(sample, score_range=30)[0])


@settings(deadline=None)
@given(st.text(min_size=1, max_size=200))
def test_an_instruction_cannot_change_the_shape_of_prompt_or_answer(instruction: str) -> None:
    plain, odd = ask(), ask(EditSample(RED, BLUE, instruction))
    assert [r.answer for r in odd] == [r.answer for r in plain]
    assert odd[1] == plain[1], "PQ never sees it"
    shape = [[type(p) for p in m.parts] for m in odd[0].messages]
    assert shape == [[type(p) for p in m.parts] for m in plain[0].messages]
    last = odd[0].messages[-1].parts[-1].text
    quoted = last.removeprefix("\nThe request, quoted: ").removesuffix("\nGrade the edited picture.")
    assert msgspec.json.decode(quoted) == instruction, "it is one JSON string, whole and closed"


@pytest.mark.parametrize(
    ("given", "seen"), [("paint the red ring orange", None), ("Make the image dark.", "make the image dark"), ("!!!", None)]
)
def test_nano_is_asked_in_its_own_words(given: str, seen: str | None) -> None:
    sc, pq = ask(EditSample(RED, BLUE, given), prompts="nano")
    assert [m.parts for m in sc.messages] == [(TextPart(seen or given), ImagePart(RED), ImagePart(BLUE))]
    assert [m.parts for m in pq.messages] == [(TextPart("quality"), ImagePart(BLUE))]


def test_passes_become_a_score_by_the_published_formula() -> None:
    raw = {True: [(25, 20), (10, 15)], False: [(5, 25), (20, 20)]}
    score, rounds = play(judge(), SAMPLE, lambda r, i: slot_answer(raw[is_sc(r)][i], i, f"reason {is_sc(r)} {i}"), 2)
    assert len(rounds) == 1
    assert score.status is Status.OK and score.judge == "pointwise" and score.warnings == ()
    assert score.overall == pytest.approx((math.sqrt(8 * 2) + math.sqrt(4 * 8)) / 2, abs=1e-12)
    assert (score.prompt_following, score.consistency, score.naturalness, score.artifacts) == (7.0, 7.0, 5.0, 9.0)
    assert (score.sc, score.pq) == (6.0, 5.0)
    assert score.spread.prompt_following == pytest.approx(3.0, abs=1e-12)
    assert [p.sc_reasoning for p in score.passes] == ["reason True 0", "reason True 1"]
    assert [p.pq_reasoning for p in score.passes] == ["reason False 0", "reason False 1"]
    assert [p.sc_raw for p in score.passes] == [(25, 20), (10, 15)]
    assert (score.num_passes, score.num_failed_passes) == (2, 0)


def test_a_failed_side_fails_the_pass_for_average_last_and_leaves_the_other_side_to_average_first() -> None:
    def answer(request: Request, index: int) -> Completion:
        is_bad = is_sc(request) and index == 1
        return text_answer("no verdict", index) if is_bad else slot_answer((20, 20) if index else (10, 10), index)

    last, _ = play(judge(max_retries=0), SAMPLE, answer, 2)
    assert (last.overall, last.pq, last.sc, last.num_failed_passes) == (4.0, 4.0, 4.0, 1)
    assert last.passes[1].status is Status.PARSE_FAILED and last.passes[1].overall is None
    assert last.passes[1].pq_raw == (20, 20), "what was read stays visible"
    first, _ = play(judge(max_retries=0, aggregation="average_first"), SAMPLE, answer, 2)
    assert (first.sc, first.pq) == (4.0, 6.0)
    assert first.overall == pytest.approx(math.sqrt(4 * 6), abs=1e-12)


@pytest.mark.parametrize("aggregation", ["average_last", "average_first"])
@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (text_answer("no verdict", 0), Status.PARSE_FAILED),
        (text_answer("I'm sorry, but I can't assist with that request.", 0), Status.REFUSED),
        (slot_answer((25, 25), 0, "I cannot judge this image."), Status.REFUSED),
        (Completion(0, '{"reasoning": "x", "score": [18, 21]}', FinishReason.LENGTH), Status.TRUNCATED),
        (Completion(0, "", FinishReason.FAILED, status=Status.ERROR, message="out of memory"), Status.ERROR),
        (Completion(0, "", FinishReason.FAILED, status=Status.INVALID_INPUT, message="messages: too long"), Status.INVALID_INPUT),
        (Completion(0, "", FinishReason.CANCELLED), Status.ERROR),
        (slot_answer((26, 3), 0), Status.PARSE_FAILED),
    ],
)
def test_without_a_good_pass_there_is_no_number(bad: Completion, status: Status, aggregation: str) -> None:
    score, _ = play(judge(aggregation=aggregation), SAMPLE, lambda r, i: bad if is_sc(r) else slot_answer((25, 25), i))
    assert score.status is status
    assert score.message.startswith("pass 0: SC: ")
    assert bad.message in score.message
    numbers = (score.overall, score.prompt_following, score.consistency, score.naturalness, score.artifacts, score.sc, score.pq)
    assert numbers == (None,) * 7
    assert set(msgspec.structs.astuple(score.spread)) == {None}
    assert score.num_failed_passes == 1


def test_a_failed_pass_is_asked_again_with_a_new_seed_and_nothing_else_is() -> None:
    def answer(request: Request, index: int) -> Completion:
        is_bad = request.seed == 42 and is_sc(request) and index in (1, 2, 5)
        return text_answer("?", index) if is_bad else slot_answer((20, 20) if request.seed == 42 else (5, 5), index)

    score, rounds = play(judge(), SAMPLE, answer, 6)
    assert len(rounds) == 2
    assert [(is_sc(r), r.first_pass, r.num_passes) for r in rounds[1]] == [(True, 1, 2), (True, 5, 1)]
    assert len({r.seed for r in rounds[1]}) == 1 and rounds[1][0].seed != 42
    assert rounds[1][0].messages == rounds[0][0].messages and rounds[1][0].answer == rounds[0][0].answer
    assert [p.sc_raw for p in score.passes] == [(20, 20), (5, 5), (5, 5), (20, 20), (20, 20), (5, 5)]
    assert score.num_failed_passes == 0


@pytest.mark.parametrize(("retries", "temperature", "rounds"), [(0, 0.7, 1), (1, 0.7, 2), (3, 0.7, 4), (3, 0.0, 1)])
def test_retries_end_and_have_different_seeds(retries: int, temperature: float, rounds: int) -> None:
    asked = play(judge(max_retries=retries, sampling={"temperature": temperature}), SAMPLE, lambda r, i: text_answer("?", i))[1]
    assert len(asked) == rounds
    assert len({requests[0].seed for requests in asked}) == rounds


def test_a_failure_of_the_machinery_is_not_asked_again() -> None:
    lost = Completion(0, "", FinishReason.FAILED, status=Status.ERROR, message="nan")
    assert len(play(judge(), SAMPLE, lambda r, i: lost)[1]) == 1


DOMAIN = {"head": "in_domain", "threshold": 0.5, "vocabulary": ["make", "the", "image", "blue"]}


@pytest.mark.parametrize(
    ("instruction", "value", "is_outside"),
    [
        ("make the image blue", 0.6, False),
        ("Make the image: BLUE!", 0.6, False),
        ("make the image blue", 0.4, True),
        ("make the image blue", math.nan, True),
        ("make the image bluer", 0.6, True),
        ("make the 1mage blue", 0.6, True),
        ("使图像变蓝", 0.6, True),
        ("?!", 0.6, True),
    ],
)
def test_out_of_domain_by_words_and_by_head(instruction: str, value: float, is_outside: bool) -> None:
    sample = EditSample(RED, BLUE, instruction)
    for passes in (1, 2):
        heads = {0: {"in_domain": (value,)}, 1: {"in_domain": (9.0,)}}
        score, rounds = play(
            judge(domain=DOMAIN), sample, lambda r, i, h=heads: slot_answer((9, 9), i, heads=h[i] if is_sc(r) else {}), passes
        )
        assert [r.read for r in rounds[0]] == [("in_domain",), ()]
        assert score.warnings == (("out_of_domain",) if is_outside else ())
        assert score.status is Status.OK, "a warning does not take the score away"


def test_size_and_closed_reasoning_are_warned_of() -> None:
    sample = EditSample(RED, WIDE, "make the image blue")
    score, _ = play(judge(), sample, lambda r, i: slot_answer((9, 9), i, was_closed=is_sc(r)))
    assert score.warnings == ("size_differs", "reasoning_closed")


def test_a_free_answer_is_read_strictly() -> None:
    free = judge(constrained=False)
    score, rounds = play(free, SAMPLE, lambda r, i: text_answer('Here: {"reasoning": "fine", "score": [20, 15]}', i))
    assert rounds[0][0].answer == (Text(536),)
    assert score.overall == pytest.approx(6.0)
    assert score.passes[0].sc_reasoning == "fine"


CHANGES: list[dict[str, Any]] = [
    {"prompts": "nano"},
    {"score_range": 10},
    {"max_reasoning_tokens": 100},
    {"on_limit": "close"},
    {"constrained": False},
    {"sampling": {"temperature": 1.0}},
    {"sampling": {"top_p": 0.5}},
    {"sampling": {"top_k": 5}},
    {"aggregation": "average_first"},
    {"max_retries": 0},
    {"domain": {"threshold": 1.0}},
]


def test_the_digest_sees_every_setting() -> None:
    fields = {name for change in CHANGES for name in change}
    assert fields == set(PointwiseConfig.model_fields), "a new setting needs a line above"
    digests = [judge(**change).prompts_digest for change in [{}, *CHANGES]]
    assert len(set(digests)) == len(digests)
    assert judge().prompts_digest == judge(judge="pointwise", pixels={"resize": [84, 84]}).prompts_digest


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"promts": "nano"}, "judge_settings"),
        ({"score_range": 0}, "score_range"),
        ({"sampling": {"temperature": -1}}, "sampling.temperature"),
        ({"on_limit": "maybe"}, "on_limit"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        make_judge("pointwise", settings)
    assert caught.value.field == field


def test_judges_are_found_by_name() -> None:
    assert all(isinstance(make_judge(name, {}), Judge) and make_judge(name, {}).name == name for name in JUDGES)
    with pytest.raises(InvalidInputError, match=r"^judge: no judge 'pairwise'; known: pointwise$"):
        make_judge("pairwise", {})
    with pytest.raises(InvalidInputError, match="nanno"):
        make_judge("pointwise", {"prompts": "nanno"})
    with pytest.raises(InvalidInputError, match=r"^judge_settings: promts is none of prompts, score_range, "):
        make_judge("pointwise", {"promts": "nano"})


def test_a_judge_of_ones_own_needs_no_error_handling(monkeypatch: pytest.MonkeyPatch) -> None:
    class Config(BaseModel):
        model_config = ConfigDict(extra="forbid")
        sides: int = 2

    monkeypatch.setattr(judges, "JUDGES", {"coin": lambda settings: Config.model_validate(settings)})
    with pytest.raises(InvalidInputError, match=r"^sides: Input should be a valid integer"):
        make_judge("coin", {"sides": "many"})
    with pytest.raises(InvalidInputError, match=r"^judge_settings: edges is no setting"):
        make_judge("coin", {"edges": 1})
