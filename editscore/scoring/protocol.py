"""What a scorer is, and what it needs of an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, NoReturn, Protocol, Self, runtime_checkable

from editscore.types import Completion, EditSample, EngineStats, Identity, InvalidInputError, Request, Score, ScorerStats


class Scorer(Protocol):
    """Scores edits. The only thing that benchmarks, curation, servers, rewards and the command line call.

    A sample that fails gives a `Score` with a status that says so; scoring itself raises only for wrong arguments.
    """

    def score(self, samples: Sequence[EditSample], passes: int = 4, seed: int | None = None) -> list[Score]:
        """The scores in the order of the samples."""
        ...

    def score_iter(self, samples: Iterable[EditSample], passes: int = 4, seed: int | None = None) -> Iterator[tuple[int, Score]]:
        """(place of the sample, score) in the order in which they finish."""
        ...

    def submit(self, sample: EditSample, passes: int = 4, seed: int | None = None) -> Future[Score]:
        """Start on one sample and come back at once."""
        ...

    def identity(self) -> Identity:
        """Hashes of all that decides a score besides the sample, the number of passes and the seed."""
        ...

    def stats(self) -> ScorerStats:
        """What was computed since the scorer was made, and where the time went. Any thread may ask at any time."""
        ...

    def sleep(self) -> None:
        """Give back the memory that can be given back, until `wake`."""
        ...

    def wake(self) -> None:
        """Be ready to score again."""
        ...

    def close(self) -> None:
        """Finish what was submitted and give everything back."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class EngineLike(Protocol):
    """The part of an engine that a scorer uses; `editscore.engine.Engine` is one.

    `step` delivers (id of the request, completion of one pass) pairs; a failure of one request is a completion that says so.
    `stats` may be read by another thread during a step; it goes on counting across `sleep`, before which all requests are finished.
    """

    def add(self, request: Request) -> int: ...

    def step(self) -> list[tuple[int, Completion]]: ...

    def cancel(self, job_id: int, /) -> object: ...

    def identity(self) -> Mapping[str, str]: ...

    @property
    def stats(self) -> EngineStats: ...

    def sleep(self) -> None: ...

    def wake(self) -> object: ...


@runtime_checkable
class TracingEngine(Protocol):
    """An engine that can keep every phase of its steps for a Chrome trace."""

    def record_trace(self) -> None: ...

    def trace(self) -> dict[str, Any]: ...


@runtime_checkable
class GroupEngine(Protocol):
    """An engine over several processes. From `watch` on it calls `lose`, which ends this process, when one of the others is lost.

    `hang_up` ends the others, from any thread; `close` does that and lets go of what they shared.
    """

    def watch(self, lose: Callable[[str], NoReturn]) -> None: ...

    def hang_up(self) -> None: ...

    def close(self) -> None: ...


def tracing(engine: object) -> TracingEngine:
    """The engine, if it keeps traces; else InvalidInputError."""
    if not isinstance(engine, TracingEngine):
        raise InvalidInputError("profile", "a trace is of an engine in this process, and there is none")
    return engine
