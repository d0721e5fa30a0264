"""Reading an answer strictly: a pair in range comes back, or a typed failure; never a guessed, clamped or middle number.

Order: the grammar's slots when there are any, otherwise the text: JSON, then json_repair (believed only where the raw text itself
shows one closed list behind one `score` key), then a lone list of two integers.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import json_repair

from editscore.judges.refusal import is_refusal
from editscore.types import Completion, FinishReason, Status

FIRST, SECOND = "first", "second"
MAX_CHARACTERS = 16_384
# A judgement needs two; searching thousands of nested ones for an object takes seconds.
MAX_BRACKETS = 64

_NUMBER = r"[-+]?[0-9]{1,20}(?:\.[0-9]{1,20})?(?:[eE][-+]?[0-9]{1,3})?"
_QUOTE = r"[\"'“”‘’]?"
_SCORE_KEY = re.compile(rf"(?<![A-Za-z0-9_])score{_QUOTE}\s*[:：]", re.IGNORECASE)
_CLOSED_LIST = re.compile(rf"\s*\[\s*({_NUMBER})(?:\s*,\s*|\s+)({_NUMBER})\s*,?\s*\]")
_AFTER_LIST = re.compile(r"\s*(?:,?\s*[}\]]|,\s*[\w\"'“‘])")
_ANOTHER_SCORE = re.compile(rf"score\W{{0,8}}[0-9]|\[\s*{_NUMBER}", re.IGNORECASE)
_LONE_LIST = re.compile(
    r"(?:(?P<before>[^\[{]*\bscores?\s*[:=]\s*)|\s*)\[\s*([0-9]{1,3})\s*,\s*([0-9]{1,3})\s*\](?P<after>.*)", re.IGNORECASE | re.DOTALL
)
_FENCE = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Reading:
    """What one side of a pass says: a pair on 0..score_range, or the status and message of its failure."""

    status: Status
    pair: tuple[float, float] | None = None
    reasoning: str = ""
    message: str = ""
    was_closed: bool = False


class _UnreadableError(ValueError):
    """The text holds no single pair of numbers in range; the message says why."""


def read_completion(completion: Completion, score_range: int) -> Reading:
    """Read one completion; a completion that failed keeps its own status and message."""
    if completion.status is not Status.OK:
        return Reading(completion.status, message=completion.message or f"the engine says {completion.status.value}")
    if completion.finish_reason is FinishReason.LENGTH:
        return Reading(Status.TRUNCATED, message="the answer reached its limit of tokens", reasoning=completion.text)
    if completion.finish_reason is not FinishReason.STOP:
        return Reading(Status.ERROR, message=completion.message or f"the engine ended with {completion.finish_reason.value}")
    if completion.slots:
        return _read_slots(completion, score_range)
    return read_text(completion.text, score_range)


def read_text(text: str, score_range: int) -> Reading:
    """Read a free text."""
    text = text.strip()
    try:
        if not text:
            raise _UnreadableError("the answer is empty")
        if len(text) > MAX_CHARACTERS:
            raise _UnreadableError(f"the answer has {len(text)} characters, over {MAX_CHARACTERS}")
        if text.count("{") + text.count("[") > MAX_BRACKETS:
            raise _UnreadableError(f"the answer has more than {MAX_BRACKETS} opening brackets")
        value, reasoning = _find_score(text)
        pair = _check_pair(value, score_range)
    except _UnreadableError as error:
        if is_refusal(text):
            return Reading(Status.REFUSED, message="the model declined to judge", reasoning=text)
        return Reading(Status.PARSE_FAILED, message=str(error), reasoning=text[:MAX_CHARACTERS])
    return _judged(pair, reasoning, was_closed=False)


def _judged(pair: tuple[float, float], reasoning: str, *, was_closed: bool) -> Reading:
    if is_refusal(reasoning):
        return Reading(Status.REFUSED, message="the model declined to judge", reasoning=reasoning)
    return Reading(Status.OK, pair, reasoning, was_closed=was_closed)


def _read_slots(completion: Completion, score_range: int) -> Reading:
    values = [completion.slots[name].value for name in (FIRST, SECOND) if name in completion.slots]
    reasoning = _reasoning_of(completion.text)
    try:
        numbers = [int(value) if re.fullmatch(r"[0-9]{1,9}", value) else value for value in values]
        pair = _check_pair(numbers, score_range)
    except _UnreadableError as error:
        return Reading(Status.PARSE_FAILED, message=str(error), reasoning=reasoning)
    return _judged(pair, reasoning, was_closed=completion.was_closed)


def _reasoning_of(text: str) -> str:
    """The reasoning inside an answer whose shape the grammar has held."""
    try:
        return _reasoning_in(_loads(text))
    except (ValueError, RecursionError):
        return text.removeprefix('{"reasoning": "').rpartition('", "score"')[0]


def _check_pair(value: object, score_range: int) -> tuple[float, float]:
    if not isinstance(value, list):
        raise _UnreadableError(f"the score is a {type(value).__name__}, not a list of two numbers")
    if len(value) != 2:
        raise _UnreadableError(f"the score has {len(value)} entries, not two")
    numbers = []
    for entry in value:
        if isinstance(entry, bool) or not isinstance(entry, (int, float)):
            raise _UnreadableError(f"the score holds a {type(entry).__name__}, not two numbers")
        # Compared before any conversion: float() of a huge integer overflows.
        if not 0 <= entry <= score_range or not math.isfinite(entry):
            raise _UnreadableError(f"a score of {str(entry)[:20]} is outside 0..{score_range}")
        numbers.append(float(entry))
    return numbers[0], numbers[1]


def _find_score(text: str) -> tuple[object, str]:
    """The one value under a `score` key of the text, and the reasoning beside it."""
    fenced = _FENCE.fullmatch(text)
    body = fenced.group(1) if fenced else text
    for reader in (_from_json, _from_repaired_json, _from_lone_list):
        found = reader(body)
        if found is not None:
            return found
    raise _UnreadableError("no score in the answer")


def _from_json(text: str) -> tuple[object, str] | None:
    try:
        document, prefix, suffix = _loads(text), "", ""
    except (ValueError, RecursionError):
        embedded = list(_embedded_objects(text))
        if len(embedded) > 1:
            raise _UnreadableError("several JSON objects with a score") from None
        if not embedded:
            return None
        document, start, end = embedded[0]
        prefix, suffix = text[:start], text[end:]
        if "{" in prefix:
            return None  # the object sits inside another, broken one: it may be a quotation
    scores = list(_scores_in(document))
    if not scores:
        return None
    if len(scores) > 1 or _ANOTHER_SCORE.search(prefix) or _ANOTHER_SCORE.search(suffix):
        raise _UnreadableError("more than one score in the answer")
    return scores[0], _reasoning_in(document)


def _from_repaired_json(text: str) -> tuple[object, str] | None:
    if "{" not in text:
        return None
    keys = list(_SCORE_KEY.finditer(text))
    if not keys:
        return None
    if len(keys) > 1:
        raise _UnreadableError("more than one score in the answer")
    shown = _CLOSED_LIST.match(text, keys[0].end())
    if shown is None:
        raise _UnreadableError("the score is not a closed list of two numbers")
    has_comma_before = text[: keys[0].start()].rstrip().rstrip("\"'“”‘’").rstrip().endswith(",")
    is_cut = shown.end() == len(text)
    if (is_cut and not has_comma_before) or (not is_cut and not _AFTER_LIST.match(text, shown.end())):
        raise _UnreadableError("the score may be part of the reasoning")
    try:
        document = json_repair.loads(text[text.index("{") :])
    except Exception as error:  # whatever a repair of broken text stumbles over is a failure of this text
        raise _UnreadableError(f"JSON beyond repair: {type(error).__name__}") from error
    scores = list(_scores_in(document))
    if len(scores) != 1 or scores[0] != [float(shown.group(1)), float(shown.group(2))]:
        raise _UnreadableError("the repaired JSON does not say what the text says")
    return scores[0], _reasoning_in(document)


def _from_lone_list(text: str) -> tuple[object, str] | None:
    """`[18, 21]`, alone or behind `score:`. Numbers anywhere else in the text make it a matter of opinion."""
    found = _LONE_LIST.fullmatch(text)
    if found is None or re.search(r"\d", (found["before"] or "") + found["after"]):
        return None
    if found["before"] is None and found["after"].strip():
        return None
    return [int(found.group(2)), int(found.group(3))], ""


def _loads(text: str) -> Any:
    return _DECODER.decode(text)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object; a key that is there twice makes it ambiguous."""
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key is there twice")
    return content


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)


def _embedded_objects(text: str) -> Iterator[tuple[object, int, int]]:
    """The outermost valid JSON objects that hold a score, each with its place (start, end) in the text."""
    position = text.find("{")
    while position >= 0:
        try:
            document, end = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError):
            end = position + 1
        else:
            if any(True for _ in _scores_in(document)):
                yield document, position, end
        position = text.find("{", end)


def _scores_in(document: object) -> Iterator[object]:
    """Every value under a key `score` (any case), at any depth; a loop, since the depth is the model's to choose."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for key, content in value.items():
                if isinstance(key, str) and key.strip().lower() == "score":
                    yield content
                waiting.append(content)
        elif isinstance(value, list):
            waiting.extend(value)


def _reasoning_in(document: object) -> str:
    """The text under `reasoning` beside the score, empty if there is none."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            named = {key.strip().lower(): content for key, content in value.items() if isinstance(key, str)}
            if isinstance(named.get("reasoning"), str):
                return str(named["reasoning"])
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return ""
