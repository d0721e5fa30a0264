"""The progress bar of a terminal: count, time left, and what the engine computed so far."""

from __future__ import annotations

from datetime import timedelta
from math import ceil
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task
from rich.table import Column
from rich.text import Text

from editscore.cli.progress import ReadStats
from editscore.types import Score, ScorerStats, Status

# A terminal with fewer columns shows no counters.
NOTE_WIDTH = 78


class BarProgress:
    """A rich progress bar. A thread of rich draws it some times a second and reads the scorer's counters when it does."""

    def __init__(self, total: int, done: int, failed: int, read_stats: ReadStats) -> None:
        console = Console(stderr=True)
        note = _Note(read_stats if console.width >= NOTE_WIDTH else ScorerStats)
        columns = (MofNCompleteColumn(), BarColumn(bar_width=None), _Clock(), note)
        self._bar = Progress(*columns, console=console, expand=True)
        self._failed = failed
        self._task = self._bar.add_task("scoring", total=total, completed=done, failed=failed)

    def advance(self, score: Score) -> None:
        """Count one sample."""
        self._failed += score.status is not Status.OK
        self._bar.update(self._task, advance=1, failed=self._failed)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()


class _Clock(ProgressColumn):
    """`0:01:23 left`; before that can be told `0:00:12 so far`, and at the end the time that the run took."""

    def __init__(self) -> None:
        super().__init__(Column(no_wrap=True))

    def render(self, task: Task) -> Text:
        left = task.time_remaining
        if left is not None and not task.finished:
            return Text(f"{timedelta(seconds=ceil(left))} left", style="progress.remaining")
        spent = timedelta(seconds=int(task.finished_time or task.elapsed or 0.0))
        return Text(f"{spent}" if task.finished else f"{spent} so far", style="progress.elapsed")


class _Note(ProgressColumn):
    """`3 failed, 28 images, 5.0k prompt, 12.3k generated tokens`, which leaves some 15 of 80 columns to the bar."""

    def __init__(self, read_stats: ReadStats) -> None:
        super().__init__(Column(no_wrap=True))
        self._read_stats = read_stats

    def render(self, task: Task) -> Text:
        failed = [f"{task.fields['failed']} failed"] if task.fields["failed"] else []
        return Text(", ".join([*failed, *_work(self._read_stats())]))


def _work(stats: ScorerStats) -> list[str]:
    images, prompt, generated = stats.num_encoded_images, stats.num_prefilled_tokens, stats.num_sampled_tokens
    encoded = [f"{_short(images)} images"] if images else []
    return [*encoded, *([f"{_short(prompt)} prompt", f"{_short(generated)} generated tokens"] if prompt else [])]


def _short(number: int) -> str:
    """At most five characters up to a billion: 999, 12.3k, 4.5M."""
    if number < 1000:
        return str(number)
    return f"{number / 1e3:.1f}k" if number < 999_950 else f"{number / 1e6:.1f}M"
