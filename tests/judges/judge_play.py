"""Plays the engine for a judge under test: answers by a function of (request, pass)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from editscore.judges import Judge
from editscore.types import Choice, Completion, EditSample, FinishReason, Image, Request, Score, Slot

RED = Image(2, 1, bytes([255, 0, 0] * 2))
BLUE = Image(2, 1, bytes([0, 0, 255] * 2))
WIDE = Image(3, 1, bytes([0, 0, 255] * 3))
SAMPLE = EditSample(RED, BLUE, "make the image blue", "one")

Answer = Callable[[Request, int], Completion]


def is_sc(request: Request) -> bool:
    """Whether a request is the question that sees both images."""
    return len(request.images) == 2


def text_answer(text: str, index: int, **changes: Any) -> Completion:
    """A free text."""
    return Completion(index, text, FinishReason.STOP, **changes)


def slot_answer(pair: tuple[int, int], index: int, reasoning: str = "because", **changes: Any) -> Completion:
    """What an engine makes of the judge's grammar."""
    text = json.dumps({"reasoning": reasoning, "score": list(pair)})
    slots = {"first": Slot(str(pair[0])), "second": Slot(str(pair[1]))}
    return Completion(index, text, FinishReason.STOP, slots=slots, **changes)


def play(judge: Judge, sample: EditSample, answer: Answer, num_passes: int = 1, seed: int = 42) -> tuple[Score, list[list[Request]]]:
    """Run a judge to its end: its score and the requests of every round."""
    run = judge.run(sample, num_passes=num_passes, seed=seed)
    rounds = [next(run)]
    while True:
        passes = [(r, i) for r in rounds[-1] for i in range(r.first_pass, r.first_pass + r.num_passes)]
        try:
            rounds.append(run.send([answer(request, index) for request, index in passes]))
        except StopIteration as stop:
            return stop.value, rounds


def choices(request: Request) -> list[Choice]:
    """The choices of a request's answer."""
    return [part for part in request.answer if isinstance(part, Choice)]
