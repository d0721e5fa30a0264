"""Progress of a long command on stderr: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from editscore.types import Score, ScorerStats, Status

LINE_SECONDS = 10.0

ReadStats = Callable[[], ScorerStats]


class Progress(Protocol):
    """Counts samples as they finish."""

    def advance(self, score: Score) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def open_progress(total: int, *, done: int = 0, failed: int = 0, read_stats: ReadStats, is_shown: bool = True) -> Progress:
    """A bar when stderr is a terminal, else lines; unless `is_shown`, nothing. `failed` of the `done` samples have no score."""
    if not is_shown:
        return NoProgress()
    if not sys.stderr.isatty():
        return LineProgress(total, done, failed, read_stats)
    from editscore.cli.bar import BarProgress

    return BarProgress(total, done, failed, read_stats)


class NoProgress:
    """Says nothing."""

    def advance(self, score: Score) -> None:
        """Count one sample."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None


class LineProgress:
    """`120/200 done, 3 failed, 41.2 a second (tokens: 2,310 prompt, 830 generated)`, at most one line in `LINE_SECONDS`."""

    def __init__(self, total: int, done: int, failed: int, read_stats: ReadStats) -> None:
        self._total, self._done, self._before = total, done, done
        self._failed = failed
        self._read_stats = read_stats
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
        seconds = max(self._spoke - self._started, 1e-9)
        failed = f", {self._failed} failed" if self._failed else ""
        rate = f"{(self._done - self._before) / seconds:.1f} a second"
        print(f"{self._done}/{self._total} done{failed}, {rate}{self._tokens(seconds)}", file=sys.stderr, flush=True)

    def _tokens(self, seconds: float) -> str:
        stats = self._read_stats()
        if not stats.num_sampled_tokens:
            return ""
        read, written = stats.num_prefilled_tokens / seconds, stats.num_sampled_tokens / seconds
        return f" (tokens: {read:,.0f} prompt, {written:,.0f} generated)"
