"""An engine without a model: scripted, deterministic answers that finish out of order, and faults on demand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from editscore.types import Completion, EditSample, EngineStats, FinishReason, Image, Request, Slot, Status, TextPart

IDENTITY = {"model": "m" * 64, "adapter": "", "preprocessing": "p" * 64, "numerics": "n" * 64}
Answer = Callable[[Request, int], Completion]


def image(seed: int, width: int = 2, height: int = 2) -> Image:
    """Random pixels."""
    return Image(width, height, np.random.default_rng(seed).integers(0, 256, width * height * 3, dtype=np.uint8).tobytes())


def samples(count: int, first: int = 0) -> list[EditSample]:
    """Different edits."""
    return [EditSample(image(2 * i), image(2 * i + 1), f"edit number {i}") for i in range(first, first + count)]


def instruction_of(request: Request) -> str:
    """All of a request's text."""
    return "".join(p.text for m in request.messages for p in m.parts if isinstance(p, TextPart))


def pair_of(request: Request, index: int) -> tuple[int, int]:
    """The scripted pair: a hash of the request's content and the pass."""
    raw = hashlib.sha256(f"{request.digest}:{index}".encode()).digest()
    return raw[0] % 26, raw[1] % 26


def scripted(request: Request, index: int) -> Completion:
    """A good answer."""
    pair = pair_of(request, index)
    text = json.dumps({"reasoning": f"pass {index}", "score": list(pair)})
    return Completion(index, text, FinishReason.STOP, {"first": Slot(str(pair[0])), "second": Slot(str(pair[1]))})


def infrastructure_failure(index: int) -> Completion:
    """A pass that the machine lost."""
    return Completion(index, "", FinishReason.FAILED, status=Status.ERROR, message="a card fell off the bus")


class FakeEngine:
    """Delivers a few passes per step, later requests and passes first, so that nothing arrives in the order of asking.

    `answer` scripts the completions. `breaks(request)` true makes every step raise while such a request is in flight.
    """

    def __init__(self, answer: Answer = scripted, identity: dict[str, str] | None = None, per_step: int = 3) -> None:
        self.answer = answer
        self.hashes = {**IDENTITY, **(identity or {})}
        self.per_step = per_step
        self.breaks: Callable[[Request], bool] = lambda request: False
        self.refuses: Callable[[Request], bool] = lambda request: False
        self.added: list[Request] = []
        self.cancelled: list[int] = []
        self.num_steps = 0
        self.most_in_flight = 0
        self.num_finished = 0
        self.is_asleep = False
        self._open: dict[int, tuple[Request, list[int]]] = {}

    def add(self, request: Request) -> int:
        assert not self.is_asleep
        if self.refuses(request):
            raise MemoryError("no room for this one")
        number = len(self.added)
        self.added.append(request)
        self._open[number] = (request, list(range(request.first_pass, request.first_pass + request.num_passes)))
        self.most_in_flight = max(self.most_in_flight, len(self._open))
        return number

    def step(self) -> list[tuple[int, Completion]]:
        self.num_steps += 1
        if any(self.breaks(request) for request, _ in self._open.values()):
            raise RuntimeError("the model stumbled")
        done: list[tuple[int, Completion]] = []
        for number in sorted(self._open, reverse=True):
            request, passes = self._open[number]
            while passes and len(done) < self.per_step:
                index = passes.pop()
                done.append((number, self.answer(request, index)))
            if not passes:
                del self._open[number]
        self.num_finished += len(done)
        return done

    def cancel(self, job_id: int) -> None:
        self.cancelled.append(job_id)
        self._open.pop(job_id, None)

    def sleep(self) -> None:
        assert not self._open
        self.is_asleep = True

    def wake(self) -> None:
        self.is_asleep = False

    def identity(self) -> dict[str, str]:
        return dict(self.hashes)

    @property
    def stats(self) -> EngineStats:
        counts = {"num_requests": len(self.added), "num_steps": self.num_steps, "num_finished_passes": self.num_finished}
        return EngineStats(**counts, attention="fake", seconds={"decode": 0.5})

    @property
    def passes_asked(self) -> list[Any]:
        """(digest, pass) of all that was asked for."""
        return [(r.digest, i) for r in self.added for i in range(r.first_pass, r.first_pass + r.num_passes)]
