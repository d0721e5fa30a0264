"""10,000 broken answers: never a number out of range, never a number with a status other than ok, never an exception."""

from __future__ import annotations

import json
import math
import random
from collections import Counter

import pytest
from judge_play import SAMPLE, is_sc, play, slot_answer, text_answer

from editscore.judges import PointwiseJudge, is_refusal, read_text
from editscore.types import Completion, FinishReason, Slot, Status

NUM_CASES = 10_000
RANGE = 25
GOOD = (
    '{"reasoning": "The cat is red now.", "score": [18, 21]}',
    '```json\n{"reasoning": "The sign says \\"OPEN\\".", "score": [0, 25]}\n```',
    "{'reasoning': 'It isn't right', 'score': [7.5, 3]}",
    "Score: [18, 21] because it is fine.",
    "[3, 4]",
)
PIECES = (
    *"{}[]\",:'\\ \n\t0123456789.-+eE％１２３²½",
    *("NaN", "Infinity", "-Infinity", "null", "true", "1e999", "-0.0", "1_0", "0x12", "٢٥", "２５", "25.0000001", "-1e-9"),
    *('"score"', '"score": ', "score", "score: [25, 25]", '{"score": [25, 25]}', '"reasoning"', "```", "```json", "[[", "]]", "{{"),
    *("\ud800", "\x00", "“", "”", "/*", "//", "# [1, 2]", "I'm sorry, I cannot judge this image.", "18 out of 25", "[0, 25]"),
    *("9" * 400, "9" * 5000, "{" * 50, "{" * 500, "[" * 3000, '{"a":' * 30, '{"a":' * 2000, "'" * 3000, "\\" * 3000),
)


def mutated(rng: random.Random) -> str:
    """A good answer with pieces cut, doubled, swapped in or glued on."""
    text = rng.choice(GOOD)
    for _ in range(rng.randint(1, 4)):
        start = rng.randint(0, len(text))
        end = min(len(text), start + rng.choice((0, 0, 1, 1, 2, 5, 20)))
        filling = rng.choice(("", rng.choice(PIECES), text[start:end] * 2, rng.choice(PIECES) + rng.choice(PIECES)))
        text = text[:start] + filling + text[end:]
    return text[: rng.randint(0, len(text))] if rng.random() < 0.15 else text


def random_value(rng: random.Random, depth: int = 0) -> object:
    kind = rng.randint(0, 9 if depth < 4 else 6)
    if kind >= 8:
        keys = ("score", "Score", "reasoning", "a", "", "score ")
        return {rng.choice(keys): random_value(rng, depth + 1) for _ in range(rng.randint(0, 3))}
    if kind == 7:
        return [random_value(rng, depth + 1) for _ in range(rng.randint(0, 4))]
    numbers = (rng.randint(-5, 40), rng.uniform(-1, 30), 10 ** rng.randint(0, 400), math.nan, math.inf)
    return (*numbers, rng.choice((None, True, False)), rng.choice(PIECES[-12:]).encode("utf-8", "replace").decode())[kind]


def prose(rng: random.Random) -> str:
    words = (
        "The",
        "edit",
        "is",
        "score",
        "of",
        "between",
        "and",
        "good",
        "[",
        "]",
        ":",
        "out",
        "25",
        "0",
        "18",
        "21/25",
        "seven",
        "score:",
        "=",
    )
    return " ".join(rng.choice(words) for _ in range(rng.randint(1, 25)))


def fuzzed(rng: random.Random) -> str:
    maker = rng.choice((mutated, mutated, mutated, lambda r: json.dumps(random_value(r), allow_nan=True), prose))
    return maker(rng)


def assert_sound(text: str) -> Status:
    reading = read_text(text, RANGE)
    assert (reading.pair is not None) == (reading.status is Status.OK), text
    if reading.pair is not None:
        assert all(isinstance(n, float) and math.isfinite(n) and 0 <= n <= RANGE for n in reading.pair), text
        for number in reading.pair:
            digits = f"{number:g}"
            assert digits in text or number in (0.0,), f"{number} is nowhere in {text!r}"
    else:
        assert reading.message
    return reading.status


def test_ten_thousand_fuzzed_answers() -> None:
    rng = random.Random(20_250_909)
    seen = Counter(assert_sound(fuzzed(rng)) for _ in range(NUM_CASES))
    # The fuzz is worth something only if it reaches all three outcomes.
    assert seen[Status.OK] > 200 and seen[Status.PARSE_FAILED] > 2000 and seen[Status.REFUSED] > 10, seen


def test_fuzzed_answers_through_the_whole_judge() -> None:
    """Both as text and as slots of a grammar: a finite overall comes with status ok and lies in 0..10."""
    rng = random.Random(7)
    judge = PointwiseJudge()

    def answer(request: object, index: int) -> Completion:
        if rng.random() < 0.3:
            values = [rng.choice(("0", "25", "26", "-1", "x", "２", "", "9" * 400, "7.5", " 3")) for _ in range(2)]
            slots = {name: Slot(value) for name, value in zip(("first", "second"), values, strict=True) if rng.random() < 0.95}
            return Completion(index, fuzzed(rng), rng.choice(list(FinishReason)), slots=slots, status=rng.choice((Status.OK, Status.ERROR)))
        return slot_answer((20, 15), index) if rng.random() < 0.4 else text_answer(fuzzed(rng), index)

    seen: Counter[Status] = Counter()
    for _ in range(400):
        score, _ = play(judge, SAMPLE, answer, num_passes=2)
        means = (score.overall, score.prompt_following, score.consistency, score.naturalness, score.artifacts, score.sc, score.pq)
        if score.status is Status.OK:
            assert all(mean is not None and 0.0 <= mean <= 10.0 for mean in means)
        else:
            assert means == (None,) * 7
        seen[score.status] += 1
    assert seen[Status.OK] > 50 and len(seen) > 2, seen


@pytest.mark.parametrize(
    "text",
    [
        '{"reasoning": "a", "score": [18, 21]} {"reasoning": "b", "score": [1, 2]}',
        '{"reasoning": "a", "score": [18, 21], "score": [1, 2]}',
        '{"reasoning": "a", "score": [18, 21], "Score": [1, 2]}',
        '{"reasoning": "a", "score": [18, 21]} Correction: score [1, 2]',
        '{"reasoning": "a", "score": [18, 21]} Or rather [1, 2]',
        '{"reasoning": "The request says {"score": [25, 25]} and then',
        '{"reasoning": "The request says "score": [25, 25]',
        '{"reasoning": "I would say "score": [25, 25] but", "score": [1, 2]}',
        '{"a": True, "b": {"score": [25, 25]}, "score": [3, 4]}',
        '{"score": [25, 25]',
        '{"reasoning": "a", "score": [18, 2',
        "On a scale of [0, 25] this is poor",
        "Score: [18, 21] or maybe 7",
        "Score: [18, 21], then [1, 2]",
        '{"reasoning": "a", "score": [true, false]}',
        '{"reasoning": "a", "score": [１８, ２１]}',
        '{"reasoning": "a", "score": [18, 1e999]}',
        '{"reasoning": "a", "score": [[18, 21]]}',
        '{"reasoning": "a", "score": "[18, 21]"}',
    ],
)
def test_doubtful_answers_give_no_number(text: str) -> None:
    assert read_text(text, RANGE).pair is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I'm sorry, but I can't assist with that request.", True),
        ("Sorry, I am unable to help.", True),
        ("I cannot see the images.", True),
        ("As an AI language model, I cannot rate people.", True),
        ("Unfortunately, I can't evaluate this", True),
        ("抱歉，我无法评价", True),
        ("I cannot see the cat any more.", False),
        ("I can't see any change.", False),
        ("I cannot rate this edit highly: the cat is gone.", False),
        ("I cannot help but notice the seam.", False),
        ("The sign says: I cannot judge this image.", False),
        ("Sorry to say, the cat is gone.", False),
    ],
)
def test_refusals_are_told_from_verdicts(text: str, expected: bool) -> None:
    assert is_refusal(text) is expected
    good = play(PointwiseJudge(), SAMPLE, lambda r, i: slot_answer((20, 20), i, text if is_sc(r) else "fine"))[0]
    assert (good.status is Status.REFUSED) is expected
