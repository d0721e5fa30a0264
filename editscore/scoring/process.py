"""An engine process as its parent sees it: started fresh (torch and OpenMP threads do not survive a fork), fed and heard over pipes."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from editscore.scoring.routing import Place
from editscore.scoring.wire import FROM_ENGINE, Forget, FromEngine, ToEngine, WireError, encode, read
from editscore.types import EngineStats

# -P: a file in the current folder must not stand in for a module of the same name.
COMMAND = (sys.executable, "-P", "-m", "editscore.scoring.worker")
_PATIENCE_S = 5.0

# (number of the process, what it says); what it says is a text when it ended or speaks nonsense.
Event = tuple[int, FromEngine | str]


class EngineProcess(Place):
    """One child. What it says comes into `events`, read by a thread, so that the child never waits for this side to listen."""

    def __init__(
        self, number: int, label: str, events: queue.SimpleQueue[Event], *, threads: int, command: Sequence[str] = COMMAND
    ) -> None:
        super().__init__()
        self.label = label
        self.is_alive = True
        self.stats = EngineStats()  # as the child last told
        self.last_words = ""
        with _interrupts_blocked():
            self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment(threads))
        assert self._child.stdin is not None and self._child.stdout is not None
        self._stdin: BinaryIO = self._child.stdin  # type: ignore[assignment]
        # The thread holds no reference to this object, and as a daemon it does not keep the interpreter from ending.
        self._listener = threading.Thread(target=_listen, args=(number, self._child.stdout, events), name=f"editscore-{label}", daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    def send(self, *records: ToEngine | bytearray) -> None:
        """Write records, encoded ones as they are. To a child that is gone they are lost: that it is gone comes as an event."""
        with contextlib.suppress(BrokenPipeError):
            for record in records:
                self._stdin.write(record if isinstance(record, bytearray) else encode(record))
            self._stdin.flush()

    def forget(self, images: Sequence[str]) -> None:
        """A request left; let go of the images that only it showed."""
        if gone := self.release(images):
            self.send(Forget(tuple(gone)))

    def bury(self, said: str) -> str:
        """The child is lost; how it ended, in words. `said` is what it said last that was no record."""
        self.close()
        if self.last_words:
            return f"{self.label}: {self.last_words}"
        if said:
            return f"{self.label}: the engine's process sent something else than records: {said}"
        code = self._child.returncode
        how = f"by signal {-code} ({_signal_name(-code)})" if code < 0 else f"with exit code {code}"
        return f"{self.label}: the engine's process ended {how}"

    def hang_up(self) -> None:
        """Close the child's pipe: it exits, whatever it is at."""
        self.is_alive = False
        with contextlib.suppress(OSError):
            self._stdin.close()

    def close(self) -> None:
        """End the child; one that does not exit by itself is killed."""
        self.hang_up()
        try:
            self._child.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._listener.join(_PATIENCE_S)


def share_of_cores(num_processes: int) -> int:
    """Threads for each of several processes on this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // num_processes)


def _environment(threads: int) -> dict[str, str]:
    """This process's environment and module path. A number of threads that the user set stays."""
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return {"OMP_NUM_THREADS": str(threads), **os.environ, "PYTHONPATH": path}


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """A child inherits the signal mask. Ctrl-C goes to the whole group of a terminal; only the parent acts on it, and ends its children."""
    if not hasattr(signal, "pthread_sigmask"):  # pragma: no cover - Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _listen(number: int, stream: BinaryIO, events: queue.SimpleQueue[Event]) -> None:
    said = ""
    with stream:
        try:
            while (record := read(stream, FROM_ENGINE)) is not None:
                events.put((number, record))
        except WireError as error:
            said = str(error)
        except (EOFError, OSError):
            pass  # killed in the middle of a word
    events.put((number, said))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
