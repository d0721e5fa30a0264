"""Answers keep to their shape, whatever the shape, and the reader agrees with a parser that reads the whole text at once."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable

import msgspec
import pytest
from edit_requests import DIGITS, edit_request, score_answer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from editscore.engine import Engine, EngineConfig
from editscore.engine.answers import JSON_TEXT, AnswerReader, AnswerShape
from editscore.models.vlm import VisionLanguageModel
from editscore.types import Choice, Completion, FinishReason, InvalidInputError, Literal, Request, Sampling, Status, Text

Part = Literal | Text | Choice
words = st.text(st.sampled_from('ab12 é,:["]}\n\\'), min_size=1, max_size=5)
options = st.lists(words, min_size=1, max_size=4, unique=True).map(tuple)


@st.composite
def answers(draw: Callable[..., object]) -> tuple[Part, ...]:
    """Shapes of one to five parts; some of them are ambiguous and must be refused."""
    parts: list[Part] = []
    for i in range(draw(st.integers(1, 4))):  # type: ignore[call-overload]
        kind = draw(st.sampled_from(("literal", "text", "choice")))
        if kind == "choice":
            parts.append(Choice(f"c{i}", draw(options)))  # type: ignore[arg-type]
        elif kind == "text":
            parts.append(Text(draw(st.integers(1, 6)), draw(st.sampled_from(("fail", "close")))))  # type: ignore[arg-type]
            parts.append(Literal('"' + str(draw(words))))
        else:
            parts.append(Literal(str(draw(words))))
    if draw(st.booleans()):
        parts.append(Text(draw(st.integers(1, 6))))  # type: ignore[arg-type]
    return tuple(parts)


def pattern(shape: AnswerShape) -> re.Pattern[str]:
    """The whole answer as one of Python's regular expressions, choices as groups: an independent reading."""
    pieces = []
    for part in shape.constrained:
        if isinstance(part, Text):
            pieces.append(JSON_TEXT.replace("(", "(?:"))
        elif isinstance(part, Literal):
            pieces.append(re.escape(part.text))
        else:
            pieces.append(f"(?P<{part.name}>{'|'.join(map(re.escape, sorted(part.options, key=len, reverse=True)))})")
    return re.compile("".join(pieces) + (".*" if shape.trailing else ""), re.DOTALL)


def run(model: VisionLanguageModel, answer: tuple[Part, ...], *, seed: int = 1, temperature: float = 1.5) -> Completion:
    request = edit_request(1, num_images=0, answer=answer, seed=seed, sampling=Sampling(temperature=temperature, top_k=0, top_p=1.0))
    return Engine(model, EngineConfig(kv_memory_mb=4)).generate([request])[0]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answer=answers(), seed=st.integers(0, 99))
def test_every_answer_has_its_shape(qwen2_5: VisionLanguageModel, answer: tuple[Part, ...], seed: int) -> None:
    try:
        shape = AnswerShape.of(answer)
    except InvalidInputError:
        completion = run(qwen2_5, answer, seed=seed)
        assert (completion.finish_reason, completion.status) == (FinishReason.FAILED, Status.INVALID_INPUT)
        return
    completion = run(qwen2_5, answer, seed=seed)
    if completion.finish_reason is FinishReason.LENGTH:
        assert completion.status is Status.TRUNCATED
        assert any(isinstance(part, Text) and part.on_limit == "fail" for part in answer)
        return
    assert completion.finish_reason is FinishReason.STOP
    match = pattern(shape).fullmatch(completion.text)
    assert match, completion.text
    assert {name: slot.value for name, slot in completion.slots.items()} == match.groupdict()
    assert completion.num_forced_tokens + completion.num_sampled_tokens >= len(completion.tokens)


@settings(max_examples=200, deadline=None)
@given(answer=answers(), data=st.data())
def test_the_reader_reads_in_any_pieces(answer: tuple[Part, ...], data: st.DataObject) -> None:
    try:
        shape = AnswerShape.of(answer)
    except InvalidInputError:
        return
    text = "".join(
        data.draw(st.from_regex(re.compile(JSON_TEXT, re.ASCII), fullmatch=True).map(lambda x: x[:20]).filter(_is_whole))
        if isinstance(part, Text)
        else (part.text if isinstance(part, Literal) else data.draw(st.sampled_from(part.options)))
        for part in shape.constrained
    )
    reader, raw, start = AnswerReader(shape), text.encode(), 0
    while start < len(raw):
        size = data.draw(st.integers(1, 4))
        reader.read(raw[start : start + size])
        start += size
    reader.finish()
    assert reader.is_complete
    match = pattern(AnswerShape(shape.constrained)).fullmatch(text)
    assert match
    assert reader.taken == match.groupdict()


def _is_whole(text: str) -> bool:
    return re.fullmatch(JSON_TEXT, text) is not None


def test_a_text_ends_at_its_limit_and_goes_on(qwen2_5: VisionLanguageModel) -> None:
    for seed in range(12):
        completion = run(qwen2_5, score_answer(max_tokens=5, on_limit="close"), seed=seed, temperature=3.0)
        assert completion.finish_reason is FinishReason.STOP
        verdict = json.loads(completion.text)
        assert {str(x) for x in verdict["score"]} <= set(DIGITS)
        # five words, then one token per choice
        assert completion.num_sampled_tokens <= 8
        assert completion.was_closed == (completion.num_sampled_tokens == 7 and completion.num_forced_tokens > 3)


def test_a_text_that_may_not_be_cut_fails_at_its_limit(qwen2_5: VisionLanguageModel) -> None:
    completion = run(qwen2_5, score_answer(max_tokens=3, on_limit="fail"), seed=3, temperature=3.0)
    assert (completion.finish_reason, completion.status) == (FinishReason.LENGTH, Status.TRUNCATED)
    assert not completion.was_closed
    assert completion.num_sampled_tokens == 3


def test_slots_hold_the_probability_of_every_option(qwen2_5: VisionLanguageModel) -> None:
    completion = run(qwen2_5, score_answer(), temperature=0.0)
    for name in ("first", "second"):
        slot = completion.slots[name]
        assert len(slot.logprobs) == 26
        assert math.isclose(sum(map(math.exp, slot.logprobs)), 1.0, abs_tol=1e-9)
        assert slot.value == DIGITS[slot.logprobs.index(max(slot.logprobs))], "greedy takes the most probable option"


def test_options_of_several_tokens_have_no_probabilities(qwen2_5: VisionLanguageModel) -> None:
    completion = run(qwen2_5, (Choice("verdict", ("perfect", "prefect", "poor")), Literal("!")))
    assert completion.slots["verdict"].logprobs == ()
    assert completion.text == completion.slots["verdict"].value + "!"


def test_one_option_is_certain_and_costs_no_draw(qwen2_5: VisionLanguageModel) -> None:
    completion = run(qwen2_5, (Literal("a"), Choice("only", ("car",)), Literal("b")))
    assert completion.slots["only"].logprobs == (0.0,)
    assert (completion.text, completion.num_sampled_tokens) == ("acarb", 0)


@pytest.mark.parametrize(
    "answer",
    [
        (Text(5), Literal("no quote")),
        (Text(5), Choice("a", ("1",))),
        (Choice("a", ("1", "12")), Literal("2")),
        (Choice("a", ("1", "12")), Choice("b", ("2", "3"))),
        (Choice("a", ("1", "12")), Text(5)),
        (Choice("a", ("1",)), Literal(" "), Choice("a", ("2",))),
    ],
)
def test_shapes_with_two_readings_are_refused(answer: tuple[Part, ...]) -> None:
    with pytest.raises(InvalidInputError, match="answer"):
        AnswerShape.of(answer)


def test_an_end_of_text_that_is_ignored_is_a_token_as_any_other(model: VisionLanguageModel) -> None:
    """The truth is the model's own greedy answer while none of its tokens is an end of text."""

    def asked(ignores: bool, on_limit: str = "close") -> Request:
        request = edit_request(1, answer=(Text(12, on_limit=on_limit),), num_passes=2, sampling=Sampling(temperature=0.0))
        return msgspec.structs.replace(request, ignore_end_of_text=ignores, logprobs=True)

    config = EngineConfig(kv_memory_mb=4)
    whole = Engine(model, config).generate([asked(False)])[0]
    assert len(whole.tokens) == 12 and whole.was_closed, "no end of text so far"
    ending = copy.copy(model)
    end = whole.tokens[5]
    ending.eos_token_ids = (end,)
    answers = Engine(ending, config).generate([asked(True), asked(False), asked(True, "fail")])
    for ignoring, ended, cut in zip(answers[:2], answers[2:4], answers[4:], strict=True):
        place = whole.tokens.index(end)
        assert ended.tokens == whole.tokens[: place + 1] and (ended.finish_reason, ended.was_closed) == (FinishReason.STOP, False)
        assert ignoring.tokens == cut.tokens == whole.tokens and ignoring.logprobs == whole.logprobs
        assert ignoring.num_sampled_tokens == 12
        assert (ignoring.finish_reason, ignoring.was_closed, ignoring.status) == (FinishReason.STOP, True, Status.OK)
        assert (cut.finish_reason, cut.status) == (FinishReason.LENGTH, Status.TRUNCATED)
        rest = [token for token in whole.tokens if token != end]
        assert ignoring.text == model.chat.fast.decode(rest, skip_special_tokens=True)
