"""The scorer of this machine: one engine, one judge, one thread that owns both while there is work."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import msgspec

from editscore.data import load_sample
from editscore.judges import Judge
from editscore.scoring.arguments import check_judge, check_sample, check_samples, check_seed
from editscore.scoring.cache import ResultCache
from editscore.scoring.driver import Driver, JudgeRun, Outcome, PassCounts
from editscore.scoring.protocol import EngineLike, TracingEngine
from editscore.types import EditSample, EngineStats, Identity, InvalidInputError, Score, ScorerStats, Status

# Samples at work at once. With two questions and four passes these are 512 rows, and 64 pairs of images in memory.
MAX_ACTIVE = 64


@dataclass(eq=False, repr=False)
class _Job:
    """A sample on its way to a score. `sample` is resolved: both images are decoded."""

    sample: EditSample
    id: str
    passes: int
    seed: int
    future: Future[Score]
    is_cancelled: bool = False

    def __repr__(self) -> str:
        return repr(self.id)


class LocalScorer:
    """Scores with an engine in this process; see `Scorer` for the methods.

    Any thread may call it, several at once: their samples share the engine's batches. The engine runs in a thread that lives while
    there is work. `reload`, if given, makes a new engine of the same identity: then `sleep` can drop the old one.
    """

    def __init__(
        self,
        engine: EngineLike,
        judge: Judge,
        *,
        cache: ResultCache | None = None,
        seed: int = 42,
        max_active: int = MAX_ACTIVE,
        reload: Callable[[], EngineLike] | None = None,
    ) -> None:
        if max_active < 1:
            raise InvalidInputError("max_active", f"{max_active} is below 1")
        check_judge(judge)
        self._judge = judge
        self._cache = cache
        self._seed = check_seed(seed)
        self._max_active = max_active
        self._reload = reload
        self._engine: EngineLike | None = engine
        self._identity = Identity(**{**engine.identity(), "prompts": judge.prompts_digest})
        self._counts = PassCounts()
        self._changed = threading.Condition()  # guards what follows, and that the engine is counted once when it goes
        self._before = EngineStats()  # of engines that are gone
        self._inbox: deque[_Job] = deque()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._is_abandoned = False

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
        return self._submit(sample, sample.id or "0", passes, self._seed if seed is None else seed).future

    def identity(self) -> Identity:
        """Hashes of model, adapter, preprocessing, numerics, and of the judge with its whole configuration (`prompts`)."""
        return self._identity

    # What was done.

    def stats(self) -> ScorerStats:
        """What was computed since this scorer was made, across `sleep` and `wake`. For any thread, also while there is work."""
        with self._changed:
            spared = ScorerStats(num_cached_passes=self._counts.num_cached, num_joined_passes=self._counts.num_joined)
            return spared + self._before + (EngineStats() if self._engine is None else self._engine.stats)

    def record_trace(self) -> None:
        """From now on keep every phase of the engine's steps. Raises InvalidInputError when the engine is in another process."""
        self._tracing_engine().record_trace()

    def trace(self) -> dict[str, Any]:
        """The phases kept of the engine that is there now, in Chrome's trace event format."""
        return self._tracing_engine().trace()

    # Life.

    def sleep(self) -> None:
        """Finish what was submitted, then drop the engine if it can be made again, and close the cache. `wake` undoes it."""
        self._wait_until_idle()
        if self._reload is not None:
            self._drop_engine()
        if self._cache is not None:
            self._cache.close()

    def wake(self) -> None:
        """Make the engine that `sleep` dropped; RuntimeError when the new one is not the same model."""
        if self._engine is None and self._reload is not None:
            engine = self._reload()
            if Identity(**{**engine.identity(), "prompts": self._judge.prompts_digest}) != self._identity:
                raise RuntimeError("the model changed while the scorer slept: its weights, adapter, preprocessing or numerics differ")
            self._engine = engine

    def close(self) -> None:
        """Finish what was submitted and let go of the engine; the scorer cannot be used any more. After an error in a `with`
        block nothing is finished: what is under way is cancelled."""
        self._is_closed = True
        self._wait_until_idle()
        self._drop_engine()
        self._reload = None
        if self._cache is not None:
            self._cache.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._is_abandoned = kind is not None
        self.close()

    # Inside.

    def _check(self, passes: int, seed: int | None) -> None:
        if self._is_closed:
            raise RuntimeError("the scorer is closed")
        if self._engine is None:
            raise RuntimeError("the scorer is asleep: call wake() first")
        if passes < 1:
            raise InvalidInputError("passes", f"{passes} is below 1")
        if seed is not None:
            check_seed(seed)

    def _drop_engine(self) -> None:
        with self._changed:
            if self._engine is not None:
                self._before += self._engine.stats
            self._engine = None

    def _tracing_engine(self) -> TracingEngine:
        if not isinstance(self._engine, TracingEngine):
            raise InvalidInputError("profile", "a trace is of an engine in this process, and there is none")
        return self._engine

    def _iterate(self, samples: Iterator[EditSample], passes: int, seed: int) -> Iterator[tuple[int, Score]]:
        finished: queue.SimpleQueue[int] = queue.SimpleQueue()
        jobs: dict[int, _Job] = {}
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
                        jobs[place] = job = self._submit(sample, sample.id or str(place), passes, seed)
                        job.future.add_done_callback(_announce(finished, place))
                if not jobs:
                    return
                place = finished.get()
                yield place, jobs.pop(place).future.result()
        finally:
            for job in jobs.values():
                job.is_cancelled = True

    def _submit(self, sample: EditSample, name: str, passes: int, seed: int) -> _Job:
        job = _Job(sample, name, passes, seed, Future())
        try:
            job.sample = load_sample(sample)
        except Exception as error:
            job.future.set_result(self._failed(job, error))
            return job
        with self._changed:
            self._inbox.append(job)
            if self._thread is None:
                # Not a daemon: the interpreter waits for work that was submitted. The thread ends when there is none.
                self._thread = threading.Thread(target=self._work, name="editscore-engine")
                self._thread.start()
        return job

    def _wait_until_idle(self) -> None:
        with self._changed:
            thread = self._thread
            self._changed.wait_for(lambda: self._thread is None)
        if thread is not None:
            thread.join()  # it still holds the engine for a moment

    def _work(self) -> None:
        """The engine's thread: take jobs, step, deliver, until there is nothing left."""
        jobs: set[_Job] = set()
        try:
            assert self._engine is not None
            driver = Driver[_Job](self._engine, self._cache, self._counts)
            while True:
                for job in [job for job in jobs if job.is_cancelled or self._is_abandoned]:
                    driver.cancel(job)
                    jobs.discard(job)
                    job.future.set_exception(CancelledError())
                fresh = self._take(self._max_active - driver.num_active)
                jobs.update(fresh)
                for job in fresh:
                    driver.start(job, self._run(job))
                driver.step()
                for job, outcome in driver.finished:
                    jobs.discard(job)
                    self._deliver(job, outcome)
                driver.finished.clear()
                if not driver.num_active and self._is_done():
                    return
        except BaseException as error:
            self._fail_all(jobs, error)
            raise

    def _run(self, job: _Job) -> JudgeRun:
        """The judge's generator, wrapped so that what goes wrong in making it belongs to this sample too."""
        return (yield from self._judge.run(job.sample, num_passes=job.passes, seed=job.seed))

    def _take(self, count: int) -> list[_Job]:
        with self._changed:
            taken = [self._inbox.popleft() for _ in range(min(count, len(self._inbox)))]
        return [job for job in taken if not job.is_cancelled and job.future.set_running_or_notify_cancel()]

    def _is_done(self) -> bool:
        """True when the inbox is empty, and then the thread counts as ended: a later submit starts another."""
        with self._changed:
            if self._inbox:
                return False
            self._thread = None
            self._changed.notify_all()
            return True

    def _fail_all(self, jobs: set[_Job], error: BaseException) -> None:
        """The thread dies of a fault in this room: nobody may be left waiting."""
        with self._changed:
            left = [*jobs, *self._inbox]
            self._inbox.clear()
            self._thread = None
            self._changed.notify_all()
        for job in left:
            if not job.future.done():
                job.future.set_result(self._failed(job, error))

    def _deliver(self, job: _Job, outcome: Outcome) -> None:
        if not isinstance(outcome, Score):
            job.future.set_result(self._failed(job, outcome))
            return
        job.future.set_result(msgspec.structs.replace(outcome, id=job.id, identity=self._identity))

    def _failed(self, job: _Job, error: BaseException) -> Score:
        is_input = isinstance(error, InvalidInputError)
        return Score(
            id=job.id,
            status=Status.INVALID_INPUT if is_input else Status.ERROR,
            message=str(error) if is_input else f"{type(error).__name__}: {error}",
            judge=self._judge.name,
            identity=self._identity,
            seed=job.seed,
        )


def _announce(finished: queue.SimpleQueue[int], place: int) -> Callable[[Future[Score]], None]:
    return lambda _: finished.put(place)
