"""Several devices as one engine: a process for each, and a scorer that drives its judges over all of them.

Only the engines run elsewhere. Judges, their retries and the result cache stay in the scorer's process, so there is one code path
from a sample to its score, any judge will do, and a request that its process could not finish is asked again of another.
"""

from __future__ import annotations

import logging
import queue
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

from editscore.judges import Judge
from editscore.scoring.cache import ResultCache
from editscore.scoring.engines import DEVICE_JOINT, EngineSpec
from editscore.scoring.local import MAX_ACTIVE, LocalScorer
from editscore.scoring.process import COMMAND, EngineProcess, Event, share_of_cores
from editscore.scoring.routing import choose
from editscore.scoring.wire import (
    Answers,
    Ask,
    Asleep,
    Cancel,
    FromEngine,
    Lost,
    Picture,
    Ready,
    Refused,
    Sleep,
    Start,
    Stumbled,
    Wake,
    encode,
)
from editscore.types import Completion, EngineStats, FinishReason, InvalidInputError, Request, Status

# A step waits this long for an answer, so that new samples and cancelled ones are seen.
STEP_S = 0.02

_log = logging.getLogger(__name__)


class EngineProcessError(RuntimeError):
    """A step failed in an engine's process, or the process could not start; the message names the device."""


@dataclass(eq=False)
class _Call:
    """A request under way: where, and which passes are to come. `has_moved`: its first process died."""

    request: Request
    images: tuple[str, ...]
    open: set[int]
    process: EngineProcess
    has_moved: bool = False


class ParallelEngine:
    """An engine (see `EngineLike`) for each of `specs`, in a process of its own. Not for use by several threads at once.

    `processes` are in the order of the specifications, dead ones too. When one dies, its requests move to the others, each request
    once; one whose second process dies, too, may be the reason and comes back failed, as does everything once no process is left.
    Raises InvalidInputError as an engine in this process would.
    """

    def __init__(self, specs: Sequence[EngineSpec], command: Sequence[str] = COMMAND) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._calls: dict[int, _Call] = {}
        self._next_id = 0
        self._ready: list[tuple[int, Completion]] = []
        self._stumbled: list[tuple[str, Stumbled]] = []
        self._last_words = "the engine is closed"
        self._identity: dict[str, str] = {}
        self.processes: list[EngineProcess] = []
        self._end = weakref.finalize(self, _close_all, self.processes)  # also at the interpreter's end, and without close()
        threads = share_of_cores(sum(len(spec.device.split(DEVICE_JOINT)) for spec in specs))
        try:
            for number, spec in enumerate(specs):
                label = f"{spec.device} (process {number + 1} of {len(specs)})"
                self.processes.append(EngineProcess(number, label, self._events, threads=threads, command=command))
                self.processes[-1].send(Start(spec))
            self._identity = self._await_identity()
        except BaseException:
            self.close()
            raise

    # The engine's methods.

    def identity(self) -> dict[str, str]:
        """The same hashes in every process."""
        return dict(self._identity)

    def add(self, request: Request) -> int:
        """Send a request where its images are, or to the process with the least to do."""
        job = self._next_id
        self._next_id += 1
        passes = set(range(request.first_pass, request.first_pass + request.num_passes))
        if self._alive:
            self._send(job, request, passes)
        else:
            self._fail(job, passes, f"no engine's process is left; the last one: {self._last_words}")
        return job

    def step(self) -> list[tuple[int, Completion]]:
        """The passes that ended since the last step; waits a little for the first. Raises EngineProcessError when a step failed in
        a process, after the passes that ended before are delivered."""
        self._hear(0.0 if self._ready or self._stumbled else STEP_S)
        if self._ready:
            ready, self._ready = self._ready, []
            return ready
        stumbled, self._stumbled = self._stumbled, []
        for label, said in stumbled:
            if any(job in self._calls for job in said.jobs):  # else nobody waits for them any more, and who does is not to blame
                raise EngineProcessError(f"{label}: {said.message}")
        return []

    def cancel(self, job_id: int, /) -> None:
        """Forget a request. One that is unknown or finished is ignored."""
        call = self._calls.pop(job_id, None)
        if call is not None:
            call.process.num_passes -= len(call.open)
            call.process.send(Cancel(job_id))
            call.process.forget(call.images)

    @property
    def stats(self) -> EngineStats:
        """The processes' counters together, as each last told: at most some tenths of a second old, exact when nothing is under way.
        What a process did before it died counts, too."""
        return sum((process.stats for process in self.processes), EngineStats())

    # Life.

    def sleep(self) -> None:
        """Every process gives its model's memory back; comes back when all have."""
        for process in self._alive:
            process.send(Sleep())
        self._await(Asleep)

    def wake(self) -> None:
        """Every process has its model again."""
        for process in self._alive:
            process.send(Wake())
        self._identity = self._await_identity() or self._identity

    def close(self) -> None:
        """End all processes."""
        self._end()

    # Inside.

    @property
    def _alive(self) -> list[EngineProcess]:
        return [process for process in self.processes if process.is_alive]

    def _send(self, job: int, request: Request, passes: set[int], *, has_moved: bool = False) -> None:
        ask = Ask.of(job, request)
        data = encode(ask)  # what cannot be sent is refused before anything is counted
        process = choose(self._alive, ask.images)
        fresh = process.admit(ask.images, len(passes))
        pictures = {image.digest: image for image in request.images}
        self._calls[job] = _Call(request, ask.images, passes, process, has_moved)
        process.send(*(Picture(pictures[digest]) for digest in fresh), data)

    def _fail(self, job: int, passes: set[int], message: str) -> None:
        failed = (Completion(index, "", FinishReason.FAILED, status=Status.ERROR, message=message) for index in sorted(passes))
        self._ready.extend((job, completion) for completion in failed)

    def _hear(self, timeout_s: float) -> None:
        """Take in all that was said; wait for the first word."""
        try:
            event = self._events.get(timeout=timeout_s) if timeout_s else self._events.get_nowait()
            while True:
                self._take(*event)
                event = self._events.get_nowait()
        except queue.Empty:
            pass

    def _take(self, number: int, said: FromEngine | str) -> None:
        process = self.processes[number]
        if isinstance(said, Answers):
            process.stats = said.stats or process.stats
            for job, completion in said.passes:
                self._deliver(process, job, completion)
        elif isinstance(said, Stumbled):
            self._stumbled.append((process.label, said))
        elif isinstance(said, Lost):
            process.last_words = said.message
        elif isinstance(said, str) and process.is_alive:
            self._move_calls(process, process.bury(said))

    def _deliver(self, process: EngineProcess, job: int, completion: Completion) -> None:
        call = self._calls.get(job)
        if call is None or call.process is not process or completion.pass_index not in call.open:
            return  # cancelled
        call.open.discard(completion.pass_index)
        process.num_passes -= 1
        if not call.open:
            del self._calls[job]
            process.forget(call.images)
        self._ready.append((job, completion))

    def _move_calls(self, dead: EngineProcess, last_words: str) -> None:
        self._last_words = last_words
        lost = {job: call for job, call in self._calls.items() if call.process is dead}
        _log.warning("%s; %d requests were under way there, %d processes are left", last_words, len(lost), len(self._alive))
        for job, call in lost.items():
            del self._calls[job]
            if call.has_moved or not self._alive:
                self._fail(job, call.open, f"{last_words}, the second that had this request" if call.has_moved else last_words)
            else:
                self._send(job, call.request, call.open, has_moved=True)

    def _await_identity(self) -> dict[str, str]:
        """What every process runs; empty if none is left. Raises for what one refused, and if two differ."""
        answers = self._await(Ready)
        found = {process: said.identity for process in self._alive if isinstance(said := answers[process], Ready)}
        first = next(iter(found), None)
        for process, identity in found.items():
            if first is not None and identity != found[first]:
                names = ", ".join(name for name in identity if identity[name] != found[first].get(name))
                raise InvalidInputError("devices", f"{first.label} and {process.label} would give different scores: {names} differ")
        return found[first] if first is not None else {}

    def _await(self, kind: type[Ready | Asleep]) -> dict[EngineProcess, FromEngine]:
        """The answer of every process that lives. One that dies before the engine was ever ready ends the wait with an error."""
        answers: dict[EngineProcess, FromEngine] = {}
        while any(process not in answers for process in self._alive):
            number, said = self._events.get()
            process = self.processes[number]
            if isinstance(said, Refused):
                raise InvalidInputError(said.field, said.message) if said.field else EngineProcessError(f"{process.label}: {said.message}")
            if isinstance(said, str) and not self._identity:
                raise EngineProcessError(process.bury(said))
            if isinstance(said, kind):
                answers[process] = said
            self._take(number, said)
        return answers


class ParallelScorer(LocalScorer):
    """A `LocalScorer` whose engine is spread over processes: `close` ends them, and `max_active` counts for each."""

    def __init__(
        self, engine: ParallelEngine, judge: Judge, *, cache: ResultCache | None = None, seed: int = 42, max_active: int = MAX_ACTIVE
    ) -> None:
        super().__init__(engine, judge, cache=cache, seed=seed, max_active=max_active * len(engine.processes))
        self._spread = engine

    @property
    def processes(self) -> list[EngineProcess]:
        """The engines' processes in the order of the devices; `is_alive` says which are left."""
        return self._spread.processes

    def close(self) -> None:
        """Finish what was submitted and end the processes; interrupted, end them at once."""
        try:
            super().close()
        finally:
            self._spread.close()


def _close_all(processes: Sequence[EngineProcess]) -> None:
    for process in processes:
        process.hang_up()
    for process in processes:
        process.close()
