"""The thread of an engine: it takes samples, runs a judge on each, steps, delivers, and ends when there is nothing left."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass

import msgspec

from editscore.data import load_sample
from editscore.judges import Judge
from editscore.scoring.cache import ResultCache
from editscore.scoring.driver import Driver, JudgeRun, Outcome, PassCounts
from editscore.scoring.protocol import EngineLike
from editscore.types import EditSample, Identity, InvalidInputError, Score, Status


@dataclass(eq=False, repr=False)
class Job:
    """A sample on its way to a score. `sample` is resolved: both images are decoded."""

    sample: EditSample
    id: str
    passes: int
    seed: int
    future: Future[Score]
    is_cancelled: bool = False

    def __repr__(self) -> str:
        return repr(self.id)


class EngineThread:
    """Owns an engine while there is work; any thread may submit. `is_abandoned` cancels all that is under way."""

    def __init__(
        self, engine: EngineLike, judge: Judge, cache: ResultCache | None, counts: PassCounts, identity: Identity, max_active: int
    ) -> None:
        self._engine: EngineLike | None = engine
        self._judge = judge
        self._cache = cache
        self._counts = counts
        self._identity = identity
        self._max_active = max_active
        self.is_abandoned = False
        self._changed = threading.Condition()  # guards what follows
        self._inbox: deque[Job] = deque()
        self._thread: threading.Thread | None = None

    def submit(self, sample: EditSample, name: str, passes: int, seed: int) -> Job:
        """Decode the sample's images here, in the caller's thread, and leave the rest to the engine's."""
        job = Job(sample, name, passes, seed, Future())
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

    def wait_until_idle(self) -> None:
        """Come back when all that was submitted is finished, and the thread has let go of the engine."""
        with self._changed:
            thread = self._thread
            self._changed.wait_for(lambda: self._thread is None)
        if thread is not None:
            thread.join()  # it still holds the engine for a moment

    def drop_engine(self) -> None:
        """Let go of the engine for good, once idle."""
        self._engine = None

    # In the thread.

    def _work(self) -> None:
        jobs: set[Job] = set()
        try:
            assert self._engine is not None
            driver = Driver[Job](self._engine, self._cache, self._counts)
            while True:
                for job in [job for job in jobs if job.is_cancelled or self.is_abandoned]:
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

    def _run(self, job: Job) -> JudgeRun:
        """The judge's generator, wrapped so that what goes wrong in making it belongs to this sample too."""
        return (yield from self._judge.run(job.sample, num_passes=job.passes, seed=job.seed))

    def _take(self, count: int) -> list[Job]:
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

    def _fail_all(self, jobs: set[Job], error: BaseException) -> None:
        """The thread dies of a fault in this room: nobody may be left waiting."""
        with self._changed:
            left = [*jobs, *self._inbox]
            self._inbox.clear()
            self._thread = None
            self._changed.notify_all()
        for job in left:
            if not job.future.done():
                job.future.set_result(self._failed(job, error))

    def _deliver(self, job: Job, outcome: Outcome) -> None:
        if not isinstance(outcome, Score):
            job.future.set_result(self._failed(job, outcome))
            return
        job.future.set_result(msgspec.structs.replace(outcome, id=job.id, identity=self._identity))

    def _failed(self, job: Job, error: BaseException) -> Score:
        is_input = isinstance(error, InvalidInputError)
        return Score(
            id=job.id,
            status=Status.INVALID_INPUT if is_input else Status.ERROR,
            message=str(error) if is_input else f"{type(error).__name__}: {error}",
            judge=self._judge.name,
            identity=self._identity,
            seed=job.seed,
        )
