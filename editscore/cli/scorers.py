"""What the commands need of a scorer, and the one place that opens a real one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec

from editscore.types import EditSample, Identity, Score, ScorerStats


class ScorerOptions(msgspec.Struct, frozen=True):
    """What the command line says about the judge. None leaves the choice to the checkpoint or the machine."""

    model: str = "nano"
    adapter: str | None = None
    judge: str | None = None
    prompts: str | None = None
    device: str | None = None
    devices: tuple[str, ...] | None = None
    dtype: str | None = None
    memory_gb: float | None = None
    seed: int = 42
    use_cache: bool = True


class SampleScorer(Protocol):
    """The part of a scorer that the commands use."""

    def identity(self) -> Identity: ...

    def score_iter(self, samples: Iterable[EditSample], passes: int = 4) -> Iterator[tuple[int, Score]]: ...

    def stats(self) -> ScorerStats: ...

    def record_trace(self) -> None: ...

    def trace(self) -> dict[str, Any]: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


OpenScorer = Callable[[ScorerOptions], SampleScorer]


def open_scorer(options: ScorerOptions) -> SampleScorer:
    """Load the model and return its scorer. Raises InvalidInputError naming the option at fault."""
    from editscore.engine import EngineConfig
    from editscore.scoring import load

    if not sys.stderr.isatty():
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # in a log file a bar is noise

    return load(
        options.model,
        adapter=options.adapter,
        judge=options.judge,
        judge_settings=None if options.prompts is None else {"prompts": options.prompts},
        device=options.device,
        devices=options.devices,
        dtype=options.dtype,
        engine_config=EngineConfig(memory_gb=options.memory_gb),
        cache=options.use_cache,
        seed=options.seed,
    )
