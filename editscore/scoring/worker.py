"""An engine in a process of its own: `python -m editscore.scoring.worker`, started by `ParallelEngine`, never by hand.

Records (`wire`) come in on stdin and go out on stdout. The process ends as soon as stdin does: when its parent closes it, and when the
parent is gone, however it went.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from editscore.scoring.engines import DEVICE_JOINT, EngineSpec, check_device, open_engine
from editscore.scoring.leader import LeadingEngine
from editscore.scoring.protocol import EngineLike, GroupEngine
from editscore.scoring.reloadable import ReloadableEngine
from editscore.scoring.wire import (
    TO_ENGINE,
    Answers,
    Ask,
    Asleep,
    Cancel,
    Forget,
    FromEngine,
    Lost,
    Picture,
    Ready,
    Refused,
    Sleep,
    Start,
    Stumbled,
    ToEngine,
    WireError,
    encode,
    read,
)
from editscore.types import Completion, FinishReason, Image, InvalidInputError, Status

if TYPE_CHECKING:
    from editscore.engine import Engine

# How often a busy engine's counters are sent.
STATS_S = 0.2

MakeEngine = Callable[[EngineSpec], EngineLike]

_log = logging.getLogger(__name__)


@dataclass
class _Job:
    """A request in the engine: the parent's number for it, and how many passes are to come."""

    number: int
    num_open: int


class Worker:
    """Does what the records say, in the order in which they come."""

    def __init__(self, sink: BinaryIO, make_engine: MakeEngine) -> None:
        self._sink = sink
        self._make_engine = make_engine
        self._spec = EngineSpec("")
        self._engine: ReloadableEngine | None = None
        self._images: dict[str, Image] = {}
        self._jobs: dict[int, _Job] = {}  # by the engine's number
        self._counted_at = 0.0
        self._speaking = threading.Lock()

    @property
    def is_busy(self) -> bool:
        """Whether `step` has something to do."""
        return bool(self._jobs)

    def take(self, record: ToEngine) -> None:
        """Do what a record says."""
        match record:
            case Ask():
                self._ask(record)
            case Picture(image):
                self._images[image.digest] = image
            case Forget(images):
                for digest in images:
                    self._images.pop(digest, None)
            case Cancel(number):
                self._cancel([engine_id for engine_id, job in self._jobs.items() if job.number == number])
            case Sleep():
                self._sleep()
            case Start(spec):
                self._spec = spec
                self._wake()
            case _:
                self._wake()

    def step(self) -> None:
        """A step of the engine; what ended goes to the parent."""
        assert self._engine is not None
        try:
            delivered = self._engine.step()
        except Exception as error:
            _log.exception("a step of the engine failed")
            dropped = tuple(job.number for job in self._jobs.values())
            self._cancel(list(self._jobs))
            self._say(Stumbled(_words(error), dropped))
            self._check_context()
            return
        passes = [(self._jobs[engine_id].number, completion) for engine_id, completion in delivered if engine_id in self._jobs]
        for engine_id, _ in delivered:
            if (job := self._jobs.get(engine_id)) is not None:
                job.num_open -= 1
                if not job.num_open:
                    del self._jobs[engine_id]
        is_due = not self._jobs or time.monotonic() - self._counted_at >= STATS_S
        if is_due:
            self._counted_at = time.monotonic()
        if passes or is_due:
            self._say(Answers(tuple(passes), self._engine.stats if is_due else None))

    def lose(self, message: str) -> NoReturn:
        """The engine cannot go on: last words, and the end of the process. From any thread."""
        try:
            self._say(Lost(message))
            self.hang_up()
        finally:
            os._exit(1)

    def hang_up(self) -> None:
        """End the processes that the engine started. From any thread."""
        if self._engine is not None and isinstance(self._engine.engine, GroupEngine):
            self._engine.engine.hang_up()

    def _ask(self, ask: Ask) -> None:
        request = ask.restored(self._images)
        try:
            if self._engine is None:
                raise RuntimeError("the engine could not be made")
            self._jobs[self._engine.add(request)] = _Job(ask.job, request.num_passes)
        except Exception as error:
            _log.exception("the engine refused a request")
            passes = range(request.first_pass, request.first_pass + request.num_passes)
            lost = [Completion(index, "", FinishReason.FAILED, status=Status.ERROR, message=_words(error)) for index in passes]
            self._say(Answers(tuple((ask.job, completion) for completion in lost)))

    def _cancel(self, engine_ids: list[int]) -> None:
        for engine_id in engine_ids:
            del self._jobs[engine_id]
            if self._engine is not None:
                self._engine.cancel(engine_id)

    def _wake(self) -> None:
        try:
            if self._engine is None:
                self._engine = ReloadableEngine(self._make, offloads=self._spec.offloads)
            else:
                self._engine.wake()
            self._say(Ready(dict(self._engine.identity())))
        except InvalidInputError as error:
            self._say(Refused(error.field, str(error).removeprefix(f"{error.field}: ")))
        except Exception as error:
            _log.exception("the engine could not be made")
            self._say(Refused("", _words(error)))

    def _make(self) -> EngineLike:
        engine = self._make_engine(self._spec)
        if isinstance(engine, GroupEngine):
            engine.watch(self.lose)
        return engine

    def _sleep(self) -> None:
        self._jobs.clear()
        if self._engine is not None:
            self._engine.sleep()
        self._say(Asleep())

    def _check_context(self) -> None:
        """An error that spoils a CUDA context does so for good: it is raised again here, and the process ends. Never run on a GPU."""
        if self._spec.offloads:
            import torch

            torch.cuda.synchronize(self._spec.device.partition(DEVICE_JOINT)[0])

    def _say(self, record: FromEngine) -> None:
        with self._speaking:
            self._sink.write(encode(record))
            self._sink.flush()


def open_own_engine(spec: EngineSpec) -> EngineLike:
    """The engine of a process that has its device for itself: kernels go to the current device, so it becomes that.

    Over several devices this is the process of the first of them, which starts the others'.
    """
    if DEVICE_JOINT in spec.device:
        return LeadingEngine(spec, _open_on_one)
    return _open_on_one(spec)


def _open_on_one(spec: EngineSpec) -> Engine:
    check_device(spec.device)
    if spec.device.startswith("cuda"):
        import torch

        torch.cuda.set_device(torch.device(spec.device).index or 0)
    return open_engine(spec)


def serve(source: BinaryIO, sink: BinaryIO, make_engine: MakeEngine = open_own_engine) -> None:
    """Work until `source` ends, which ends the process."""
    inbox: queue.SimpleQueue[ToEngine] = queue.SimpleQueue()
    worker = Worker(sink, make_engine)
    threading.Thread(target=listen, args=(source, inbox, worker.hang_up), name="editscore-listener", daemon=True).start()
    try:
        while True:
            while not worker.is_busy or not inbox.empty():
                worker.take(inbox.get())
            worker.step()
    except BrokenPipeError:
        os._exit(0)  # the parent is gone


def listen(source: BinaryIO, inbox: queue.SimpleQueue[ToEngine], at_end: Callable[[], None] = lambda: None) -> None:
    """Read ahead, so that the parent never waits for a step to end, and hash images beside the engine's work. The end of `source` ends the
    process, after a call of `at_end`."""
    code = 1
    try:
        while (record := read(source, TO_ENGINE)) is not None:
            if isinstance(record, Picture):
                _ = record.image.digest
            inbox.put(record)
        code = 0
    except EOFError:
        code = 0
    except WireError:
        _log.exception("the parent sent something else than records")
    finally:
        with contextlib.suppress(Exception):
            at_end()
        os._exit(code)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def own_streams() -> tuple[BinaryIO, BinaryIO]:
    """stdin and stdout, out of the way of libraries: what they print goes to stderr from now on, what they read is empty."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    return source, sink


def main() -> None:
    """The process's whole life."""
    streams = own_streams()
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # several bars would write over each other
    serve(*streams)


if __name__ == "__main__":
    main()
