"""An interrupt at any line of the engine's books: what was added before is delivered once, with the same answers, and no memory is lost."""

from __future__ import annotations

import linecache
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from edit_requests import edit_request

from editscore import engine as engine_room
from editscore.engine import Engine, EngineConfig
from editscore.models.vlm import VisionLanguageModel
from editscore.types import Completion, Request, Text

CONFIG = EngineConfig(kv_memory_mb=1, max_rows=3)  # some wait, with their images prepared ahead
# Who keeps books from call to call; the others make everything anew.
NAMES = ("engine", "residents", "images", "tables", "prefixes", "stats")
BOOKS = {str(Path(engine_room.__file__).with_name(f"{name}.py")) for name in NAMES}
Place = tuple[str, int]


def asked(index: int, num_passes: int = 2) -> Request:
    return edit_request(index, answer=(Text(3),), num_passes=num_passes)


@contextmanager
def at_every_line(act: Callable[[Place], None]) -> Iterator[None]:
    """Calls `act` with file and line before every line that the books run."""

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in BOOKS:
            return None
        if event == "line":
            act((frame.f_code.co_filename, frame.f_lineno))
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)


def is_handed_over(place: Place) -> bool:
    """The very return of `step`: whether its caller got what it returns cannot be known."""
    return linecache.getline(*place).strip() == "return ready"


def work(engine: Engine, delivered: list[tuple[int, Completion]]) -> None:
    """All that a user does beside the request that was added before."""
    engine.generate([asked(1), asked(2)])
    delivered += engine.step()
    running, waiting = engine.add(asked(3, num_passes=3)), engine.add(asked(6))
    delivered += engine.step()
    engine.cancel(waiting)
    engine.cancel(running)
    delivered += engine.step()


def play(model: VisionLanguageModel, act: Callable[[Place], None]) -> tuple[Engine, list[tuple[int, Completion]]]:
    """The engine at rest after work that may have been interrupted, and what it delivered."""
    engine = Engine(model, CONFIG)
    delivered: list[tuple[int, Completion]] = []
    with suppress(KeyboardInterrupt):
        engine.add(asked(4))
        with at_every_line(act):
            work(engine, delivered)
    for _ in range(100):
        if not engine.num_unfinished:
            return engine, delivered
        delivered += engine.step()
    raise AssertionError("the engine never comes to rest")


@pytest.mark.parametrize("times", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_an_interrupt_at_any_line_loses_nothing(qwen2_5: VisionLanguageModel, times: int) -> None:
    """Every line, at up to so many of the times that it runs."""
    lines: list[Place] = []
    engine, delivered = play(qwen2_5, lines.append)
    (expected, again) = (Engine(qwen2_5, CONFIG).generate([asked(i)]) for i in (4, 5))
    assert [completion for job_id, completion in delivered if job_id == 0] == expected
    assert {job_id for job_id, _ in delivered} == {0, 3, 4}, "what `generate` asked for is its own"
    rng, runs = random.Random(0), dict[Place, list[int]]()
    for number, place in enumerate(lines):
        runs.setdefault(place, []).append(number)
    assert len(runs) > 150, "the books have that many lines"
    for number in (number for each in runs.values() for number in rng.sample(each, min(times, len(each)))):
        if is_handed_over(lines[number]):
            continue
        count = iter(range(number + 1, -1, -1))

        def interrupt(_: Place, count: Iterator[int] = count) -> None:
            if next(count, -1) == 1:
                raise KeyboardInterrupt

        engine, delivered = play(qwen2_5, interrupt)
        where = f"interrupted at {lines[number]}"
        found = sorted((completion for job_id, completion in delivered if job_id == 0), key=lambda c: c.pass_index)
        assert found == expected, where
        assert len({(job_id, completion.pass_index) for job_id, completion in delivered}) == len(delivered), f"twice: {where}"
        assert engine._runner.store.num_free == engine._runner.num_pages - 1, where
        assert not engine._residents.leaves and not engine._residents.rows and not engine._residents.waiting, where
        images = engine._runner.images
        assert not images._prepared, where
        assert images._num_bytes == sum(features.num_bytes for features in images._features.values()), where
        assert not engine._stats._open, f"no phase is open: {where}"
        assert engine.generate([asked(5)]) == again, where
