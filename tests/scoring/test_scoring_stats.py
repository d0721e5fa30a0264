"""What a scorer counts, against what the test counts itself: requests as they went to the engine, the model's own renderer, the cache."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from fake_engine import FakeEngine, image, samples

from editscore.engine import Engine
from editscore.judges import JUDGES, PointwiseJudge
from editscore.models.vlm import load_model
from editscore.scoring import LocalScorer, ResultCache
from editscore.scoring.loading import read_settings
from editscore.scoring.protocol import EngineLike
from editscore.scoring.reloadable import ReloadableEngine
from editscore.types import Completion, EditSample, EngineStats, InvalidInputError, Literal, Request, ScorerStats

# Four sources with three candidates each; each candidate's PQ question shows it alone.
EDITS = [
    EditSample(image(i // 3, 84, 84), image(100 + i, 84, 84), f"make it {w}", f"e{i}") for i, w in enumerate(("red", "dark", "gray") * 4)
]


class Spied:
    """An engine whose requests and answers are written down on their way."""

    def __init__(self, engine: EngineLike) -> None:
        self.engine = engine
        self.requests: list[Request] = []
        self.answers: list[Completion] = []

    def add(self, request: Request) -> int:
        self.requests.append(request)
        return self.engine.add(request)

    def step(self) -> list[tuple[int, Completion]]:
        delivered = self.engine.step()
        self.answers.extend(completion for _, completion in delivered)
        return delivered

    def cancel(self, job_id: int, /) -> object:
        return self.engine.cancel(job_id)

    def identity(self) -> Mapping[str, str]:
        return self.engine.identity()

    @property
    def stats(self) -> EngineStats:
        return self.engine.stats


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    torch.set_num_threads(1)
    yield Engine(load_model("nano"))


def nano(engine: EngineLike, **options: Any) -> LocalScorer:
    settings = {key: value for key, value in read_settings("nano", None).items() if key not in ("judge", "pixels")}
    return LocalScorer(engine, JUDGES["pointwise"](settings), **options)


def test_counters_are_those_that_the_requests_imply(engine: Engine) -> None:
    spied = Spied(engine)
    with nano(spied) as scorer:
        scorer.score(EDITS, passes=3)
        stats = scorer.stats()
    model = engine.model
    assert len(spied.requests) == 2 * len(EDITS), "no answer was asked for twice"
    first = spied.requests[0].answer[0]
    assert isinstance(first, Literal)
    opening = tokenizers.Tokenizer.from_str(model.chat.tokenizer_json).encode(first.text, add_special_tokens=False).ids
    prompts = [tuple(model.render(request.messages, request.images).tokens) for request in spied.requests]
    assert stats.num_requests == len(spied.requests)
    assert stats.num_prompt_tokens == sum(len(prompt) + len(opening) for prompt in prompts)
    assert stats.num_images == sum(len(request.images) for request in spied.requests) == 3 * len(EDITS)
    assert stats.num_encoded_images == len({picture.digest for request in spied.requests for picture in request.images}) == 4 + 12
    assert stats.num_finished_passes == stats.num_passes == len(spied.answers) == 2 * 3 * len(EDITS)
    assert stats.num_sampled_tokens == sum(answer.num_sampled_tokens for answer in spied.answers)
    longest = max(len(prompt) + len(opening) for prompt in prompts)
    assert longest <= stats.num_prefilled_tokens <= stats.num_prompt_tokens
    assert stats.num_reused_tokens == stats.num_prompt_tokens - stats.num_prefilled_tokens
    assert stats.attention and stats.seconds["decode"] > 0


def test_the_cache_spares_the_engine_and_is_counted(engine: Engine, tmp_path: Path) -> None:
    before = engine.stats
    with nano(engine, cache=ResultCache(tmp_path)) as scorer:
        scorer.score(EDITS[:4], passes=2)
        cold = scorer.stats()
    with nano(engine, cache=ResultCache(tmp_path)) as scorer:
        scorer.score(EDITS[:4], passes=2)
        warm = scorer.stats()
        scorer.score(EDITS[:4], passes=3)
        more = scorer.stats()
    assert (cold.num_cached_passes, cold.num_finished_passes - before.num_finished_passes) == (0, 16)
    assert (warm.num_cached_passes, warm.num_sampled_tokens) == (16, cold.num_sampled_tokens), "nothing was generated"
    assert (more.num_cached_passes, more.num_finished_passes - warm.num_finished_passes) == (32, 8)


class HeldEngine(FakeEngine):
    """Answers when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.num_held = 0

    def step(self) -> list[tuple[int, Completion]]:
        assert self.go.wait(30)
        self.num_held += 1
        return super().step() if self.num_held > 3 else []


def test_equal_questions_are_counted_apart() -> None:
    engine = HeldEngine()
    one = samples(1)[0]

    def edits() -> Iterator[EditSample]:
        yield from (one, one, EditSample(image(50), one.edited, "another source, the same edited image"))
        engine.go.set()

    with LocalScorer(engine, PointwiseJudge()) as scorer:
        list(scorer.score_iter(edits(), passes=3))
        stats = scorer.stats()
    assert (stats.num_finished_passes, stats.num_joined_passes, stats.num_passes) == (3 * 3, 3 * 3, 3 * 2 * 3)


def test_counting_goes_on_after_sleep_and_close() -> None:
    scorer = LocalScorer(ReloadableEngine(FakeEngine), PointwiseJudge())
    counted = []
    for _ in range(3):
        scorer.score(samples(4), passes=2)
        counted.append(scorer.stats())
        scorer.sleep()
        assert scorer.stats() == counted[-1]
        scorer.wake()
    scorer.close()
    assert [stats.num_finished_passes for stats in counted] == [16, 32, 48]
    assert counted[-1].seconds == {"decode": 1.5} and counted[-1].attention == "fake", "each fake engine says half a second"
    assert scorer.stats().num_finished_passes == 48


def test_snapshots_may_be_taken_while_there_is_work(engine: Engine) -> None:
    """From three threads: never an error, no counter ever falls, and the last one is whole."""
    names = ("num_requests", "num_prompt_tokens", "num_prefilled_tokens", "num_encoded_images", "num_steps", "num_sampled_tokens")
    seen: list[list[ScorerStats]] = [[], [], []]
    faults: list[BaseException] = []
    ended = threading.Event()

    def watch(mine: list[ScorerStats]) -> None:
        try:
            while not ended.is_set():
                mine.append(scorer.stats())
        except BaseException as error:
            faults.append(error)

    before = engine.stats
    with nano(engine) as scorer:
        expected = scorer.score(EDITS, passes=2)
        threads = [threading.Thread(target=watch, args=(mine,)) for mine in seen]
        for thread in threads:
            thread.start()
        scores = scorer.score(EDITS, passes=2)
        ended.set()
        for thread in threads:
            thread.join()
        after = scorer.stats()
    assert not faults and scores == expected
    assert after.num_finished_passes - before.num_finished_passes == 2 * 2 * 2 * len(EDITS)
    for mine in seen:
        assert len({stats.num_steps for stats in mine}) > 2, "some were taken in the middle"
        for name in names:
            values = [getattr(stats, name) for stats in mine]
            assert values == sorted(values) and values[-1] <= getattr(after, name)


def test_a_trace_needs_an_engine_that_keeps_one() -> None:
    with LocalScorer(FakeEngine(), PointwiseJudge()) as scorer, pytest.raises(InvalidInputError, match="profile: "):
        scorer.record_trace()
