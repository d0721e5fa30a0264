"""Images that are prepared ahead in threads: whose they are, when they go, and what they may take."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable

import pytest
from edit_requests import noise

from editscore.engine import Engine, EngineConfig
from editscore.models.vlm import PreparedImage, VisionLanguageModel
from editscore.models.vlm.images import PixelRule
from editscore.types import Completion, FinishReason, Image, ImagePart, Message, Request, Text, TextPart

RUNNING, SOURCE, FIRST, SECOND, THIRD = (noise(56, 56, i) for i in range(5))


def asked(*images: Image, words: str = "red") -> Request:
    return Request((Message("user", (TextPart(words), *map(ImagePart, images))),), (Text(40, on_limit="close"),))


class Watch:
    """Every image that is prepared: in which kind of thread, and whether somebody still holds what came of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, bool]] = []
        self.problem: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self._results: dict[str, weakref.ref[PreparedImage]] = {}
        prepare = PixelRule.prepare

        def watched(rule: PixelRule, image: Image) -> PreparedImage:
            self.calls.append((image.digest, threading.current_thread().name.startswith("editscore-images")))
            assert self.gate.wait(30)
            if self.problem is not None:
                raise self.problem
            prepared = prepare(rule, image)
            self._results[image.digest] = weakref.ref(prepared)
            return prepared

        monkeypatch.setattr(PixelRule, "prepare", watched)

    def is_held(self, image: Image) -> bool:
        """Whether what was prepared of an image is still in memory."""
        gc.collect()
        return image.digest in self._results and self._results[image.digest]() is not None

    def was_ahead(self, image: Image) -> bool:
        """Whether a thread prepared it."""
        return (image.digest, True) in self.calls


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def rest(engine: Engine) -> dict[int, Completion]:
    delivered: dict[int, Completion] = {}
    while engine.num_unfinished:
        delivered |= dict(engine.step())
    return delivered


def test_a_cancelled_request_takes_its_prepared_images_along(qwen2_5: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = Engine(qwen2_5, EngineConfig(kv_memory_mb=8)).generate([asked(SOURCE, SECOND)])
    watch = Watch(monkeypatch)
    engine = Engine(qwen2_5, EngineConfig(kv_memory_mb=8, max_rows=1))
    engine.add(asked(RUNNING))
    dropped, twin, kept = engine.add(asked(SOURCE, FIRST)), engine.add(asked(SOURCE, FIRST)), engine.add(asked(SOURCE, SECOND))
    engine.step()
    until(lambda: all(map(watch.is_held, (SOURCE, FIRST, SECOND))))
    engine.cancel(dropped)
    assert all(map(watch.is_held, (SOURCE, FIRST, SECOND))), "the same question is asked by another request"
    engine.cancel(twin)
    until(lambda: not watch.is_held(FIRST))
    assert watch.is_held(SOURCE) and watch.is_held(SECOND), "another request shows them"
    delivered = rest(engine)
    assert delivered[dropped].finish_reason is delivered[twin].finish_reason is FinishReason.CANCELLED
    assert delivered[kept] == alone[0]
    assert [digest for digest, _ in watch.calls].count(SOURCE.digest) == 1
    assert not any(map(watch.is_held, (RUNNING, SOURCE, FIRST, SECOND)))


def test_what_is_not_held_any_more_makes_room_for_others(qwen2_5: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of these images fill the budget."""
    images = [noise(196, 196, i) for i in range(8)]
    num_bytes = qwen2_5.pixel_rule.prepare(images[0]).patches.nbytes
    assert 3 * num_bytes < 2**20 < 4 * num_bytes
    watch = Watch(monkeypatch)
    engine = Engine(qwen2_5, EngineConfig(kv_memory_mb=8, max_rows=1, image_cache_mb=1))

    watch.problem = MemoryError("no memory for pixels")
    with pytest.raises(MemoryError, match="no memory for pixels"):
        engine.generate([asked(*images[:3])])
    watch.problem = None

    engine.add(asked(RUNNING))
    first, second = engine.add(asked(*images[3:6])), engine.add(asked(images[6]))
    engine.step()
    until(lambda: all(map(watch.was_ahead, images[3:6])))
    engine.step()
    assert not watch.was_ahead(images[6]), "there is no room for a fourth one"
    engine.cancel(first)
    engine.step()
    until(lambda: watch.was_ahead(images[6]))
    assert rest(engine)[second].was_closed


def test_what_nobody_wants_is_not_prepared_any_more(qwen2_5: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads are busy with the first images of a request when it is cancelled: the others are left alone."""
    images, last = [noise(56, 56, i) for i in range(20)], noise(56, 56, 20)
    watch = Watch(monkeypatch)
    engine = Engine(qwen2_5, EngineConfig(kv_memory_mb=8, max_rows=1))
    engine.add(asked())
    dropped = engine.add(asked(*images))
    watch.gate.clear()
    engine.step()
    until(lambda: bool(watch.calls))
    engine.cancel(dropped)
    engine.add(asked(last))
    engine.step()
    watch.gate.set()
    until(lambda: watch.was_ahead(last))
    assert len(watch.calls) < len(images)
