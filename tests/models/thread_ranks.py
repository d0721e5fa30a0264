"""Ranks in the threads of one process: what each of them brings lies on a table until all have taken it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from editscore.models.vlm import Ranks, VisionLanguageModel, load_model

Result = TypeVar("Result")
# transformers changes torch's default dtype and its own functions while it loads, for all threads.
_LOADING = threading.Lock()


class Table:
    """Where the ranks meet."""

    def __init__(self, num_ranks: int) -> None:
        self.barrier = threading.Barrier(num_ranks, timeout=30)
        self.parts: list[Tensor | None] = [None] * num_ranks


class ThreadRanks(Ranks):
    """One of them."""

    def __init__(self, rank: int, table: Table) -> None:
        super().__init__(rank, len(table.parts))
        self.table = table

    def gather(self, x: Tensor) -> list[Tensor]:
        self.table.parts[self.rank] = x
        self.table.barrier.wait()
        parts = [part for part in self.table.parts if part is not None]
        self.table.barrier.wait()
        return parts


def on_ranks(num_ranks: int, work: Callable[[ThreadRanks], Result]) -> list[Result]:
    """The results of `work` on every rank, at the same time; what one raises is raised here."""
    table = Table(num_ranks)

    def one(rank: int) -> Result:
        try:
            return work(ThreadRanks(rank, table))
        except BaseException:
            table.barrier.abort()
            raise

    with ThreadPoolExecutor(num_ranks) as threads:
        futures = [threads.submit(one, rank) for rank in range(num_ranks)]
    errors = [error for future in futures if (error := future.exception()) is not None]
    if errors:
        raise next((error for error in errors if not isinstance(error, threading.BrokenBarrierError)), errors[0])
    return [future.result() for future in futures]


def load_share(folder: Path, ranks: Ranks | None, dtype: str | None = None) -> VisionLanguageModel:
    """`load_model`, one thread at a time."""
    with _LOADING:
        return load_model(folder, ranks=ranks, dtype=dtype)
