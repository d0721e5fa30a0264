"""Progress of a long command on stderr: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Protocol, Self

from editscore.types import Score, Status

LINE_SECONDS = 10.0


class Progress(Protocol):
    """Counts samples as they finish."""

    def advance(self, score: Score) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def open_progress(total: int, *, done: int = 0, failed: int = 0) -> Progress:
    """A bar when stderr is a terminal, else lines. `failed` of the `done` samples have no score."""
    return BarProgress(total, done, failed) if sys.stderr.isatty() else LineProgress(total, done, failed)


class LineProgress:
    """`120/200 done, 3 failed, 41.2 a second`, at most one line in `LINE_SECONDS`."""

    def __init__(self, total: int, done: int, failed: int) -> None:
        self._total, self._done, self._before = total, done, done
        self._failed = failed
        self._started = self._spoke = time.monotonic()

    def advance(self, score: Score) -> None:
        """Count one sample."""
        self._done += 1
        self._failed += score.status is not Status.OK
        if time.monotonic() - self._spoke >= LINE_SECONDS:
            self._speak()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._done > self._before:
            self._speak()

    def _speak(self) -> None:
        self._spoke = time.monotonic()
        rate = (self._done - self._before) / max(self._spoke - self._started, 1e-9)
        failed = f", {self._failed} failed" if self._failed else ""
        print(f"{self._done}/{self._total} done{failed}, {rate:.1f} a second", file=sys.stderr, flush=True)


class BarProgress:
    """A rich progress bar with count, failures, speed and the time that is left."""

    def __init__(self, total: int, done: int, failed: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
        self._bar = RichProgress(*columns, console=Console(stderr=True))
        self._failed = failed
        self._task = self._bar.add_task("scoring", total=total, completed=done, note=self._note())

    def advance(self, score: Score) -> None:
        """Count one sample."""
        self._failed += score.status is not Status.OK
        self._bar.update(self._task, advance=1, note=self._note())

    def _note(self) -> str:
        return f"{self._failed} failed" if self._failed else ""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()
