"""One model over several devices as one engine: the first rank in this process, every other in a process that it starts.

The ranks go in step. Each request, cancellation and step that this rank takes is written to the others, which do nothing on their own, and
engines are deterministic, so all of them compute the same batches and draw the same tokens. That they do is checked: before every call of
the model (`Ranks.agree`), and after every step, whose outcome is given out only when every rank has come to the same.

A rank that dies, falls behind or comes to something else is the end of all of them: this process says why and exits, and with it the
others, whose pipes it holds. To its parent that is one engine's process that died.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, TypeVar, cast

from msgspec.structs import replace

from editscore.scoring.engines import DEVICE_JOINT, EngineSpec, check_device
from editscore.scoring.process import EngineProcess, Event, share_of_cores
from editscore.scoring.wire import Ask, Cancel, Join, Picture, Ready, Refused, Sleep, Start, Step, Stepped, Wake, encode, outcome
from editscore.types import Completion, EngineStats, InvalidInputError, Request

if TYPE_CHECKING:
    from editscore.engine import Engine
    from editscore.models.vlm import Ranks, SplitModel

COMMAND = (sys.executable, "-P", "-m", "editscore.scoring.follower")
# When one rank has finished a step, the others are at its end, too.
PATIENCE_S = 20.0

Result = TypeVar("Result")


@dataclass
class _Call:
    """A request under way: its images, and how many passes are to come."""

    images: tuple[str, ...]
    num_open: int


class LeadingEngine:
    """An engine (see `EngineLike`) over the devices that `spec.device` joins. `make_engine` opens the share of the first.

    Raises InvalidInputError as an engine on one device does, for devices that cannot share the model, and when the ranks would not compute
    the same.
    """

    def __init__(self, spec: EngineSpec, make_engine: Callable[[EngineSpec], Engine], command: Sequence[str] = COMMAND) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._stepped: queue.SimpleQueue[tuple[EngineProcess, str]] = queue.SimpleQueue()
        self._followers: list[EngineProcess] = []
        self._calls: dict[int, _Call] = {}
        self._lose: Callable[[str], NoReturn] = _raise
        self._is_closed = False
        self._watcher: threading.Thread | None = None
        try:
            first, *others = shares = _shares(spec)
            for number, share in enumerate(others):  # before the checks, so that they import their libraries beside this process
                label = f"{share.device} (rank {share.rank} of {share.num_ranks})"
                threads = share_of_cores(len(shares))
                self._followers.append(EngineProcess(number, label, self._events, threads=threads, command=command))
            _check(spec, shares)
            for process, share in zip(self._followers, others, strict=True):
                process.send(Start(share))
            self._engine = make_engine(first)
            self._await_ready()
            self._join()
        except BaseException:
            self.close()
            raise

    # The engine's methods.

    def identity(self) -> Mapping[str, str]:
        """The same hashes on every rank."""
        return self._engine.identity()

    def add(self, request: Request) -> int:
        """Take a request on every rank."""
        job = self._engine.add(request)
        ask = Ask.of(job, request)
        data = encode(ask)
        pictures = {image.digest: image for image in request.images}
        for process in self._followers:
            process.send(*(Picture(pictures[digest]) for digest in process.admit(ask.images, 0)), data)
        self._calls[job] = _Call(ask.images, request.num_passes)
        return job

    def step(self) -> list[tuple[int, Completion]]:
        """A step on every rank. What it raises on all of them alike is raised here; anything else ends the process."""
        delivered = self._in_step(Step(), self._engine.step)
        self._settle(delivered)
        return delivered

    def cancel(self, job_id: int, /) -> None:
        """Forget a request on every rank."""
        self._engine.cancel(job_id)
        for process in self._followers:
            process.send(Cancel(job_id))

    @property
    def stats(self) -> EngineStats:
        """This rank's counters; those of the others are the same."""
        return self._engine.stats

    # Life.

    def sleep(self) -> None:
        """Every rank moves its weights to the host; comes back when all have."""
        self._in_step(Sleep(), self._engine.sleep)

    def wake(self) -> None:
        """Every rank moves them back."""
        self._in_step(Wake(), self._engine.wake)

    def watch(self, lose: Callable[[str], NoReturn]) -> None:
        """From now on call `lose`, which ends the process, when a rank is lost; before, an error is raised."""
        self._lose = lose
        self._watcher = threading.Thread(target=self._watch, name="editscore-ranks", daemon=True)
        self._watcher.start()

    def hang_up(self) -> None:
        """End the other ranks' processes. From any thread, also during a step."""
        self._is_closed = True
        for process in self._followers:
            process.hang_up()
        for process in self._followers:
            process.close()

    def close(self) -> None:
        """End the other ranks' processes and leave the group."""
        self.hang_up()
        if self._watcher is not None:
            self._watcher.join(PATIENCE_S)  # it holds this engine
        if hasattr(self, "_engine"):
            ranks_of(self._engine).leave()

    # Inside.

    def _in_step(self, record: Step | Sleep | Wake, act: Callable[[], Result]) -> Result:
        """The others are told, this rank acts, and all must come to the same."""
        for process in self._followers:
            process.send(record)
        result, error, mine = outcome(act)
        for _ in self._followers:
            try:
                process, theirs = self._stepped.get(timeout=PATIENCE_S)
            except queue.Empty:
                self._lose(
                    f"{PATIENCE_S:g} s after the first rank another is still in a step, which ended here with {_ending(error, mine)}"
                )
            if theirs != mine:
                self._lose(f"{process.label}: a step ended with {theirs:.40}, on the first rank with {_ending(error, mine)}")
        if error is not None:
            self._raise(error)
        return cast(Result, result)

    def _watch(self) -> None:
        """Take in what the other ranks say. One that finished a step waits for this one no longer than the other way round."""
        while True:
            try:
                number, said = self._events.get(timeout=PATIENCE_S if self._stepped.qsize() else None)
            except queue.Empty:
                if self._stepped.qsize():
                    process, theirs = self._stepped.get()
                    self._lose(f"{process.label}: a step ended with {theirs:.40}, and on the first rank not at all")
                continue
            if self._is_closed:
                return
            process = self._followers[number]
            if isinstance(said, Stepped):
                self._stepped.put((process, said.outcome))
            else:
                self._lose(process.bury(said if isinstance(said, str) else f"{said!r:.80}"))

    def _await_ready(self) -> None:
        """Wait until every other rank has its share of the model, or is connected."""
        waiting = set(self._followers)
        while waiting:
            number, said = self._events.get()
            process = self._followers[number]
            if isinstance(said, Refused):
                raise InvalidInputError(said.field, said.message) if said.field else RuntimeError(f"{process.label}: {said.message}")
            if not isinstance(said, Ready):
                raise RuntimeError(process.bury(said if isinstance(said, str) else f"{said!r:.80}"))
            if said.identity != self.identity():
                raise InvalidInputError("devices", f"{process.label} would compute something else than the first rank")
            waiting.discard(process)

    def _join(self) -> None:
        ranks = ranks_of(self._engine)
        port = ranks.listen()
        for process in self._followers:
            process.send(Join(port))
        ranks.join(port, self._engine.model.device)
        self._await_ready()

    def _raise(self, error: Exception) -> NoReturn:
        """What every rank raised; that they lost each other is the end."""
        from editscore.models.vlm import RanksError

        if isinstance(error, RanksError):
            self._lose(str(error))
        raise error

    def _settle(self, delivered: Sequence[tuple[int, Completion]]) -> None:
        """Let go of the images of requests that are done."""
        for job, _ in delivered:
            call = self._calls[job]
            call.num_open -= 1
            if not call.num_open:
                del self._calls[job]
                for process in self._followers:
                    process.forget(call.images)


def _shares(spec: EngineSpec) -> list[EngineSpec]:
    devices = spec.device.split(DEVICE_JOINT)
    return [replace(spec, device=device, rank=rank, num_ranks=len(devices)) for rank, device in enumerate(devices)]


def _check(spec: EngineSpec, shares: Sequence[EngineSpec]) -> None:
    from editscore.models.vlm import read_sizes, why_not_split

    for share in shares:
        check_device(share.device)
    sizes = read_sizes(spec.model, adapter=spec.adapter, device=shares[0].device, dtype=spec.dtype)
    if reason := why_not_split(sizes, len(shares)):
        raise InvalidInputError("devices", f"{spec.device}: {reason}")


def ranks_of(engine: Engine) -> Ranks:
    """The ranks that an engine's model is split over."""
    return cast("SplitModel", engine.model).ranks


def _ending(error: Exception | None, outcome: str) -> str:
    return f"{outcome:.40}" if error is None else f"{type(error).__name__}: {error}"


def _raise(message: str) -> NoReturn:
    raise RuntimeError(message)
