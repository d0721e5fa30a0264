"""The scorer of this machine: one engine, one judge, one thread that owns both while there is work."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from editscore.judges import Judge
from editscore.scoring.arguments import check_judge, check_sample, check_samples, check_seed
from editscore.scoring.cache import ResultCache
from editscore.scoring.driver import PassCounts
from editscore.scoring.engine_thread import EngineThread, Job
from editscore.scoring.protocol import EngineLike, tracing
from editscore.types import EditSample, EngineStats, Identity, InvalidInputError, Score, ScorerStats

# Samples at work at once. With two questions and four passes these are 512 rows, and 64 pairs of images in memory.
MAX_ACTIVE = 64


class LocalScorer:
    """Scores with an engine in this process; see `Scorer` for the methods.

    Any thread may call it, several at once: their samples share the engine's batches. The engine runs in a thread that lives while
    there is work.
    """

    def __init__(
        self, engine: EngineLike, judge: Judge, *, cache: ResultCache | None = None, seed: int = 42, max_active: int = MAX_ACTIVE
    ) -> None:
        if max_active < 1:
            raise InvalidInputError("max_active", f"{max_active} is below 1")
        check_judge(judge)
        self._judge = judge
        self._cache = cache
        self._seed = check_seed(seed)
        self._max_active = max_active
        self._identity = self._identity_of(engine)
        self._counts = PassCounts()
        self._thread = EngineThread(engine, judge, cache, self._counts, self._identity, max_active)
        self._leaving = threading.Lock()  # so that the engine is counted once when it goes
        self._engine: EngineLike | None = engine
        self._last_stats = EngineStats()  # of the engine that is gone
        self._is_asleep = False
        self._is_closed = False

    # Scoring.

    def score(self, samples: Sequence[EditSample], passes: int = 4, seed: int | None = None) -> list[Score]:
        """The scores in the order of the samples. Raises InvalidInputError for a wrong number of passes, a wrong seed,
        and for what is no list of EditSample."""
        found = dict(self.score_iter(samples, passes, seed))
        return [found[place] for place in range(len(found))]

    def score_iter(self, samples: Iterable[EditSample], passes: int = 4, seed: int | None = None) -> Iterator[tuple[int, Score]]:
        """(place of the sample, score) in the order in which they finish.

        Samples are taken from the iterable and their images decoded as they are needed, in the calling thread, a little ahead of
        the engine. Leaving the loop early cancels the rest.
        """
        self._check(passes, seed)
        check_samples(samples)
        return self._iterate(iter(samples), passes, self._seed if seed is None else seed)

    def submit(self, sample: EditSample, passes: int = 4, seed: int | None = None) -> Future[Score]:
        """Decode the sample's images here, leave the rest to the engine's thread. A bad sample is a score with that status."""
        self._check(passes, seed)
        return self._thread.submit(sample, sample.id or "0", passes, self._seed if seed is None else seed).future

    def identity(self) -> Identity:
        """Hashes of model, adapter, preprocessing, numerics, and of the judge with its whole configuration (`prompts`)."""
        return self._identity

    # What was done.

    def stats(self) -> ScorerStats:
        """What was computed since this scorer was made, across `sleep` and `wake`. For any thread, also while there is work."""
        with self._leaving:
            spared = ScorerStats(num_cached_passes=self._counts.num_cached, num_joined_passes=self._counts.num_joined)
            return spared + (self._last_stats if self._engine is None else self._engine.stats)

    def record_trace(self) -> None:
        """From now on keep every phase of the engine's steps. Raises InvalidInputError when the engine is in another process."""
        tracing(self._engine).record_trace()

    def trace(self) -> dict[str, Any]:
        """The phases kept of the engine that is there now, in Chrome's trace event format."""
        return tracing(self._engine).trace()

    # Life.

    def sleep(self) -> None:
        """Finish what was submitted, then let the engine sleep and close the cache. `wake` undoes it."""
        self._thread.wait_until_idle()
        if self._engine is not None:
            self._is_asleep = True
            self._engine.sleep()
        if self._cache is not None:
            self._cache.close()

    def wake(self) -> None:
        """Wake the engine; RuntimeError, and it sleeps on, when it is not the same model any more."""
        if not self._is_asleep or self._engine is None:
            return
        self._engine.wake()
        if self._identity_of(self._engine) != self._identity:
            self._engine.sleep()
            raise RuntimeError("the model changed while the scorer slept: its weights, adapter, preprocessing or numerics differ")
        self._is_asleep = False

    def close(self) -> None:
        """Finish what was submitted and let go of the engine; the scorer cannot be used any more. After an error in a `with`
        block nothing is finished: what is under way is cancelled."""
        self._is_closed = True
        self._thread.wait_until_idle()
        self._thread.drop_engine()
        with self._leaving:
            if self._engine is not None:
                self._last_stats = self._engine.stats
            self._engine = None
        if self._cache is not None:
            self._cache.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.is_abandoned = kind is not None
        self.close()

    # Inside.

    def _identity_of(self, engine: EngineLike) -> Identity:
        return Identity(**{**engine.identity(), "prompts": self._judge.prompts_digest})

    def _check(self, passes: int, seed: int | None) -> None:
        if self._is_closed:
            raise RuntimeError("the scorer is closed")
        if self._is_asleep:
            raise RuntimeError("the scorer is asleep: call wake() first")
        if passes < 1:
            raise InvalidInputError("passes", f"{passes} is below 1")
        if seed is not None:
            check_seed(seed)

    def _iterate(self, samples: Iterator[EditSample], passes: int, seed: int) -> Iterator[tuple[int, Score]]:
        finished: queue.SimpleQueue[int] = queue.SimpleQueue()
        jobs: dict[int, Job] = {}
        numbered = enumerate(samples)
        ahead = self._max_active + max(1, self._max_active // 4)
        has_more = True
        try:
            while True:
                while has_more and len(jobs) < ahead:
                    entry = next(numbered, None)
                    has_more = entry is not None
                    if entry is not None:
                        place, sample = entry
                        check_sample(sample)
                        jobs[place] = job = self._thread.submit(sample, sample.id or str(place), passes, seed)
                        job.future.add_done_callback(_announce(finished, place))
                if not jobs:
                    return
                place = finished.get()
                yield place, jobs.pop(place).future.result()
        finally:
            for job in jobs.values():
                job.is_cancelled = True


def _announce(finished: queue.SimpleQueue[int], place: int) -> Callable[[Future[Score]], None]:
    return lambda _: finished.put(place)
